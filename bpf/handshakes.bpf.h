/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The maps of shared/handshake.h and how they are filled, for the programs that observe handshakes. */
#ifndef PANGOLIN_BPF_HANDSHAKES_BPF_H
#define PANGOLIN_BPF_HANDSHAKES_BPF_H

#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "bpf/shared/handshake.h"

/* Userspace takes the elements of both: ended ones once they are written down, and open ones that are too
 * old. Without preallocation: memory as it is needed. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 65536);
    __type(key, __u32);
    __type(value, struct handshake);
} handshakes SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 65536);
    __type(key, __u32);
    __type(value, struct handshake);
} ended_handshakes SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 65536);
    __type(key, struct handshake_count_key);
    __type(value, __u64);
} handshake_counts SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, HANDSHAKE_LOSS_REASONS);
    __type(key, __u32);
    __type(value, __u64);
} handshake_losses SEC(".maps");

/* Elements of `handshakes`. Whoever deletes one subtracts it: userspace those that it finds too old. */
__u32 open_handshakes = 0;

static __always_inline void count_handshake_loss(__u32 reason) {
    __u64* value = bpf_map_lookup_elem(&handshake_losses, &reason);
    if (value)
        *value += 1;
}

static __always_inline __u64* find_handshake_count(const struct handshake_count_key* key) {
    static const __u64 zero = 0;
    __u64* count = bpf_map_lookup_elem(&handshake_counts, key);
    if (count)
        return count;
    /* Another CPU may have been faster: what counts is whether the element is there afterwards. */
    bpf_map_update_elem(&handshake_counts, key, &zero, BPF_NOEXIST);
    return bpf_map_lookup_elem(&handshake_counts, key);
}

static __noinline int count_handshake(const struct handshake_identity* identity, __u32 result) {
    struct handshake_count_key key = {};
    __u64* count;

    if (!identity)
        return -1;
    key.identity = *identity;
    key.result = result;
    count = find_handshake_count(&key);
    if (!count) {
        count_handshake_loss(HANDSHAKE_LOSS_COUNTS);
        __builtin_memset(&key.identity, 0, sizeof(key.identity));
        count = find_handshake_count(&key);
    }
    if (count)
        __sync_fetch_and_add(count, 1);
    return 0;
}

static __always_inline void count_anonymous_handshake(__u32 result) {
    struct handshake_identity nobody = {};
    count_handshake(&nobody, result);
}

/* This host has just sent a response or an initiation under `local_index`. */
static __noinline int begin_handshake(__u32 local_index, const struct handshake_identity* identity,
                                      __u32 role) {
    struct handshake handshake = {};

    if (!identity)
        return -1;
    handshake.identity = *identity;
    handshake.begin_ns = bpf_ktime_get_ns();
    handshake.role = role;
    if (bpf_map_update_elem(&handshakes, &local_index, &handshake, BPF_NOEXIST)) {
        count_handshake_loss(HANDSHAKE_LOSS_HANDSHAKES);
        return -1;
    }
    __sync_fetch_and_add(&open_handshakes, 1);
    return 0;
}

/* Ends the handshake of that index if it is open and of that role; says whether it was. */
static __noinline int end_handshake(__u32 local_index, __u32 role, __u32 result) {
    struct handshake* open = bpf_map_lookup_elem(&handshakes, &local_index);
    struct handshake ended;

    if (!open || open->role != role)
        return 0;
    ended = *open;
    /* Two CPUs may see two data packets of one new session: the one that deletes the element ends it. */
    if (bpf_map_delete_elem(&handshakes, &local_index))
        return 0;
    __sync_fetch_and_sub(&open_handshakes, 1);
    ended.end_ns = bpf_ktime_get_ns();
    ended.result = result;
    if (bpf_map_update_elem(&ended_handshakes, &local_index, &ended, BPF_NOEXIST))
        count_handshake_loss(HANDSHAKE_LOSS_HANDSHAKES);
    return 1;
}

#endif /* PANGOLIN_BPF_HANDSHAKES_BPF_H */
