/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Reads the headers of a packet of a traffic program: who is at its far end, and what it is on the wire. */
#ifndef PANGOLIN_BPF_TRAFFIC_PACKET_BPF_H
#define PANGOLIN_BPF_TRAFFIC_PACKET_BPF_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/shared/traffic.h"

/* WireGuard has no link-layer header: 0. BPF_PROG_RUN and veth have 14. */
const volatile __u32 l2_length = 0;

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, TRAFFIC_DIRECTIONS* TRAFFIC_UNDECODABLE_REASONS);
    __type(key, __u32);
    __type(value, __u64);
} undecodable SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, TRAFFIC_LOSS_REASONS);
    __type(key, __u32);
    __type(value, __u64);
} losses SEC(".maps");

struct packet {
    struct route_address remote;
    __u32 length;         /* IP bytes in this skb */
    __u32 network_length; /* IP header with its options or extension headers */
    __u8 protocol;        /* IPPROTO_* */
    bool is_v6;
    bool has_transport_header; /* false for later fragments and for chains that end early */
    bool is_v6_fragment;       /* any fragment, the first one included */
    __be32 v6_fragment_id;
};

static __always_inline void increment(void* map, __u32 key) {
    __u64* value = bpf_map_lookup_elem(map, &key);
    if (value)
        *value += 1;
}

static __always_inline int undecodable_packet(enum traffic_direction direction,
                                              enum traffic_undecodable reason) {
    increment(&undecodable, direction * TRAFFIC_UNDECODABLE_REASONS + reason);
    return -1;
}

static __always_inline struct route_address mapped_v4(__be32 address) {
    struct route_address mapped = {0, 0x0000ffff00000000ULL | bpf_ntohl(address)};
    return mapped;
}

static __always_inline struct route_address number_v6(const struct in6_addr* address) {
    struct route_address number = {
        (__u64)bpf_ntohl(address->in6_u.u6_addr32[0]) << 32 | bpf_ntohl(address->in6_u.u6_addr32[1]),
        (__u64)bpf_ntohl(address->in6_u.u6_addr32[2]) << 32 | bpf_ntohl(address->in6_u.u6_addr32[3]),
    };
    return number;
}

static __always_inline int decode_v4(const struct iphdr* ip, enum traffic_direction direction,
                                     struct packet* packet) {
    packet->network_length = ip->ihl * 4u;
    if (packet->network_length < sizeof(*ip) || packet->network_length > packet->length)
        return undecodable_packet(direction, TRAFFIC_BAD_HEADER_LENGTH);
    packet->is_v6 = false;
    packet->protocol = ip->protocol;
    packet->has_transport_header = !(ip->frag_off & bpf_htons(0x1fff));
    packet->remote = mapped_v4(direction == TRAFFIC_INGRESS ? ip->saddr : ip->daddr);
    return 0;
}

static __always_inline bool is_extension_header(__u8 next) {
    return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_FRAGMENT ||
           next == IPPROTO_DSTOPTS || next == IPPROTO_AH || next == 135 /* mobility, RFC 6275 */;
}

/*
 * Follows the chain of extension headers (RFC 8200 section 4) for at most eight of them, more than any
 * stack sends. A chain that is cut off or longer leaves the protocol at the header that was not followed,
 * which counts as "other"; the packet's bytes are counted all the same.
 */
static __always_inline void follow_extension_headers(struct __sk_buff* skb, struct packet* packet) {
    for (int i = 0; i < 8; i++) {
        struct {
            __u8 next;
            __u8 length;
            __be16 fragment_offset;
            __be32 fragment_id;
        } header;

        if (!is_extension_header(packet->protocol))
            return;
        if (packet->network_length + 8 > packet->length ||
            bpf_skb_load_bytes(skb, l2_length + packet->network_length, &header, sizeof(header)))
            break;
        if (packet->protocol == IPPROTO_FRAGMENT) {
            packet->network_length += 8;
            packet->protocol = header.next;
            /* Offset 0 and no more to follow is a whole packet (RFC 6946). */
            if (header.fragment_offset & bpf_htons(0xfff9)) {
                packet->is_v6_fragment = true;
                packet->v6_fragment_id = header.fragment_id;
            }
            if (header.fragment_offset & bpf_htons(0xfff8)) {
                packet->has_transport_header = false;
                return;
            }
            continue;
        }
        /* Authentication header lengths count 4 bytes, less 2 (RFC 4302); the others 8 bytes, less 1. */
        packet->network_length +=
            packet->protocol == IPPROTO_AH ? (header.length + 2u) * 4 : (header.length + 1u) * 8;
        packet->protocol = header.next;
    }
    if (is_extension_header(packet->protocol))
        packet->has_transport_header = false;
}

