/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the programs inside the WireGuard module share with userspace beside shared/handshake.h. */
#ifndef PANGOLIN_BPF_SHARED_WIREGUARD_MODULE_H
#define PANGOLIN_BPF_SHARED_WIREGUARD_MODULE_H

#include "bpf/shared/address.h"

/* Key of `queue_drops`, whose value is a __u64 of packets. All 0: peers that found no room in it. */
struct queue_drop_key {
    __u8 public_key[32];
};
PANGOLIN_STATIC_ASSERT(sizeof(struct queue_drop_key) == 32, "no padding");

#endif /* PANGOLIN_BPF_SHARED_WIREGUARD_MODULE_H */
