/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The fields of kernel structs that the tracing programs read. libbpf finds their real places in the running
 * kernel's BTF, so order and gaps mean nothing here; a field that a kernel may lack is asked for with
 * bpf_core_field_exists().
 */
#ifndef PANGOLIN_BPF_KERNEL_TYPES_BPF_H
#define PANGOLIN_BPF_KERNEL_TYPES_BPF_H

#include <linux/types.h>
#include <stdbool.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
    unsigned int inum; /* the namespace's inode, as stat() of /proc/PID/ns/net tells it */
};

struct net {
    struct ns_common ns;
};

typedef struct {
    struct net* net;
} possible_net_t;

struct net_device {
    int ifindex;
    possible_net_t nd_net;
};

struct dst_entry {
    struct net_device* dev;
};

struct sk_buff {
    struct net_device* dev;
    struct sock* sk;
    unsigned long _skb_refdst; /* struct dst_entry *, its lowest bit a flag */
    int skb_iif;
    __be16 protocol;
    __u16 transport_header;
    __u16 network_header;
    unsigned int len;
    unsigned int data_len;
    unsigned int end;
    unsigned char* head;
    unsigned char* data;
};

#pragma clang attribute pop

#endif /* PANGOLIN_BPF_KERNEL_TYPES_BPF_H */
