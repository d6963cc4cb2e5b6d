/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets that the kernel drops on their way through the tunnels of one WireGuard interface, and encrypted
 * ones underneath. kfree_skb fires for every dropped packet of the machine, so that most are none of ours.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <stdbool.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bpf/gate.bpf.h"
#include "bpf/kernel_types.bpf.h"
#include "bpf/peer_lookup.bpf.h"
#include "bpf/shared/tunnel.h"
#include "bpf/watched_netns.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile __u32 interface_index = 0;
/* kfree_skb has the reason since Linux 5.17 and the receiving socket since 6.11. */
const volatile bool has_reason = false;
const volatile bool has_receiver = false;
/* Reasons that are no drops. */
enum { BENIGN_REASONS = 4 };
const volatile __u32 benign_reasons[BENIGN_REASONS] = {};
const volatile __u32 benign_reason_count = 0;
/* Before Linux 6.3 every ICMPv6 message ends so, also one that was answered, for no reason that is given. */
const volatile bool icmpv6_ends_here = false;
const volatile __u32 unspecified_reason = 0;
/* Where the WireGuard module's code is; both 0 without it. */
const volatile __u64 wireguard_begin = 0;
const volatile __u64 wireguard_end = 0;

/* UDP port of the interface, host order; 0 for none. */
__u32 listen_port = 0;

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 1);
    __type(key, struct drop_key);
    __type(value, __u64);
} drop_counts SEC(".maps");

/* Packets that found `drop_counts` full. */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} drop_losses SEC(".maps");

/* Where the packet is. `netns` is 0 when nothing of the packet tells it any more. */
struct place {
    __u32 netns;
    int from;    /* interface on which it came, 0 for packets of this host */
    int through; /* interface that it is on */
    int to;      /* interface to which it is routed */
};

struct packet {
    struct peer_address_key source;
    struct peer_address_key destination;
    __u32 header_length; /* IP */
    __u32 offset;        /* of the IP header, from skb->head */
    __u16 source_port;   /* host order; 0 unless it is UDP */
    __u16 destination_port;
    __u8 protocol; /* IPPROTO_*; 0 when there is no transport header in this packet */
};

static __always_inline void add_drops(const struct drop_key* key, __u64 packets) {
    static const __u64 zero = 0;
    __u32 first = 0;
    __u64* count = bpf_map_lookup_elem(&drop_counts, key);

    if (!count) {
        /* Another CPU may have been faster: what counts is whether the element is there afterwards. */
        bpf_map_update_elem(&drop_counts, key, &zero, BPF_NOEXIST);
        count = bpf_map_lookup_elem(&drop_counts, key);
    }
    if (count) {
        __sync_fetch_and_add(count, packets);
        return;
    }
    count = bpf_map_lookup_elem(&drop_losses, &first);
    if (count)
        *count += packets;
}

static __always_inline bool is_benign(__u32 reason) {
    for (__u32 i = 0; i < BENIGN_REASONS; i++) {
        if (i < benign_reason_count && benign_reasons[i] == reason)
            return true;
    }
    return false;
}

static __always_inline __u32 netns_of_device(const struct net_device* device) {
    return device ? netns_number(BPF_CORE_READ(device, nd_net.net)) : 0;
}

static __always_inline __u32 netns_of_socket(const struct sock* sk) {
    return sk ? netns_number(BPF_CORE_READ(sk, __sk_common.skc_net.net)) : 0;
}

/* Some protocols keep something else in skb->dev while a packet is theirs (udp_set_dev_scratch in
 * net/ipv4/udp.c): reading such an address fails, and reads as 0. */
static __always_inline void locate(const struct sk_buff* skb, const struct sock* receiver,
                                   struct place* place) {
    const struct net_device* device = BPF_CORE_READ(skb, dev);
    const struct dst_entry* route = (const void*)(BPF_CORE_READ(skb, _skb_refdst) & ~1UL);
    const struct net_device* target = route ? BPF_CORE_READ(route, dev) : NULL;

    place->netns = netns_of_device(device);
    if (!place->netns)
        place->netns = netns_of_socket(BPF_CORE_READ(skb, sk));
    if (!place->netns)
        place->netns = netns_of_device(target);
    if (!place->netns)
        place->netns = netns_of_socket(receiver);
    place->from = BPF_CORE_READ(skb, skb_iif);
    place->through = device ? BPF_CORE_READ(device, ifindex) : 0;
    place->to = target ? BPF_CORE_READ(target, ifindex) : 0;
}

static __always_inline int read_v4(const unsigned char* at, struct packet* packet) {
    struct iphdr ip;

    if (bpf_probe_read_kernel(&ip, sizeof(ip), at) || ip.ihl < 5)
        return -1;
    set_v4_key(&packet->source, ip.saddr);
    set_v4_key(&packet->destination, ip.daddr);
    packet->header_length = ip.ihl * 4;
    packet->protocol = ip.frag_off & bpf_htons(0x1fff) ? 0 : ip.protocol;
    return 0;
}

static __always_inline int read_v6(const unsigned char* at, struct packet* packet) {
    struct ipv6hdr ip;

    if (bpf_probe_read_kernel(&ip, sizeof(ip), at))
        return -1;
    set_v6_key(&packet->source, &ip.saddr);
    set_v6_key(&packet->destination, &ip.daddr);
    packet->header_length = sizeof(ip);
    packet->protocol = ip.nexthdr;
    return 0;
}

