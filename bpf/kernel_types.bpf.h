/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The fields of kernel structs that the tracing programs read. libbpf finds their real places in the running
 * kernel's BTF, so order and gaps mean nothing here; a field that a kernel may lack is asked for with
 * bpf_core_field_exists().
 */
#ifndef PANGOLIN_BPF_KERNEL_TYPES_BPF_H
#define PANGOLIN_BPF_KERNEL_TYPES_BPF_H

#include <linux/in6.h>
#include <linux/types.h>
#include <stdbool.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
    unsigned int inum; /* the namespace's inode, as stat() of /proc/PID/ns/net tells it */
};

struct net {
    struct ns_common ns;
    __u64 net_cookie; /* since Linux 5.12 */
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
    char cb[48];
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

typedef struct {
    __s64 counter;
} atomic64_t;

/* What full sockets, request sockets and time-wait sockets begin with. */
struct sock_common {
    __be32 skc_daddr;
    __be16 skc_dport;
    unsigned short skc_family;
    volatile unsigned char skc_state;
    possible_net_t skc_net;
    struct in6_addr skc_v6_daddr;
    atomic64_t skc_cookie; /* 0 until somebody asks for it */
    unsigned long skc_flags;
};

/* Bits of sock_common.skc_flags, from enum sock_flags in include/net/sock.h: the program has closed the
 * socket; the far end's FIN was processed. */
enum { SOCK_DEAD_BIT = 0, SOCK_DONE_BIT = 1 };

struct sock {
    struct sock_common __sk_common;
    __u16 sk_protocol;
    int sk_err;
    __u8 sk_shutdown; /* what the program shut; all of it once it closed the socket */
    int sk_err_soft;  /* of an ICMP message that did not end the connection */
};

struct request_sock {
    struct sock_common __req_common;
};

struct tcp_sock {
    __u32 srtt_us;        /* smoothed round-trip time << 3; 0 before the first sample */
    __u32 rcv_tstamp;     /* low half of jiffies when the last acknowledgement came */
    __u64 bytes_received; /* in sequence, a FIN for one */
    __u64 bytes_acked;    /* likewise; after an active open the SYN too */
    __u32 snd_una;
    __u32 snd_nxt;
    __u32 write_seq;
    __u32 segs_out;
    __u32 total_retrans;
};

/* At sk_buff.cb while TCP has the packet. */
struct tcp_skb_cb {
    __u16 tcp_gso_segs;
};

/* At sk_buff.head + sk_buff.end. */
struct skb_shared_info {
    unsigned short gso_size;
    unsigned short gso_segs; /* 0 for super-packets from a TUN device */
};

struct bpf_iter_meta {
    __u64 seq_num;
};

struct bpf_iter__tcp {
    struct bpf_iter_meta* meta;
    struct sock_common* sk_common;
};

#pragma clang attribute pop

#endif /* PANGOLIN_BPF_KERNEL_TYPES_BPF_H */
