/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Counts inner IP packets on one WireGuard interface, by peer, direction and protocol.
 * Attached to ingress and egress (tcx, or clsact below 6.6); passes every packet on untouched.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/shared/traffic.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* WireGuard has no link-layer header: 0. BPF_PROG_RUN and veth have 14. */
const volatile __u32 l2_length = 0;
/* Slots a CPU has in `counters`. */
const volatile __u32 slot_capacity = 1;
/* Entries of one route set minus one (a power of two minus one). */
const volatile __u32 route_entry_mask = 0;
/* Pool blocks of one route set. */
const volatile __u32 pool_block_capacity = 0;

/* Index of the route set in force. */
__u32 active_routes = 0;
struct route_set route_sets[ROUTE_SETS] = {};

/* [cpu * slot_capacity + slot]. A plain array with a part for each CPU instead of a per-CPU map: it can be
 * mapped into userspace, where reading 10,000 peers is then no system call at all. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct traffic_counts);
} counters SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct route_entry);
} route_entries SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct route_pool_block);
} route_pools SEC(".maps");

/* Traffic of addresses that are no peer's yet: WireGuard tells nobody of a new peer, so its first packets
 * wait here under their address until userspace has seen it and credits them. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 4096);
    __type(key, struct unmatched_key);
    __type(value, struct traffic_counts);
} unmatched SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, TRAFFIC_DIRECTIONS* TRAFFIC_UNDECODABLE_REASONS);
    __type(key, __u32);
    __type(value, __u64);
} undecodable SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, TRAFFIC_LOSS_REASONS);
    __type(key, __u32);
    __type(value, __u64);
} losses SEC(".maps");

struct packet {
    struct route_address remote;
    __u32 length;         /* IP bytes in this skb */
    __u32 network_length; /* IP header with its options or extension headers */
    __u8 protocol;        /* IPPROTO_* */
    bool is_v6;
    bool has_transport_header; /* false for later fragments and for chains that end early */
};

static __always_inline void increment(void* map, __u32 key) {
    __u64* value = bpf_map_lookup_elem(map, &key);
    if (value)
        *value += 1;
}

static __always_inline int undecodable_packet(enum traffic_direction direction,
                                              enum traffic_undecodable reason) {
    increment(&undecodable, direction * TRAFFIC_UNDECODABLE_REASONS + reason);
    return -1;
}

static __always_inline struct route_address mapped_v4(__be32 address) {
    struct route_address mapped = {0, 0x0000ffff00000000ULL | bpf_ntohl(address)};
    return mapped;
}

static __always_inline struct route_address number_v6(const struct in6_addr* address) {
    struct route_address number = {
        (__u64)bpf_ntohl(address->in6_u.u6_addr32[0]) << 32 | bpf_ntohl(address->in6_u.u6_addr32[1]),
        (__u64)bpf_ntohl(address->in6_u.u6_addr32[2]) << 32 | bpf_ntohl(address->in6_u.u6_addr32[3]),
    };
    return number;
}

static __always_inline int decode_v4(const struct iphdr* ip, enum traffic_direction direction,
                                     struct packet* packet) {
    packet->network_length = ip->ihl * 4u;
    if (packet->network_length < sizeof(*ip) || packet->network_length > packet->length)
        return undecodable_packet(direction, TRAFFIC_BAD_HEADER_LENGTH);
    packet->is_v6 = false;
    packet->protocol = ip->protocol;
    packet->has_transport_header = !(ip->frag_off & bpf_htons(0x1fff));
    packet->remote = mapped_v4(direction == TRAFFIC_INGRESS ? ip->saddr : ip->daddr);
    return 0;
}

static __always_inline bool is_extension_header(__u8 next) {
    return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_FRAGMENT ||
           next == IPPROTO_DSTOPTS || next == IPPROTO_AH || next == 135 /* mobility, RFC 6275 */;
}

