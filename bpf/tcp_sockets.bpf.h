/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Reading TCP sockets in tracing programs. The pointers are arguments of such a program, so that the verifier
 * knows what they point to and lets it be read without a helper; all that lies beyond struct sock needs one.
 */
#ifndef PANGOLIN_BPF_TCP_SOCKETS_BPF_H
#define PANGOLIN_BPF_TCP_SOCKETS_BPF_H

#include <linux/bpf.h>
#include <linux/in6.h>
#include <stdbool.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/kernel_types.bpf.h"
#include "bpf/shared/latency.h"

/* Address families of the kernel (<linux/socket.h> has them for libc only). */
enum { FAMILY_INET = 2, FAMILY_INET6 = 10 };

static __always_inline void map_v4_address(struct in6_addr* mapped, __be32 address) {
    mapped->in6_u.u6_addr32[0] = 0;
    mapped->in6_u.u6_addr32[1] = 0;
    mapped->in6_u.u6_addr32[2] = bpf_htonl(0xffff);
    mapped->in6_u.u6_addr32[3] = address;
}

static __always_inline bool is_mapped_v4(const struct in6_addr* address) {
    return !address->in6_u.u6_addr32[0] && !address->in6_u.u6_addr32[1] &&
           address->in6_u.u6_addr32[2] == bpf_htonl(0xffff);
}

/* IPv4 in mapped form, which is also that of IPv6 sockets connected to IPv4 addresses. */
static __always_inline bool read_remote_address(const struct sock_common* sk, struct in6_addr* address) {
    switch (sk->skc_family) {
        case FAMILY_INET:
            map_v4_address(address, sk->skc_daddr);
            return true;
        case FAMILY_INET6:
            *address = sk->skc_v6_daddr;
            return true;
        default:
            return false;
    }
}

static __always_inline __u32 netns_of(const struct sock_common* sk) {
    return sk->skc_net.net->ns.inum;
}

/* Smoothed, in microseconds; 0 before the first sample. */
static __always_inline __u32 round_trip_of(const struct sock_common* sk) {
    return BPF_CORE_READ((const struct tcp_sock*)sk, srtt_us) >> 3;
}

static __always_inline void add_latency(struct latency_histogram* histogram, __u32 microseconds) {
    __u32 bucket = latency_bucket(microseconds);

    if (bucket < LATENCY_BUCKETS)
        __sync_fetch_and_add(&histogram->bucket[bucket], 1);
    __sync_fetch_and_add(&histogram->sum_us, microseconds);
}

#endif /* PANGOLIN_BPF_TCP_SOCKETS_BPF_H */
