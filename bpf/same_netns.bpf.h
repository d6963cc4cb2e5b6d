/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whether a network namespace is the one that userspace means: the kernel gives a namespace's inode to
 * another one as soon as it is gone; its cookie never.
 */
#ifndef PANGOLIN_BPF_SAME_NETNS_BPF_H
#define PANGOLIN_BPF_SAME_NETNS_BPF_H

#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "bpf/kernel_types.bpf.h"

/* `cookie` is 0 where userspace cannot tell it (before Linux 5.14). */
static __always_inline bool is_same_netns(const struct net* net, __u32 inode, __u64 cookie) {
    return BPF_CORE_READ(net, ns.inum) == inode &&
           (!cookie || !bpf_core_field_exists(net->net_cookie) || BPF_CORE_READ(net, net_cookie) == cookie);
}

#endif /* PANGOLIN_BPF_SAME_NETNS_BPF_H */
