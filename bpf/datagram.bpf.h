/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Finds the UDP datagrams of a WireGuard interface among all packets of a device. */
#ifndef PANGOLIN_BPF_DATAGRAM_BPF_H
#define PANGOLIN_BPF_DATAGRAM_BPF_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/shared/address.h"

enum { SHORTEST_MESSAGE = 32 };

/* UDP port of the interface, in host order; 0 while it has none. */
__u32 listen_port = 0;
/* UDP payload: a message, or the messages of a super-packet. */
struct datagram {
    __u32 offset;
    __u32 length;
};

static __always_inline bool is_ours(const struct __sk_buff* skb, const struct udphdr* udp, __u32 udp_offset,
                                    enum traffic_direction direction, struct datagram* datagram) {
    __u32 length = bpf_ntohs(udp->len);

    if (bpf_ntohs(direction == TRAFFIC_INGRESS ? udp->dest : udp->source) != listen_port)
        return false;
    if (length < sizeof(*udp) + SHORTEST_MESSAGE || udp_offset + length > skb->len)
        return false;
    datagram->offset = udp_offset + sizeof(*udp);
    datagram->length = length - sizeof(*udp);
    return true;
}

static __always_inline bool is_whole_udp(const struct iphdr* ip) {
    return ip->protocol == IPPROTO_UDP && ip->version == 4 && ip->ihl >= 5 &&
           !(ip->frag_off & bpf_htons(0x3fff));
}

static __always_inline bool is_udp_v6(const struct ipv6hdr* ip) {
    return ip->nexthdr == IPPROTO_UDP && ip->version == 6;
}

/* For IPv4 options, and for headers outside the linear part of the skb: legal, if rare. */
static __noinline int find_copied(struct __sk_buff* skb, __u32 l2_length, __u32 direction,
                                  struct datagram* datagram) {
    __u32 offset = l2_length;
    struct ipv6hdr v6;
    struct udphdr udp;
    struct iphdr v4;

    if (!datagram)
        return 0;
    if (skb->protocol == bpf_htons(ETH_P_IP)) {
        if (bpf_skb_load_bytes(skb, offset, &v4, sizeof(v4)) || !is_whole_udp(&v4))
            return 0;
        offset += v4.ihl * 4u;
    } else {
        if (bpf_skb_load_bytes(skb, offset, &v6, sizeof(v6)) || !is_udp_v6(&v6))
            return 0;
        offset += sizeof(v6);
    }
    return !bpf_skb_load_bytes(skb, offset, &udp, sizeof(udp)) &&
           is_ours(skb, &udp, offset, direction, datagram);
}

/* Extension headers of IPv6 are not followed: nothing puts any between WireGuard and the network. */
static __always_inline bool find(struct __sk_buff* skb, __u32 l2_length, enum traffic_direction direction,
                                 struct datagram* datagram) {
    const void* header = (void*)(long)skb->data + l2_length;
    const void* end = (void*)(long)skb->data_end;
    const struct udphdr* udp;
    __u32 offset;

    if (skb->protocol == bpf_htons(ETH_P_IP)) {
        const struct iphdr* ip = header;
        udp = header + sizeof(*ip);
        if ((const void*)(udp + 1) > end)
            return find_copied(skb, l2_length, direction, datagram);
        if (!is_whole_udp(ip))
            return false;
        if (ip->ihl != 5)
            return find_copied(skb, l2_length, direction, datagram);
        offset = l2_length + sizeof(*ip);
    } else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
        const struct ipv6hdr* ip = header;
        udp = header + sizeof(*ip);
        if ((const void*)(udp + 1) > end)
            return find_copied(skb, l2_length, direction, datagram);
        if (!is_udp_v6(ip))
            return false;
        offset = l2_length + sizeof(*ip);
    } else {
        return false;
    }
    return is_ours(skb, udp, offset, direction, datagram);
}

#endif /* PANGOLIN_BPF_DATAGRAM_BPF_H */
