/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whose turn it is. The kernel can replace a program of a network hook or of a control group in its place,
 * but none of a tracepoint or a function: there the next process attaches its own beside those of before,
 * with the same maps, and then passes the gate on (loader/takeover.h).
 */
#ifndef PANGOLIN_BPF_GATE_BPF_H
#define PANGOLIN_BPF_GATE_BPF_H

#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

/* Of these programs; never that of others with the same gate. */
const volatile __u32 generation = 0;

/* The generation that counts, by CPU: the programs of one event run on one CPU without a break, so that a
 * gate which is passed on by a thread on that CPU is passed on between two events. Userspace sizes it. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} program_gate SEC(".maps");

/* To be asked first by every program of a tracepoint or a function. */
static __always_inline bool is_in_force(void) {
    __u32 cpu = bpf_get_smp_processor_id();
    const volatile __u64* in_force = bpf_map_lookup_elem(&program_gate, &cpu);

    return in_force && *in_force == generation;
}

#endif /* PANGOLIN_BPF_GATE_BPF_H */
