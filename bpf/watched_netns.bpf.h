/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The network namespace that programs of tracepoints and functions watch, which see all of them. */
#ifndef PANGOLIN_BPF_WATCHED_NETNS_BPF_H
#define PANGOLIN_BPF_WATCHED_NETNS_BPF_H

#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "bpf/kernel_types.bpf.h"
#include "bpf/same_netns.bpf.h"

const volatile __u32 netns_inode = 0;
const volatile __u64 netns_cookie = 0;

enum { NETNS_OF_ANOTHER = 0xffffffff };

/* The inode; NETNS_OF_ANOTHER when it is the watched one's and the namespace is not. */
static __always_inline __u32 netns_number(const struct net* net) {
    __u32 inode = BPF_CORE_READ(net, ns.inum);

    if (inode == netns_inode && !is_same_netns(net, netns_inode, netns_cookie))
        return NETNS_OF_ANOTHER;
    return inode;
}

static __always_inline bool is_watched_netns(const struct net* net) {
    return netns_number(net) == netns_inode;
}

#endif /* PANGOLIN_BPF_WATCHED_NETNS_BPF_H */