static __always_inline void decode_v6(struct __sk_buff* skb, const struct ipv6hdr* ip,
                                      enum traffic_direction direction, struct packet* packet) {
    packet->is_v6 = true;
    packet->network_length = sizeof(*ip);
    packet->protocol = ip->nexthdr;
    packet->has_transport_header = true;
    packet->remote = number_v6(direction == TRAFFIC_INGRESS ? &ip->saddr : &ip->daddr);
    if (packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP)
        follow_extension_headers(skb, packet);
}

/* For a header outside the linear part of the skb: legal, if rare. */
static __noinline int decode_copy(struct __sk_buff* skb, enum traffic_direction direction,
                                  struct packet* packet) {
    union {
        __u8 version;
        struct iphdr v4;
        struct ipv6hdr v6;
    } copy = {};

    if (!packet)
        return -1;
    if (bpf_skb_load_bytes(skb, l2_length, &copy.v4, sizeof(copy.v4)))
        return undecodable_packet(direction, TRAFFIC_TRUNCATED);
    if (copy.version >> 4 == 4)
        return decode_v4(&copy.v4, direction, packet);
    if (copy.version >> 4 != 6)
        return undecodable_packet(direction, TRAFFIC_BAD_VERSION);
    if (bpf_skb_load_bytes(skb, l2_length, &copy.v6, sizeof(copy.v6)))
        return undecodable_packet(direction, TRAFFIC_TRUNCATED);
    decode_v6(skb, &copy.v6, direction, packet);
    return 0;
}

/* Finds the remote address and protocol; returns -1 after counting a packet that has none. */
static __always_inline int decode(struct __sk_buff* skb, enum traffic_direction direction,
                                  struct packet* packet) {
    const void* header = (void*)(long)skb->data + l2_length;
    const void* end = (void*)(long)skb->data_end;

    if (skb->len < l2_length + sizeof(struct iphdr))
        return undecodable_packet(direction, TRAFFIC_TRUNCATED);
    packet->length = skb->len - l2_length;

    if (header + sizeof(struct iphdr) <= end && *(const __u8*)header >> 4 == 4)
        return decode_v4(header, direction, packet);
    if (header + sizeof(struct ipv6hdr) <= end && *(const __u8*)header >> 4 == 6) {
        decode_v6(skb, header, direction, packet);
        return 0;
    }
    return decode_copy(skb, direction, packet);
}

/*
 * What a GSO or GRO super-packet is on the wire: its segments repeat the network and transport headers.
 * gso_segs is not set for packets that entered through a TUN device, so the count is worked out from
 * gso_size.
 */
static __always_inline void wire_size(struct __sk_buff* skb, const struct packet* packet, __u64* packets,
                                      __u64* bytes) {
    __u32 gso_size = skb->gso_size;
    __u32 header_length = packet->network_length;
    __u32 segments;

    *packets = 1;
    *bytes = packet->length;
    if (!gso_size)
        return;
    if (packet->protocol == IPPROTO_TCP && packet->has_transport_header) {
        __u8 data_offset;
        /* Below 5 words it is no TCP header (RFC 9293): what the segments are cannot be known. */
        if (bpf_skb_load_bytes(skb, l2_length + packet->network_length + 12, &data_offset, 1) ||
            data_offset >> 4 < 5) {
            increment(&losses, TRAFFIC_LOSS_GSO_HEADER);
            return;
        }
        header_length += (data_offset >> 4) * 4u;
    } else if (packet->protocol == IPPROTO_UDP && packet->has_transport_header) {
        header_length += 8;
    } else {
        increment(&losses, TRAFFIC_LOSS_GSO_HEADER);
        return;
    }
    if (packet->length <= header_length)
        return;
    segments = (packet->length - header_length + gso_size - 1) / gso_size;
    *packets = segments;
    *bytes += (__u64)(segments - 1) * header_length;
}

static __always_inline enum traffic_protocol protocol_of(const struct packet* packet) {
    switch (packet->protocol) {
        case IPPROTO_TCP:
            return TRAFFIC_TCP;
        case IPPROTO_UDP:
            return TRAFFIC_UDP;
        case IPPROTO_ICMP:
            return packet->is_v6 ? TRAFFIC_OTHER : TRAFFIC_ICMP;
        case IPPROTO_ICMPV6:
            return packet->is_v6 ? TRAFFIC_ICMP : TRAFFIC_OTHER;
        default:
            return TRAFFIC_OTHER;
    }
}

#endif /* PANGOLIN_BPF_TRAFFIC_PACKET_BPF_H */