static __always_inline int read_packet(const struct sk_buff* skb, struct packet* packet) {
    const unsigned char* at = BPF_CORE_READ(skb, head) + packet->offset;
    struct udphdr udp;
    __u8 version;

    if (bpf_probe_read_kernel(&version, sizeof(version), at))
        return -1;
    if (version >> 4 == 4) {
        if (read_v4(at, packet))
            return -1;
    } else if (version >> 4 != 6 || read_v6(at, packet)) {
        return -1;
    }
    if (packet->protocol == IPPROTO_UDP &&
        !bpf_probe_read_kernel(&udp, sizeof(udp), at + packet->header_length)) {
        packet->source_port = bpf_ntohs(udp.source);
        packet->destination_port = bpf_ntohs(udp.dest);
    }
    return 0;
}

/* Whether the skb is a part of a packet that GRO put together, freed after the whole, which was counted with
 * all of its parts: it never came to the network layer, and yet that layer's header is behind it. */
static __always_inline bool is_part_of_another(const struct sk_buff* skb, const struct place* place,
                                               __u32 network_header) {
    return !place->from && BPF_CORE_READ(skb, data) - BPF_CORE_READ(skb, head) > network_header;
}

/* What a super-packet is on the wire. gso_segs is not set for those that entered through a TUN device. */
static __always_inline __u64 wire_packets(const struct sk_buff* skb, const struct packet* packet) {
    const unsigned char* head = BPF_CORE_READ(skb, head);
    const struct skb_shared_info* info = (const void*)(head + BPF_CORE_READ(skb, end));
    __u32 gso_size = BPF_CORE_READ(info, gso_size);
    __u32 segments = BPF_CORE_READ(info, gso_segs);
    __u32 headers = packet->header_length;
    __u32 length;
    __u8 tcp_words = 0;

    if (!gso_size || segments)
        return segments ?: 1;
    if (packet->protocol == IPPROTO_TCP) {
        bpf_probe_read_kernel(&tcp_words, 1, head + packet->offset + headers + 12);
        headers += (tcp_words >> 4) * 4;
    } else {
        headers += sizeof(struct udphdr);
    }
    /* Layers that have taken their headers off moved `data` past `offset`, and `len` with it. */
    length = BPF_CORE_READ(skb, len) + (__u32)(BPF_CORE_READ(skb, data) - head) - packet->offset;
    return length > headers ? (length - headers + gso_size - 1) / gso_size : 1;
}

static __always_inline bool in_wireguard(__u64 location) {
    return location >= wireguard_begin && location < wireguard_end;
}

/* Of a packet on the interface that came from no interface, the addresses tell whether it enters or leaves:
 * it may be of this host, or have been dropped before the network layer took it. */
static __always_inline void count_in_tunnel(const struct sk_buff* skb, const struct place* place,
                                            const struct packet* packet, struct drop_key* key) {
    key->direction = TRAFFIC_EGRESS;
    if (place->from == (int)interface_index) {
        key->direction = TRAFFIC_INGRESS;
        key->slot = slot_of_address(&packet->source);
    } else {
        key->slot = slot_of_address(&packet->destination);
        if (!key->slot && !place->from && place->to != (int)interface_index) {
            key->slot = slot_of_address(&packet->source);
            if (key->slot)
                key->direction = TRAFFIC_INGRESS;
        }
    }
    add_drops(key, wire_packets(skb, packet));
}

/* Says whether the packet is an encrypted one of the interface, and counts it then. One whose namespace is
 * unknown is ours when it came from a peer's endpoint. */
static __always_inline bool count_in_underlay(const struct sk_buff* skb, const struct place* place,
                                              const struct packet* packet, struct drop_key* key) {
    if (!listen_port || packet->protocol != IPPROTO_UDP)
        return false;
    key->place = DROP_IN_UNDERLAY;
    key->direction = TRAFFIC_INGRESS;
    if (packet->destination_port == listen_port) {
        key->slot = slot_of_endpoint(&packet->source, packet->source_port);
        if (key->slot || (place->from && place->netns)) {
            add_drops(key, wire_packets(skb, packet));
            return true;
        }
    }
    key->direction = TRAFFIC_EGRESS;
    if (packet->source_port != listen_port || place->from || !place->netns)
        return false;
    key->slot = slot_of_endpoint(&packet->destination, packet->destination_port);
    add_drops(key, wire_packets(skb, packet));
    return true;
}

SEC("tp_btf/kfree_skb")
int count_drop(__u64* context) {
    const struct sk_buff* skb = (const void*)context[0];
    const struct sock* receiver = NULL;
    struct drop_key key = {};
    struct packet packet = {};
    struct place place;
    bool through_tunnel;
    bool readable;

    if (!is_in_force())
        return 0;
    if (has_reason) {
        key.reason = (__u32)context[2];
        if (is_benign(key.reason))
            return 0;
    }
    if (has_receiver)
        receiver = (const void*)context[3];
    locate(skb, receiver, &place);
    if (place.netns && place.netns != netns_inode)
        return 0;
    packet.offset = BPF_CORE_READ(skb, network_header);
    if (is_part_of_another(skb, &place, packet.offset))
        return 0;
    readable = !read_packet(skb, &packet);
    if (icmpv6_ends_here && key.reason == unspecified_reason && packet.protocol == IPPROTO_ICMPV6)
        return 0;
    through_tunnel = place.from == (int)interface_index || place.to == (int)interface_index;
    if (readable && !through_tunnel && count_in_underlay(skb, &place, &packet, &key))
        return 0;
    if (!place.netns || (!through_tunnel && place.through != (int)interface_index))
        return 0;
    key.place = in_wireguard(context[1]) ? DROP_IN_WIREGUARD : DROP_IN_TUNNEL;
    count_in_tunnel(skb, &place, &packet, &key);
    return 0;
}