/*
 * Follows the chain of extension headers (RFC 8200 section 4) for at most eight of them, more than any
 * stack sends. A chain that is cut off or longer leaves the protocol at the header that was not followed,
 * which counts as "other"; the packet's bytes are counted all the same.
 */
static __always_inline void follow_extension_headers(struct __sk_buff* skb, struct packet* packet) {
    for (int i = 0; i < 8; i++) {
        struct {
            __u8 next;
            __u8 length;
            __be16 fragment_offset;
        } header;

        if (!is_extension_header(packet->protocol))
            return;
        if (packet->network_length + 8 > packet->length ||
            bpf_skb_load_bytes(skb, l2_length + packet->network_length, &header, sizeof(header)))
            break;
        if (packet->protocol == IPPROTO_FRAGMENT) {
            packet->network_length += 8;
            packet->protocol = header.next;
            if (header.fragment_offset & bpf_htons(0xfff8)) {
                packet->has_transport_header = false;
                return;
            }
            continue;
        }
        /* Authentication header lengths count 4 bytes, less 2 (RFC 4302); the others 8 bytes, less 1. */
        packet->network_length +=
            packet->protocol == IPPROTO_AH ? (header.length + 2u) * 4 : (header.length + 1u) * 8;
        packet->protocol = header.next;
    }
    if (is_extension_header(packet->protocol))
        packet->has_transport_header = false;
}

static __always_inline void decode_v6(struct __sk_buff* skb, const struct ipv6hdr* ip,
                                      enum traffic_direction direction, struct packet* packet) {
    packet->is_v6 = true;
    packet->network_length = sizeof(*ip);
    packet->protocol = ip->nexthdr;
    packet->has_transport_header = true;
    packet->remote = number_v6(direction == TRAFFIC_INGRESS ? &ip->saddr : &ip->daddr);
    if (packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP)
        follow_extension_headers(skb, packet);
}

/* For a header outside the linear part of the skb: legal, if rare. */
static __noinline int decode_copy(struct __sk_buff* skb, enum traffic_direction direction,
                                  struct packet* packet) {
    union {
        __u8 version;
        struct iphdr v4;
        struct ipv6hdr v6;
    } copy = {};

    if (!packet)
        return -1;
    if (bpf_skb_load_bytes(skb, l2_length, &copy.v4, sizeof(copy.v4)))
        return undecodable_packet(direction, TRAFFIC_TRUNCATED);
    if (copy.version >> 4 == 4)
        return decode_v4(&copy.v4, direction, packet);
    if (copy.version >> 4 != 6)
        return undecodable_packet(direction, TRAFFIC_BAD_VERSION);
    if (bpf_skb_load_bytes(skb, l2_length, &copy.v6, sizeof(copy.v6)))
        return undecodable_packet(direction, TRAFFIC_TRUNCATED);
    decode_v6(skb, &copy.v6, direction, packet);
    return 0;
}

/* Finds the remote address and protocol; returns -1 after counting a packet that has none. */
static __always_inline int decode(struct __sk_buff* skb, enum traffic_direction direction,
                                  struct packet* packet) {
    const void* header = (void*)(long)skb->data + l2_length;
    const void* end = (void*)(long)skb->data_end;

    if (skb->len < l2_length + sizeof(struct iphdr))
        return undecodable_packet(direction, TRAFFIC_TRUNCATED);
    packet->length = skb->len - l2_length;

    if (header + sizeof(struct iphdr) <= end && *(const __u8*)header >> 4 == 4)
        return decode_v4(header, direction, packet);
    if (header + sizeof(struct ipv6hdr) <= end && *(const __u8*)header >> 4 == 6) {
        decode_v6(skb, header, direction, packet);
        return 0;
    }
    return decode_copy(skb, direction, packet);
}

/*
 * What a GSO or GRO super-packet is on the wire: its segments repeat the network and transport headers.
 * gso_segs is not set for packets that entered through a TUN device, so the count is worked out from
 * gso_size.
 */
