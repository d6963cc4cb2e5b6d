/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What programs off the packet path share with userspace: how they find a peer's slot, what they count for
 * it. Slots are those of shared/traffic.h; slot 0 is nobody's.
 */
#ifndef PANGOLIN_BPF_SHARED_TUNNEL_H
#define PANGOLIN_BPF_SHARED_TUNNEL_H

#include "bpf/shared/address.h"
#include "bpf/shared/latency.h"

/* Key of `peer_addresses`, an LPM trie of the peers' allowed IPs; the value is the slot (__u32). The family
 * stands before the address, so that prefix lengths are 32 + 96 + 0..32 for IPv4 and 32 + 0..128 for IPv6. */
struct peer_address_key {
    __u32 prefix_length;
    __u32 is_v6;
    __u8 address[16]; /* network order, IPv4 as ::ffff:a.b.c.d */
};
PANGOLIN_STATIC_ASSERT(sizeof(struct peer_address_key) == 24, "no padding");

/* `peer_endpoints` is a hash of struct peer_endpoint to the slot (__u32). */

/* How an attempt to connect over TCP ended. */
enum tcp_result {
    TCP_RESULT_SUCCESS,     /* established, whoever began it */
    TCP_RESULT_REFUSED,     /* answered by a reset */
    TCP_RESULT_TIMEOUT,     /* never answered */
    TCP_RESULT_UNREACHABLE, /* no route, or an ICMP error said so */
    TCP_RESULT_ABORTED,     /* given up by the program on this host */
    TCP_RESULTS
};

/* Value of `tcp_counts`, a hash by slot (__u32). */
struct tcp_counts {
    __u64 connections[TCP_RESULTS];
    __u64 retransmits; /* segments sent again */
    struct latency_histogram rtt;
};

enum drop_place {
    DROP_IN_TUNNEL,    /* an inner packet, on its way to or from the WireGuard interface */
    DROP_IN_WIREGUARD, /* an inner packet, by the WireGuard module itself */
    DROP_IN_UNDERLAY,  /* an encrypted packet of the interface's UDP port */
    DROP_PLACES
};

/* Key of `drop_counts`; the value is a __u64 of packets. */
struct drop_key {
    __u32 slot;
    __u32 reason; /* enum skb_drop_reason of the running kernel; 0 where it has none */
    __u32 direction;
    __u32 place;
};
PANGOLIN_STATIC_ASSERT(sizeof(struct drop_key) == 16, "no padding");

#endif /* PANGOLIN_BPF_SHARED_TUNNEL_H */
