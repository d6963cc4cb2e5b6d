/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Counts the packets of targets, which are ports inside tunnels. */
#ifndef PANGOLIN_BPF_TRAFFIC_TARGETS_BPF_H
#define PANGOLIN_BPF_TRAFFIC_TARGETS_BPF_H

#include "bpf/traffic_packet.bpf.h"

/* Elements a CPU has in `target_counters`. */
const volatile __u32 target_capacity = 0;
/* Entries of one set minus one (a power of two minus one). */
const volatile __u32 target_entry_mask = 0;

/* 0: the set has no targets. */
__u64 target_hash_seeds[ROUTE_SETS] = {};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct target_entry);
} target_entries SEC(".maps");

/* [cpu * target_capacity + target]. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct target_counts);
} target_counters SEC(".maps");

/* Only the first fragment of a datagram carries ports. What identifies the others is in RFC 791 section 3.2
 * and RFC 8200 section 4.5 (where the protocol is not part of it). */
struct fragment_key {
    struct route_address source;
    struct route_address destination;
    __be32 id;
    __u8 is_v6;
    __u8 v4_protocol;
    __u8 direction;
    __u8 reserved;
};
_Static_assert(sizeof(struct fragment_key) == 40, "no padding");

struct first_fragment {
    __u64 time;    /* bpf_ktime_get_ns() */
    __u64 service; /* target_service(); not the target, which may be another one's by then */
};

/* Stacks give a datagram up after this time (Linux: IP_FRAG_TIME), and its identification is used again. */
#define FRAGMENT_LIFETIME_NS 30000000000ULL

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 4096);
    __type(key, struct fragment_key);
    __type(value, struct first_fragment);
} first_fragments SEC(".maps");

/* Written by userspace now and then, so that a packet need not ask for the time. */
__u32 flow_time = 0;

/* When a flow was last seen, by flow_time. Not an LRU map: what finds no room is counted. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, TRAFFIC_MAX_FLOWS);
    __type(key, struct udp_flow_key);
    __type(value, __u32);
} udp_flows SEC(".maps");

static __always_inline struct target_entry* target_entry_at(__u32 set, __u32 place) {
    __u32 index = set * (target_entry_mask + 1) + (place & target_entry_mask);
    return bpf_map_lookup_elem(&target_entries, &index);
}

static __always_inline bool target_entry_is(const struct target_entry* entry,
                                            const struct route_address* address, __u32 service) {
    return entry && entry->address.low == address->low && entry->service == service &&
           entry->address.high == address->high;
}

static __always_inline __u32 find_target(const struct route_address* address, __u32 service, __u32 set) {
    __u64 hash = target_hash(address, service, target_hash_seeds[set & (ROUTE_SETS - 1)]);
    struct target_entry* entry = target_entry_at(set, hash);

    if (target_entry_is(entry, address, service))
        return entry->target;
    entry = target_entry_at(set, hash >> 32);
    if (target_entry_is(entry, address, service))
        return entry->target;
    return TRAFFIC_NO_TARGET;
}

static __always_inline void add_to_target(__u32 target, __u32 cpu, enum traffic_direction direction,
                                          __u64 packets, __u64 bytes) {
    __u32 index = cpu * target_capacity + (target & ~TRAFFIC_TARGET_HAS_FLOWS);
    struct target_counts* counts;
    struct traffic_count* count;

    if (target == TRAFFIC_NO_TARGET)
        return;
    counts = bpf_map_lookup_elem(&target_counters, &index);
    if (!counts) {
        increment(&losses, TRAFFIC_LOSS_COUNTER);
        return;
    }
    count = &counts->count[direction];
    count->packets += packets;
    count->bytes += bytes;
}

static __noinline int see_flow(struct __sk_buff* skb, const struct packet* packet, __u32 target, __be32 ports,
                               enum traffic_direction direction) {
    __u32 now = flow_time;
    struct udp_flow_key key = {};
    __u32* seen;

    if (!packet)
        return -1;
    key.target = target & ~TRAFFIC_TARGET_HAS_FLOWS;
    key.local_port = direction == TRAFFIC_INGRESS ? bpf_ntohl(ports) : bpf_ntohl(ports) >> 16;
    if (packet->is_v6 ? bpf_skb_load_bytes(skb, l2_length + (direction == TRAFFIC_INGRESS ? 24 : 8),
                                           key.local_address, 16)
                      : bpf_skb_load_bytes(skb, l2_length + (direction == TRAFFIC_INGRESS ? 16 : 12),
                                           key.local_address, 4))
        return 0;
    seen = bpf_map_lookup_elem(&udp_flows, &key);
    if (!seen) {
        /* Another CPU may have been faster: what counts is whether the element is there afterwards. */
        if (bpf_map_update_elem(&udp_flows, &key, &now, BPF_NOEXIST) &&
            !bpf_map_lookup_elem(&udp_flows, &key))
            increment(&losses, TRAFFIC_LOSS_FLOWS_FULL);
        return 0;
    }
    /* Writes are for the first packet of a second, so that CPUs do not fight for the line. */
    if (*seen != now)
        *seen = now;
    return 0;
}

static __always_inline bool has_ports(__u8 protocol) {
    return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
}

/* `ports` is the beginning of both transport headers, source and destination port (RFC 9293, RFC 768). One
 * number and no array: kernels before 5.12 take no variable offset into the stack. */
