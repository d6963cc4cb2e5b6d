/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which sockets are connected to targets (shared/sockets.h): sockets.bpf.c fills it, others share the map. */
#ifndef PANGOLIN_BPF_TARGET_SOCKETS_BPF_H
#define PANGOLIN_BPF_TARGET_SOCKETS_BPF_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/shared/sockets.h"

/* Its size is userspace's. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 1);
    __type(key, __u64);
    __type(value, struct socket_record);
} sockets SEC(".maps");

#endif /* PANGOLIN_BPF_TARGET_SOCKETS_BPF_H */
