/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Everything that traffic.bpf.c and userspace share: the one definition of map values, table layout and
 * the hash that both sides compute.
 */
#ifndef PANGOLIN_BPF_SHARED_TRAFFIC_H
#define PANGOLIN_BPF_SHARED_TRAFFIC_H

#include "bpf/shared/address.h"

/* By the IP header's protocol; every fragment of a datagram carries it. ICMP includes ICMPv6. */
enum traffic_protocol { TRAFFIC_TCP, TRAFFIC_UDP, TRAFFIC_ICMP, TRAFFIC_OTHER, TRAFFIC_PROTOCOLS };

/* Masks in traffic.bpf.c keep array indexes in bounds for the verifier. */
PANGOLIN_STATIC_ASSERT(TRAFFIC_DIRECTIONS == 2 && TRAFFIC_PROTOCOLS == 4, "used as masks of 1 and 2 bits");

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
    TRAFFIC_LOSS_FRAGMENT,   /* fragment whose first one was not seen: counted for its peer, for no target */
    TRAFFIC_LOSS_FLOWS_FULL, /* packet of a UDP flow that found no room: its bytes are counted, its flow is
                                not */
    TRAFFIC_LOSS_REASONS
};

/*
 * Routes: which slot an inner remote address belongs to, equal to a longest-prefix match over the peers'
 * allowed IPs. Userspace compiles them into a set of two parts:
 *
 *   pools    ranges of IPv4 addresses that are dense with allowed IPs (Pangolin hands out site networks from
 *            one such range): an array indexed by address - base. The element is the final answer of the
 *            longest-prefix match, so nothing else is looked at for these addresses.
 *   entries  a hash table of prefixes for everything else, probed once for each prefix length in use, longest
 *            first. It is a cuckoo table: an entry is in one of two places, so that a probe is two loads.
 *
 * Two sets exist; the programs read the active one while userspace fills the other and then flips. A packet
 * sees the old allowed IPs or the new ones, never a mixture.
 */
enum {
    ROUTE_SETS = 2,
    ROUTE_POOLS = 4,
    ROUTE_V4_LENGTHS = 33,
    ROUTE_V6_LENGTHS = 129,
    ROUTE_POOL_BLOCK = 16,
};

/* Slots of the counters. 0 takes what matches no peer; peers begin at 1. */
enum { TRAFFIC_SLOT_UNMATCHED = 0, TRAFFIC_FIRST_PEER_SLOT = 1 };

/* Set in a slot of a published route set when some target is behind that peer: for the others' packets no
 * target is looked for. */
#define TRAFFIC_SLOT_HAS_TARGETS (1u << 31)

/* A remote address with its family, which a mapped IPv4 address in an IPv6 packet would otherwise hide. */
struct unmatched_key {
    struct route_address remote;
    __u64 is_v6;
};
PANGOLIN_STATIC_ASSERT(sizeof(struct unmatched_key) == 24, "no padding");

/* A prefix length in use. `tag` tells entries of different lengths and families apart; never 0. */
struct route_length {
    struct route_address mask;
    __u64 tag;
};

/* IPv4 addresses base .. base + size - 1; the first one's slot is at `offset` of the set's pool slots. */
struct route_pool {
    __u32 base;
    __u32 size;
    __u32 offset;
    __u32 reserved;
};

struct route_set {
    __u64 hash_seed;
    __u32 v4_lengths;
    __u32 v6_lengths;
    struct route_pool pool[ROUTE_POOLS];
    struct route_length v4[ROUTE_V4_LENGTHS];
    struct route_length v6[ROUTE_V6_LENGTHS];
};
PANGOLIN_STATIC_ASSERT(sizeof(struct route_pool) == 16, "no padding");
PANGOLIN_STATIC_ASSERT(sizeof(struct route_length) == 24, "no padding");
PANGOLIN_STATIC_ASSERT(sizeof(struct route_set) == 16 + 16 * ROUTE_POOLS + 24 * (33 + 129), "no padding");