static __always_inline __u32 service_of(const struct packet* packet, __be32 ports,
                                        enum traffic_direction direction) {
    __u32 both = bpf_ntohl(ports);
    __u16 remote = direction == TRAFFIC_INGRESS ? both >> 16 : both;
    return target_service(packet->is_v6, packet->protocol, remote);
}

/* Returns whether it is a fragment, and if so what identifies its datagram; negative without an IP header. */
static __always_inline int read_fragment_key(struct __sk_buff* skb, const struct packet* packet,
                                             struct fragment_key* key) {
    union {
        struct iphdr v4;
        struct ipv6hdr v6;
    } header;

    key->is_v6 = packet->is_v6;
    if (packet->is_v6) {
        if (!packet->is_v6_fragment)
            return 0;
        if (bpf_skb_load_bytes(skb, l2_length, &header.v6, sizeof(header.v6)))
            return -1;
        key->source = number_v6(&header.v6.saddr);
        key->destination = number_v6(&header.v6.daddr);
        key->id = packet->v6_fragment_id;
        return 1;
    }
    if (bpf_skb_load_bytes(skb, l2_length, &header.v4, sizeof(header.v4)))
        return -1;
    if (!(header.v4.frag_off & bpf_htons(0x3fff)))
        return 0;
    key->source = mapped_v4(header.v4.saddr);
    key->destination = mapped_v4(header.v4.daddr);
    key->id = header.v4.id;
    key->v4_protocol = packet->protocol;
    return 1;
}

/* The service of a later fragment, which is its first one's; 0 when it has none or cannot be known. */
static __always_inline __u32 service_of_later_fragment(const struct packet* packet,
                                                       const struct fragment_key* key) {
    const struct first_fragment* first;

    /* In a later IPv6 fragment an extension header may stand before the transport header. */
    if (!has_ports(packet->protocol) && !(packet->is_v6 && is_extension_header(packet->protocol)))
        return 0;
    first = bpf_map_lookup_elem(&first_fragments, key);
    if (first && bpf_ktime_get_ns() - first->time <= FRAGMENT_LIFETIME_NS)
        return first->service;
    increment(&losses, TRAFFIC_LOSS_FRAGMENT);
    return 0;
}

/* Fragments, IP options, extension headers and what is not in the linear part of the skb. */
static __noinline int count_unusual_target(struct __sk_buff* skb, const struct packet* packet,
                                           __u32 set_and_direction, __u64 packets, __u64 bytes) {
    enum traffic_direction direction = set_and_direction & 1;
    struct fragment_key key = {};
    __u32 service = 0;
    __u32 target;
    int is_fragment;
    __be32 ports = 0;

    if (!packet)
        return -1;
    key.direction = direction;
    is_fragment = read_fragment_key(skb, packet, &key);
    if (packet->has_transport_header) {
        if (has_ports(packet->protocol)) {
            if (bpf_skb_load_bytes(skb, l2_length + packet->network_length, &ports, sizeof(ports)))
                return 0;
            service = service_of(packet, ports, direction);
        }
        if (is_fragment > 0 && (service || packet->is_v6)) {
            /* IPv6 without a service too: its later fragments may not say that they have none. */
            struct first_fragment first = {bpf_ktime_get_ns(), service};
            bpf_map_update_elem(&first_fragments, &key, &first, BPF_ANY);
        }
    } else if (is_fragment > 0) {
        service = service_of_later_fragment(packet, &key);
    }
    if (!service)
        return 0;
    target = find_target(&packet->remote, service, set_and_direction >> 1);
    add_to_target(target, bpf_get_smp_processor_id(), direction, packets, bytes);
    /* A later fragment is of a flow that its first one has shown. */
    if (target & TRAFFIC_TARGET_HAS_FLOWS && packet->has_transport_header)
        see_flow(skb, packet, target, ports, direction);
    return 0;
}

static __always_inline void count_target(struct __sk_buff* skb, const struct packet* packet,
                                         enum traffic_direction direction, __u32 set, __u32 cpu,
                                         __u64 packets, __u64 bytes) {
    const void* header = (void*)(long)skb->data + l2_length;
    const void* end = (void*)(long)skb->data_end;
    const struct iphdr* ip = header;
    __be32 ports;

    if (packet->network_length == sizeof(struct iphdr) && header + sizeof(struct iphdr) + 4 <= end &&
        !(ip->frag_off & bpf_htons(0x3fff))) {
        ports = *(const __be32*)(header + sizeof(struct iphdr));
    } else if (packet->network_length == sizeof(struct ipv6hdr) && packet->is_v6 &&
               header + sizeof(struct ipv6hdr) + 4 <= end) {
        ports = *(const __be32*)(header + sizeof(struct ipv6hdr));
    } else {
        count_unusual_target(skb, packet, set << 1 | direction, packets, bytes);
        return;
    }
    if (has_ports(packet->protocol)) {
        __u32 service = service_of(packet, ports, direction);
        __u32 target = find_target(&packet->remote, service, set);
        add_to_target(target, cpu, direction, packets, bytes);
        if (target & TRAFFIC_TARGET_HAS_FLOWS)
            see_flow(skb, packet, target, ports, direction);
    }
}

#endif /* PANGOLIN_BPF_TRAFFIC_TARGETS_BPF_H */
