/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Buckets of the latency histograms, filled in the kernel and published by userspace. From 1 ms to 1 s each
 * bound is at most a fifth above the one before, so that the middle of a bucket is within 10 % of whatever
 * fell into it.
 */
#ifndef PANGOLIN_BPF_SHARED_LATENCY_H
#define PANGOLIN_BPF_SHARED_LATENCY_H

#include "bpf/shared/address.h"

#define LATENCY_DECADE(unit)                                                                                \
    10 * (unit), 12 * (unit), 14 * (unit), 16 * (unit), 19 * (unit), 22 * (unit), 26 * (unit), 31 * (unit), \
        37 * (unit), 44 * (unit), 52 * (unit), 62 * (unit), 74 * (unit), 88 * (unit)

enum { LATENCY_BOUNDS = 48, LATENCY_BUCKETS = LATENCY_BOUNDS + 1 };

/* Upper bounds in microseconds, inclusive as Prometheus' `le`; the last bucket has none. */
static const __u32 latency_bounds_us[LATENCY_BOUNDS] = {
    200,     500,      LATENCY_DECADE(100), LATENCY_DECADE(1000), LATENCY_DECADE(10000), 1000000, 2000000,
    5000000, 10000000,
};

/* Counts by bucket, not cumulated. */
struct latency_histogram {
    __u64 bucket[LATENCY_BUCKETS];
    __u64 sum_us;
};
PANGOLIN_STATIC_ASSERT(sizeof(struct latency_histogram) == 8 * (LATENCY_BUCKETS + 1), "no padding");

/* Branch-free enough for the verifier: six halvings find one of 49 buckets. */
static inline __u32 latency_bucket(__u64 microseconds) {
    __u32 low = 0;
    __u32 high = LATENCY_BOUNDS;

    for (int step = 0; step < 6; step++) {
        __u32 middle = (low + high) / 2;
        if (low >= high)
            break;
        if (middle < LATENCY_BOUNDS && microseconds <= latency_bounds_us[middle])
            high = middle;
        else
            low = middle + 1;
    }
    return low < LATENCY_BUCKETS ? low : LATENCY_BUCKETS - 1;
}

#endif /* PANGOLIN_BPF_SHARED_LATENCY_H */