static __always_inline void wire_size(struct __sk_buff* skb, const struct packet* packet, __u64* packets,
                                      __u64* bytes) {
    __u32 gso_size = skb->gso_size;
    __u32 header_length = packet->network_length;
    __u32 segments;

    *packets = 1;
    *bytes = packet->length;
    if (!gso_size)
        return;
    if (packet->protocol == IPPROTO_TCP && packet->has_transport_header) {
        __u8 data_offset;
        /* Below 5 words it is no TCP header (RFC 9293): what the segments are cannot be known. */
        if (bpf_skb_load_bytes(skb, l2_length + packet->network_length + 12, &data_offset, 1) ||
            data_offset >> 4 < 5) {
            increment(&losses, TRAFFIC_LOSS_GSO_HEADER);
            return;
        }
        header_length += (data_offset >> 4) * 4u;
    } else if (packet->protocol == IPPROTO_UDP && packet->has_transport_header) {
        header_length += 8;
    } else {
        increment(&losses, TRAFFIC_LOSS_GSO_HEADER);
        return;
    }
    if (packet->length <= header_length)
        return;
    segments = (packet->length - header_length + gso_size - 1) / gso_size;
    *packets = segments;
    *bytes += (__u64)(segments - 1) * header_length;
}

static __always_inline struct route_entry* entry_at(__u32 set, __u32 place) {
    __u32 index = set * (route_entry_mask + 1) + (place & route_entry_mask);
    return bpf_map_lookup_elem(&route_entries, &index);
}

static __always_inline bool entry_is(const struct route_entry* entry, const struct route_address* network,
                                     __u64 tag) {
    return entry && entry->network.low == network->low && entry->tag == tag &&
           entry->network.high == network->high;
}

static __always_inline __u32 find_prefix(const struct route_set* routes, __u32 set,
                                         const struct route_length* length,
                                         const struct route_address* remote) {
    struct route_address network = {remote->high & length->mask.high, remote->low & length->mask.low};
    __u64 hash = route_hash(&network, length->tag, routes->hash_seed);
    struct route_entry* entry = entry_at(set, hash);

    if (entry_is(entry, &network, length->tag))
        return entry->slot;
    entry = entry_at(set, hash >> 32);
    if (entry_is(entry, &network, length->tag))
        return entry->slot;
    return TRAFFIC_SLOT_UNMATCHED;
}

static __always_inline __u32 pool_slot(__u32 set, __u32 position) {
    __u32 index = set * pool_block_capacity + position / ROUTE_POOL_BLOCK;
    struct route_pool_block* block = bpf_map_lookup_elem(&route_pools, &index);
    return block ? block->slot[position % ROUTE_POOL_BLOCK] : TRAFFIC_SLOT_UNMATCHED;
}

static __always_inline __u32 find_slot(const struct packet* packet) {
    __u32 set = active_routes & (ROUTE_SETS - 1);
    const struct route_set* routes = &route_sets[set];
    __u32 slot;

    if (packet->is_v6) {
        for (__u32 i = 0; i < ROUTE_V6_LENGTHS; i++) {
            if (i >= routes->v6_lengths)
                break;
            slot = find_prefix(routes, set, &routes->v6[i], &packet->remote);
            if (slot != TRAFFIC_SLOT_UNMATCHED)
                return slot;
        }
        return TRAFFIC_SLOT_UNMATCHED;
    }
    for (__u32 i = 0; i < ROUTE_POOLS; i++) {
        __u32 offset = (__u32)packet->remote.low - routes->pool[i].base;
        if (offset < routes->pool[i].size)
            return pool_slot(set, routes->pool[i].offset + offset);
    }
    for (__u32 i = 0; i < ROUTE_V4_LENGTHS; i++) {
        if (i >= routes->v4_lengths)
            break;
        slot = find_prefix(routes, set, &routes->v4[i], &packet->remote);
        if (slot != TRAFFIC_SLOT_UNMATCHED)
            return slot;
    }
    return TRAFFIC_SLOT_UNMATCHED;
}

