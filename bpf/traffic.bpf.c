/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Counts inner IP packets on one WireGuard interface, by peer, direction and protocol, and by target.
 * Attached to ingress and egress (tcx, or clsact below 6.6); passes every packet on untouched.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "bpf/shared/traffic.h"
#include "bpf/traffic_packet.bpf.h"
#include "bpf/traffic_targets.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Slots a CPU has in `counters`. */
const volatile __u32 slot_capacity = 1;
/* Entries of one route set minus one (a power of two minus one). */
const volatile __u32 route_entry_mask = 0;
/* Pool blocks of one route set. */
const volatile __u32 pool_block_capacity = 0;

/* Index of the set in force, of routes and targets. */
__u32 active_set = 0;
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

/*
 * The slot of an address by all prefix lengths but the longest. Not static: the verifier then looks at these
 * loops once, and not again for each way through the headers that leads here.
 */
__noinline __u32 find_shorter_prefix(__u64 high, __u64 low, __u32 set, __u32 is_v6) {
    const struct route_address remote = {high, low};
    const struct route_set* routes;
    __u32 slot = TRAFFIC_SLOT_UNMATCHED;

    set &= ROUTE_SETS - 1;
    routes = &route_sets[set];
    if (is_v6) {
        for (__u32 i = 1; i < ROUTE_V6_LENGTHS; i++) {
            if (i >= routes->v6_lengths || slot != TRAFFIC_SLOT_UNMATCHED)
                break;
            slot = find_prefix(routes, set, &routes->v6[i], &remote);
        }
        return slot;
    }
    for (__u32 i = 1; i < ROUTE_V4_LENGTHS; i++) {
        if (i >= routes->v4_lengths || slot != TRAFFIC_SLOT_UNMATCHED)
            break;
        slot = find_prefix(routes, set, &routes->v4[i], &remote);
    }
    return slot;
}

/* The slot with its flag. */
static __always_inline __u32 find_slot(const struct packet* packet, __u32 set) {
    const struct route_set* routes = &route_sets[set];
    __u32 lengths = packet->is_v6 ? routes->v6_lengths : routes->v4_lengths;
    __u32 slot;

    for (__u32 i = 0; i < ROUTE_POOLS && !packet->is_v6; i++) {
        __u32 offset = (__u32)packet->remote.low - routes->pool[i].base;
        if (offset < routes->pool[i].size)
            return pool_slot(set, routes->pool[i].offset + offset);
    }
    if (!lengths)
        return TRAFFIC_SLOT_UNMATCHED;
    slot = find_prefix(routes, set, packet->is_v6 ? &routes->v6[0] : &routes->v4[0], &packet->remote);
    if (slot != TRAFFIC_SLOT_UNMATCHED || lengths == 1)
        return slot;
    return find_shorter_prefix(packet->remote.high, packet->remote.low, set, packet->is_v6);
}

static __always_inline void add_to_slot(__u32 slot, __u32 cpu, enum traffic_direction direction,
                                        enum traffic_protocol protocol, __u64 packets, __u64 bytes) {
    __u32 index = cpu * slot_capacity + slot;
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
        add_to_slot(TRAFFIC_SLOT_UNMATCHED, bpf_get_smp_processor_id(), direction, protocol, packets, bytes);
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
    __u32 set, slot, cpu;

    if (decode(skb, direction, &packet))
        return TC_ACT_UNSPEC;
    wire_size(skb, &packet, &packets, &bytes);
    protocol = protocol_of(&packet);
    cpu = bpf_get_smp_processor_id();
    set = active_set & (ROUTE_SETS - 1);
    slot = find_slot(&packet, set);
    if (slot == TRAFFIC_SLOT_UNMATCHED)
        add_to_unmatched(&packet, direction << 2 | protocol, packets, bytes);
    else
        add_to_slot(slot & ~TRAFFIC_SLOT_HAS_TARGETS, cpu, direction, protocol, packets, bytes);
    /* A target's address may be known before the peer is. */
    if (target_capacity > TRAFFIC_FIRST_TARGET &&
        (slot & TRAFFIC_SLOT_HAS_TARGETS || (slot == TRAFFIC_SLOT_UNMATCHED && target_hash_seeds[set])))
        count_target(skb, &packet, direction, set, cpu, packets, bytes);
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
