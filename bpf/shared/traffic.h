/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Everything that traffic.bpf.c and userspace share: the one definition of map values, table layout and
 * the hash that both sides compute.
 */
#ifndef PANGOLIN_BPF_SHARED_TRAFFIC_H
#define PANGOLIN_BPF_SHARED_TRAFFIC_H

#include <linux/types.h>

#ifdef __cplusplus
#define PANGOLIN_STATIC_ASSERT static_assert
#else
#define PANGOLIN_STATIC_ASSERT _Static_assert
#endif

/* Ingress: from the site to this host. Egress: from this host to the site. */
enum traffic_direction { TRAFFIC_INGRESS, TRAFFIC_EGRESS, TRAFFIC_DIRECTIONS };

/* By the IP header's protocol; every fragment of a datagram carries it. ICMP includes ICMPv6. */
enum traffic_protocol { TRAFFIC_TCP, TRAFFIC_UDP, TRAFFIC_ICMP, TRAFFIC_OTHER, TRAFFIC_PROTOCOLS };

/* Wire packets and their bytes, IP header included. */
struct traffic_count {
    __u64 packets;
    __u64 bytes;
};

/* What one slot (a peer) has seen. Two cache lines; one writer, the CPU that the element belongs to. */
struct traffic_counts {
    struct traffic_count count[TRAFFIC_DIRECTIONS][TRAFFIC_PROTOCOLS];
};
PANGOLIN_STATIC_ASSERT(sizeof(struct traffic_counts) == 128, "two cache lines");

/* Why a packet's remote address could not be read. */
enum traffic_undecodable {
    TRAFFIC_TRUNCATED,         /* shorter than its IP header */
    TRAFFIC_BAD_VERSION,       /* neither 4 nor 6 */
    TRAFFIC_BAD_HEADER_LENGTH, /* IPv4 IHL below 5 or beyond the packet */
    TRAFFIC_UNDECODABLE_REASONS
};

/* What was counted, but not exactly or not for the right peer. */
enum traffic_loss {
    TRAFFIC_LOSS_UNMATCHED_FULL, /* unmatched map full: counted under TRAFFIC_SLOT_UNMATCHED at once */
    TRAFFIC_LOSS_GSO_HEADER,     /* header of a super-packet unreadable: its segments' headers are missing */
    TRAFFIC_LOSS_COUNTER,        /* counter element missing: the packet is not counted */
    TRAFFIC_LOSS_REASONS
};

#endif /* PANGOLIN_BPF_SHARED_TRAFFIC_H */
