/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How both sides write addresses: 128-bit numbers in host order, IPv4 as ::ffff:a.b.c.d. */
#ifndef PANGOLIN_BPF_SHARED_ADDRESS_H
#define PANGOLIN_BPF_SHARED_ADDRESS_H

#include <linux/types.h>

#ifdef __cplusplus
#define PANGOLIN_STATIC_ASSERT static_assert
#else
#define PANGOLIN_STATIC_ASSERT _Static_assert
#endif

struct route_address {
    __u64 high;
    __u64 low;
};

/* Where a peer's encrypted packets come from and go to. The family tells a mapped IPv4 address apart. */
struct peer_endpoint {
    struct route_address address;
    __u32 port; /* host order */
    __u32 is_v6;
};
PANGOLIN_STATIC_ASSERT(sizeof(struct peer_endpoint) == 24, "no padding");

/* Ingress: from the site to this host. Egress: from this host to the site. */
enum traffic_direction { TRAFFIC_INGRESS, TRAFFIC_EGRESS, TRAFFIC_DIRECTIONS };

#endif /* PANGOLIN_BPF_SHARED_ADDRESS_H */
