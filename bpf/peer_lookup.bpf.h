/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Finds a peer's slot by an inner address or by an endpoint. Userspace makes both maps before it loads a
 * program that includes this, which then uses them; sizes here are only for that they are declared. */
#ifndef PANGOLIN_BPF_PEER_LOOKUP_BPF_H
#define PANGOLIN_BPF_PEER_LOOKUP_BPF_H

#include <linux/bpf.h>
#include <linux/in6.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/shared/tunnel.h"

struct {
    __uint(type, BPF_MAP_TYPE_LPM_TRIE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 1);
    __type(key, struct peer_address_key);
    __type(value, __u32);
} peer_addresses SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 1);
    __type(key, struct peer_endpoint);
    __type(value, __u32);
} peer_endpoints SEC(".maps");

enum { PEER_ADDRESS_BITS = 8 * (sizeof(struct peer_address_key) - sizeof(__u32)) };

static __always_inline void set_v4_key(struct peer_address_key* key, __be32 address) {
    __u32* words = (__u32*)key->address;

    key->prefix_length = PEER_ADDRESS_BITS;
    key->is_v6 = 0;
    words[0] = 0;
    words[1] = 0;
    words[2] = bpf_htonl(0xffff);
    words[3] = address;
}

static __always_inline void set_v6_key(struct peer_address_key* key, const struct in6_addr* address) {
    key->prefix_length = PEER_ADDRESS_BITS;
    key->is_v6 = 1;
    __builtin_memcpy(key->address, address, sizeof(key->address));
}

/* The slot of the peer whose allowed IPs hold the address; 0 when there is none. */
static __always_inline __u32 slot_of_address(const struct peer_address_key* key) {
    const __u32* slot = bpf_map_lookup_elem(&peer_addresses, key);
    return slot ? *slot : 0;
}

static __always_inline __u32 slot_of_endpoint(const struct peer_address_key* address, __u16 port) {
    const __u32* words = (const __u32*)address->address;
    struct peer_endpoint endpoint = {
        .address = {(__u64)bpf_ntohl(words[0]) << 32 | bpf_ntohl(words[1]),
                    (__u64)bpf_ntohl(words[2]) << 32 | bpf_ntohl(words[3])},
        .port = port,
        .is_v6 = address->is_v6,
    };
    const __u32* slot = bpf_map_lookup_elem(&peer_endpoints, &endpoint);
    return slot ? *slot : 0;
}

#endif /* PANGOLIN_BPF_PEER_LOOKUP_BPF_H */