/* An empty entry has tag 0. */
struct route_entry {
    struct route_address network;
    __u32 tag;
    __u32 slot;
    __u64 reserved;
};
PANGOLIN_STATIC_ASSERT(sizeof(struct route_entry) == 32, "half a cache line");

/* Slots of consecutive addresses of a pool; 64 bytes because array elements take at least 8. */
struct route_pool_block {
    __u32 slot[ROUTE_POOL_BLOCK];
};

static inline __u32 route_tag(int is_v6, __u32 prefix_length) {
    return 1u << 16 | (is_v6 ? 1u << 8 : 0) | prefix_length;
}

/* The low and the high half are the entry's two places, each to be reduced by the table's mask. */
static inline __u64 route_hash(const struct route_address* network, __u64 tag, __u64 seed) {
    /* Multiplication by odd constants with the high bits folded back (as in splitmix64): allowed IPs are
     * the operator's, not an attacker's, so that speed counts and the seed is only for rebuilding. The tag
     * has a constant of its own: added to the network as it is, 5::/64, 6::/63 and 8::/61 of one /48 would
     * have the same two places under every seed. */
    __u64 hash = ((network->low ^ seed) + tag * 0xd6e8feb86659fd93ULL) * 0x9e3779b97f4a7c15ULL;
    hash ^= hash >> 32;
    hash = (hash + network->high) * 0xbf58476d1ce4e5b9ULL;
    hash ^= hash >> 29;
    hash *= 0x94d049bb133111ebULL;
    return hash ^ hash >> 32;
}

/*
 * Targets: TCP and UDP ports inside tunnels. Their packets are counted by target as well as by peer. A
 * cuckoo table like that of the routes finds a target by remote address, remote port and protocol; it is part
 * of the set and becomes active together with the routes.
 */
enum { TRAFFIC_NO_TARGET = 0, TRAFFIC_FIRST_TARGET = 1 };

/* What one target has seen, wire packets and their bytes; one writer, the CPU that the element belongs to. */
struct target_counts {
    struct traffic_count count[TRAFFIC_DIRECTIONS];
};
PANGOLIN_STATIC_ASSERT(sizeof(struct target_counts) == 32, "half a cache line");

/* Set in a target's index in a published set when its UDP flows are followed. */
#define TRAFFIC_TARGET_HAS_FLOWS (1u << 31)

/* An empty entry has target TRAFFIC_NO_TARGET. */
struct target_entry {
    struct route_address address;
    __u32 service; /* target_service() */
    __u32 target;  /* with its flag */
    __u64 reserved;
};
PANGOLIN_STATIC_ASSERT(sizeof(struct target_entry) == 32, "half a cache line");

/* Who talks to a target by UDP: a flow is a local address and port. */
struct udp_flow_key {
    __u32 target;
    __u16 local_port; /* host order */
    __u16 reserved;
    __be32 local_address[4]; /* IPv4 in the first; the target tells the family */
};
PANGOLIN_STATIC_ASSERT(sizeof(struct udp_flow_key) == 24, "no padding");

enum { TRAFFIC_MAX_FLOWS = 16384 };

/* Tells the targets of one address apart, and addresses of the two families. `port` is in host order. */
static inline __u32 target_service(int is_v6, __u8 ip_protocol, __u16 port) {
    return (is_v6 ? 1u << 24 : 0) | (__u32)ip_protocol << 16 | port;
}

/* As route_hash(), but shorter: it is computed for nearly every packet, and what it must tell apart are
 * mostly neighbours: addresses that differ in their low bits and ports. */
static inline __u64 target_hash(const struct route_address* address, __u32 service, __u64 seed) {
    __u64 hash = ((address->low ^ seed) + address->high * 0xd6e8feb86659fd93ULL +
                  (__u64)service * 0xbf58476d1ce4e5b9ULL) *
                 0x9e3779b97f4a7c15ULL;
    hash = (hash ^ hash >> 47) * 0x94d049bb133111ebULL;
    return hash ^ hash >> 32;
}

#endif /* PANGOLIN_BPF_SHARED_TRAFFIC_H */