static __always_inline enum traffic_protocol protocol_of(const struct packet* packet) {
    switch (packet->protocol) {
        case IPPROTO_TCP:
            return TRAFFIC_TCP;
        case IPPROTO_UDP:
            return TRAFFIC_UDP;
        case IPPROTO_ICMP:
            return packet->is_v6 ? TRAFFIC_OTHER : TRAFFIC_ICMP;
        case IPPROTO_ICMPV6:
            return packet->is_v6 ? TRAFFIC_ICMP : TRAFFIC_OTHER;
        default:
            return TRAFFIC_OTHER;
    }
}

static __always_inline void add_to_slot(__u32 slot, enum traffic_direction direction,
                                        enum traffic_protocol protocol, __u64 packets, __u64 bytes) {
    __u32 index = bpf_get_smp_processor_id() * slot_capacity + slot;
    struct traffic_counts* counts = bpf_map_lookup_elem(&counters, &index);
    struct traffic_count* count;

    if (!counts) {
        increment(&losses, TRAFFIC_LOSS_COUNTER);
        return;
    }
    count = &counts->count[direction][protocol & (TRAFFIC_PROTOCOLS - 1)];
    count->packets += packets;
    count->bytes += bytes;
}

/* CPUs share these elements, hence the atomic adds; this path is for the first second of a peer. */
static __noinline int add_to_unmatched(const struct packet* packet, __u32 direction_and_protocol,
                                       __u64 packets, __u64 bytes) {
    static const struct traffic_counts zero = {};
    enum traffic_direction direction = direction_and_protocol >> 2 & 1;
    enum traffic_protocol protocol = direction_and_protocol & 3;
    struct unmatched_key key = {};
    struct traffic_counts* counts;
    struct traffic_count* count;

    if (!packet)
        return -1;
    key.remote = packet->remote;
    key.is_v6 = packet->is_v6;
    counts = bpf_map_lookup_elem(&unmatched, &key);
    if (!counts) {
        /* Another CPU may have been faster: what counts is whether the element is there afterwards. */
        bpf_map_update_elem(&unmatched, &key, &zero, BPF_NOEXIST);
        counts = bpf_map_lookup_elem(&unmatched, &key);
    }
    if (!counts) {
        increment(&losses, TRAFFIC_LOSS_UNMATCHED_FULL);
        add_to_slot(TRAFFIC_SLOT_UNMATCHED, direction, protocol, packets, bytes);
        return 0;
    }
    count = &counts->count[direction][protocol];
    __sync_fetch_and_add(&count->packets, packets);
    __sync_fetch_and_add(&count->bytes, bytes);
    return 0;
}

static __always_inline int count(struct __sk_buff* skb, enum traffic_direction direction) {
    struct packet packet = {};
    enum traffic_protocol protocol;
    __u64 packets, bytes;
    __u32 slot;

    if (decode(skb, direction, &packet))
        return TC_ACT_UNSPEC;
    wire_size(skb, &packet, &packets, &bytes);
    protocol = protocol_of(&packet);
    slot = find_slot(&packet);
    if (slot == TRAFFIC_SLOT_UNMATCHED)
        add_to_unmatched(&packet, direction << 2 | protocol, packets, bytes);
    else
        add_to_slot(slot, direction, protocol, packets, bytes);
    /* TC_ACT_UNSPEC is TCX_NEXT: whoever else is attached here gets the packet next. */
    return TC_ACT_UNSPEC;
}

SEC("tcx/ingress")
int traffic_ingress(struct __sk_buff* skb) {
    return count(skb, TRAFFIC_INGRESS);
}

SEC("tcx/egress")
int traffic_egress(struct __sk_buff* skb) {
    return count(skb, TRAFFIC_EGRESS);
}
