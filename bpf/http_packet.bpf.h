/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From a packet, as the cgroup hooks have it, to a TCP segment. */
#ifndef PANGOLIN_BPF_HTTP_PACKET_BPF_H
#define PANGOLIN_BPF_HTTP_PACKET_BPF_H

#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>

#include <bpf/bpf_endian.h>

#include "bpf/http_stream.bpf.h"

enum { HTTP_PORT_WORDS = 65536 / 64, HTTP_FAMILY_INET = 2 };

/* Where TCP begins; 0 for another protocol. The socket is TCP's, and no fragment reaches it: the only thing
 * in between is the option of packets of more than 64 KiB (RFC 2675), which the kernel makes itself. */
static __always_inline __u32 http_tcp_offset(struct __sk_buff* skb) {
    __u8 first;

    if (bpf_skb_load_bytes(skb, 0, &first, 1))
        return 0;
    if (first >> 4 == 4) {
        __u8 protocol;
        if (bpf_skb_load_bytes(skb, __builtin_offsetof(struct iphdr, protocol), &protocol, 1) ||
            protocol != IPPROTO_TCP)
            return 0;
        return (first & 15) * 4;
    }
    if (first >> 4 == 6) {
        __u8 next;
        __u32 offset = sizeof(struct ipv6hdr);
        if (bpf_skb_load_bytes(skb, __builtin_offsetof(struct ipv6hdr, nexthdr), &next, 1))
            return 0;
        for (int extension = 0; extension < 2 && next != IPPROTO_TCP; extension++) {
            __u8 header[2];
            if ((next != IPPROTO_HOPOPTS && next != IPPROTO_DSTOPTS && next != IPPROTO_ROUTING) ||
                bpf_skb_load_bytes(skb, offset, header, sizeof(header)))
                return 0;
            next = header[0];
            offset += (header[1] + 1) * 8;
        }
        return next == IPPROTO_TCP ? offset : 0;
    }
    return 0;
}

static __always_inline bool http_read_segment(struct __sk_buff* skb, struct http_segment* segment) {
    __u32 offset = http_tcp_offset(skb);
    __u8 header[sizeof(struct tcphdr)] __attribute__((aligned(4)));

    if (!offset || bpf_skb_load_bytes(skb, offset, header, sizeof(header)))
        return false;
    segment->begin = bpf_ntohl(*(__be32*)&header[4]);
    segment->acknowledged = bpf_ntohl(*(__be32*)&header[8]);
    segment->flags = header[13];
    segment->offset = offset + (header[12] >> 4) * 4;
    segment->size = skb->len > segment->offset ? skb->len - segment->offset : 0;
    return true;
}

#endif /* PANGOLIN_BPF_HTTP_PACKET_BPF_H */
