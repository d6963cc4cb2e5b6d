/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Observes WireGuard handshakes by their messages on the network under a tunnel (WireGuard paper, section
 * 5.4). Attached to ingress and egress (tcx, or clsact below 6.6) of the devices that the messages pass;
 * passes every packet on untouched.
 */
#include <asm/byteorder.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/datagram.bpf.h"
#include "bpf/handshakes.bpf.h"
#include "bpf/mac1.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum { MESSAGE_INITIATION = 1, MESSAGE_RESPONSE, MESSAGE_COOKIE_REPLY, MESSAGE_DATA };
enum { INITIATION_LENGTH = 148, RESPONSE_LENGTH = 92, COOKIE_REPLY_LENGTH = 64 };
/* Words in front of mac1, which covers them. */
enum { INITIATION_MAC1_WORD = 29, RESPONSE_MAC1_WORD = 15 };
/* UDP_MAX_SEGMENTS of linux/udp.h; GRO joins 64 at most (UDP_GRO_CNT_MAX). */
enum { MAX_SEGMENTS = 128 };

enum { L3_DEVICE = 0, ETHERNET_DEVICE = ETH_HLEN };

/* New initiations that were made for this interface, and those that WireGuard replied to in any way. What
 * lies between the two for long came from nobody that it knows. */
__u64 valid_initiations = 0;
__u64 answered_initiations = 0;

/* An initiation as the reply names it. */
struct initiation {
    struct peer_endpoint remote;
    __u32 sender_index;
    __u32 reserved;
};
_Static_assert(sizeof(struct initiation) == 32, "no padding");

/* Both forget the oldest. Initiations that wait for the reply, for the time that WireGuard needs... */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 8192);
    __type(key, struct initiation);
    __type(value, struct mac1);
} pending_initiations SEC(".maps");

/* ...and those that WireGuard accepted, with the endpoint that they came from, to know replays by. */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 8192);
    __type(key, struct mac1);
    __type(value, struct peer_endpoint);
} accepted_initiations SEC(".maps");

/* What a run of the programs knows of the datagram; too large for the stack. */
struct workspace {
    struct peer_endpoint remote;
    __u32 l2_length;
    __u32 word[INITIATION_LENGTH / 4];
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct workspace);
} workspaces SEC(".maps");

static __always_inline struct workspace* this_workspace(void) {
    const __u32 only = 0;
    return bpf_map_lookup_elem(&workspaces, &only);
}

/*
 * Whether this host routes the packet on to another one: then a mac1 for another key is no forgery. An answer
 * that says nothing (no route, no forwarding) means that it does not.
 */
static __noinline int is_forwarded(struct __sk_buff* skb, __u32 l2_length) {
    struct bpf_fib_lookup route = {.ifindex = skb->ifindex, .l4_protocol = IPPROTO_UDP};
    long result;

    if (skb->protocol == bpf_htons(ETH_P_IP)) {
        route.family = 2; /* AF_INET */
        if (bpf_skb_load_bytes(skb, l2_length + offsetof(struct iphdr, saddr), &route.ipv4_src, 4) ||
            bpf_skb_load_bytes(skb, l2_length + offsetof(struct iphdr, daddr), &route.ipv4_dst, 4))
            return 0;
    } else {
        route.family = 10; /* AF_INET6 */
        if (bpf_skb_load_bytes(skb, l2_length + offsetof(struct ipv6hdr, saddr), route.ipv6_src, 16) ||
            bpf_skb_load_bytes(skb, l2_length + offsetof(struct ipv6hdr, daddr), route.ipv6_dst, 16))
            return 0;
    }
    result = bpf_fib_lookup(skb, &route, sizeof(route), 0);
    return result == BPF_FIB_LKUP_RET_SUCCESS || result > BPF_FIB_LKUP_RET_FWD_DISABLED;
}

static __always_inline void count_invalid_mac(struct __sk_buff* skb, const struct workspace* work) {
    if (!is_forwarded(skb, work->l2_length))
        count_anonymous_handshake(HANDSHAKE_INVALID_MAC);
}

static __always_inline struct handshake_identity identity_of(const struct peer_endpoint* remote) {
    struct handshake_identity identity = {.kind = HANDSHAKE_ENDPOINT};
    identity.endpoint = *remote;
    return identity;
}

static __noinline int receive_initiation(struct __sk_buff* skb, __u32 offset) {
    struct workspace* work = this_workspace();
    struct initiation initiation = {};
    const struct peer_endpoint* original;
    struct mac1 mac1;

    if (!work || bpf_skb_load_bytes(skb, offset, work->word, INITIATION_LENGTH))
        return -1;
    mac1 = mac1_at(work->word, INITIATION_MAC1_WORD);
    initiation.remote = work->remote;
    initiation.sender_index = work->word[1];
    if (!is_mac1(work->word, INITIATION_MAC1_WORD, &mac1)) {
        count_invalid_mac(skb, work);
        return 0;
    }
    original = bpf_map_lookup_elem(&accepted_initiations, &mac1);
    if (original) {
        struct handshake_identity identity = identity_of(original);
        count_handshake(&identity, HANDSHAKE_REPLAY);
        return 0;
    }
    bpf_map_update_elem(&pending_initiations, &initiation, &mac1, BPF_ANY);
    __sync_fetch_and_add(&valid_initiations, 1);
    return 0;
}

static __noinline int receive_response(struct __sk_buff* skb, __u32 offset) {
    struct workspace* work = this_workspace();
    struct mac1 mac1;
    __u32 receiver_index;

    if (!work || bpf_skb_load_bytes(skb, offset, work->word, RESPONSE_LENGTH))
        return -1;
    mac1 = mac1_at(work->word, RESPONSE_MAC1_WORD);
    receiver_index = work->word[2];
    if (!is_mac1(work->word, RESPONSE_MAC1_WORD, &mac1))
        count_invalid_mac(skb, work);
    else if (open_handshakes)
        end_handshake(receiver_index, HANDSHAKE_INITIATOR, HANDSHAKE_SUCCESS);
    return 0;
}

struct message_head {
    __u32 type; /* one byte, three reserved ones that are 0 */
    __u32 index[2];
};

/* Not static, and neither is send_message(): the verifier looks at such functions once instead of once for
 * each segment. */
__noinline int receive_message(struct __sk_buff* skb, __u32 offset, __u32 length) {
    struct message_head head;

    if (length < SHORTEST_MESSAGE || bpf_skb_load_bytes(skb, offset, &head, sizeof(head)))
        return -1;
    switch (__le32_to_cpu(head.type)) {
        case MESSAGE_INITIATION:
            if (length == INITIATION_LENGTH)
                receive_initiation(skb, offset);
            break;
        case MESSAGE_RESPONSE:
            if (length == RESPONSE_LENGTH)
                receive_response(skb, offset);
            break;
        case MESSAGE_COOKIE_REPLY:
            /* The far side can be under load as an initiator as well; the reply is then to our response. */
            if (length == COOKIE_REPLY_LENGTH && open_handshakes &&
                !end_handshake(head.index[0], HANDSHAKE_INITIATOR, HANDSHAKE_COOKIE_REPLY))
                end_handshake(head.index[0], HANDSHAKE_RESPONDER, HANDSHAKE_COOKIE_REPLY);
            break;
        case MESSAGE_DATA:
            if (open_handshakes)
                end_handshake(head.index[0], HANDSHAKE_RESPONDER, HANDSHAKE_SUCCESS);
            break;
    }
    return 0;
}

/* False when it has begun already: of two stacked devices, both see the message. */
static __always_inline bool begin_with(const struct peer_endpoint* remote, __u32 local_index, __u32 role) {
    struct handshake_identity identity = identity_of(remote);

    if (bpf_map_lookup_elem(&handshakes, &local_index))
        return false;
    begin_handshake(local_index, &identity, role);
    return true;
}

static __always_inline void accept_initiation(const struct peer_endpoint* remote, __u32 sender_index) {
    struct initiation initiation = {.remote = *remote, .sender_index = sender_index};
    const struct mac1* pending = bpf_map_lookup_elem(&pending_initiations, &initiation);
    struct mac1 mac1;

    if (!pending)
        return;
    mac1 = *pending;
    bpf_map_update_elem(&accepted_initiations, &mac1, remote, BPF_ANY);
    bpf_map_delete_elem(&pending_initiations, &initiation);
}

__noinline int send_message(struct __sk_buff* skb, __u32 offset, __u32 length) {
    struct workspace* work = this_workspace();
    struct peer_endpoint remote;
    struct message_head head;

    if (!work || length < SHORTEST_MESSAGE || bpf_skb_load_bytes(skb, offset, &head, sizeof(head)))
        return -1;
    remote = work->remote;
    switch (__le32_to_cpu(head.type)) {
        case MESSAGE_INITIATION:
            if (length == INITIATION_LENGTH)
                begin_with(&remote, head.index[0], HANDSHAKE_INITIATOR);
            break;
        case MESSAGE_RESPONSE:
            if (length != RESPONSE_LENGTH || !begin_with(&remote, head.index[0], HANDSHAKE_RESPONDER))
                break;
            accept_initiation(&remote, head.index[1]);
            __sync_fetch_and_add(&answered_initiations, 1);
            break;
        case MESSAGE_COOKIE_REPLY:
            if (length != COOKIE_REPLY_LENGTH)
                break;
            __sync_fetch_and_add(&answered_initiations, 1);
            count_anonymous_handshake(HANDSHAKE_COOKIE_REPLY);
            break;
    }
    return 0;
}

static __noinline int read_remote(struct __sk_buff* skb, __u32 l2_length, __u32 direction,
                                  __u32 message_offset) {
    struct workspace* work = this_workspace();
    const bool is_ingress = direction == TRAFFIC_INGRESS;
    __be32 address[4] = {};
    __be16 port = 0;
    long failed;

    if (!work)
        return -1;
    work->l2_length = l2_length;
    work->remote.is_v6 = skb->protocol != bpf_htons(ETH_P_IP);
    if (work->remote.is_v6) {
        failed = bpf_skb_load_bytes(
            skb, l2_length + (is_ingress ? offsetof(struct ipv6hdr, saddr) : offsetof(struct ipv6hdr, daddr)),
            address, sizeof(address));
    } else {
        address[2] = bpf_htonl(0xffff);
        failed = bpf_skb_load_bytes(
            skb, l2_length + (is_ingress ? offsetof(struct iphdr, saddr) : offsetof(struct iphdr, daddr)),
            &address[3], sizeof(address[3]));
    }
    failed |=
        bpf_skb_load_bytes(skb,
                           message_offset - sizeof(struct udphdr) +
                               (is_ingress ? offsetof(struct udphdr, source) : offsetof(struct udphdr, dest)),
                           &port, sizeof(port));
    work->remote.address.high = (__u64)bpf_ntohl(address[0]) << 32 | bpf_ntohl(address[1]);
    work->remote.address.low = (__u64)bpf_ntohl(address[2]) << 32 | bpf_ntohl(address[3]);
    work->remote.port = bpf_ntohs(port);
    return failed ? -1 : 0;
}

/* Whether a message of this length can change anything, before anybody looks into it. */
static __always_inline bool may_matter(__u32 length, enum traffic_direction direction) {
    return length == INITIATION_LENGTH || length == RESPONSE_LENGTH || length == COOKIE_REPLY_LENGTH ||
           (direction == TRAFFIC_INGRESS && open_handshakes);
}

/*
 * The segments of a super-packet have one size, but for the last, which may be shorter. Among data of another
 * size, a handshake message can thus only be the last.
 */
static __always_inline void observe_segments(struct __sk_buff* skb, const struct datagram* datagram,
                                             __u32 segment, enum traffic_direction direction) {
    const __u32 end = datagram->offset + datagram->length;
    const __u32 last = datagram->length % segment;
    __u32 offset = datagram->offset;

    if (!may_matter(segment, direction)) {
        if (!may_matter(last, direction))
            return;
        offset = end - last;
    }
    for (int i = 0; i < MAX_SEGMENTS; i++) {
        __u32 length = end - offset;

        if (offset >= end)
            return;
        if (length > segment)
            length = segment;
        if (direction == TRAFFIC_INGRESS)
            receive_message(skb, offset, length);
        else
            send_message(skb, offset, length);
        offset += length;
    }
}

static __always_inline int observe(struct __sk_buff* skb, __u32 l2_length, enum traffic_direction direction) {
    struct datagram datagram = {};
    __u32 segment = skb->gso_size;

    if (!listen_port || !find(skb, l2_length, direction, &datagram))
        return TC_ACT_UNSPEC;
    if (!segment || segment > datagram.length)
        segment = datagram.length;
    if (!may_matter(segment, direction) && !may_matter(datagram.length % segment, direction))
        return TC_ACT_UNSPEC;
    /* The VLAN device sees a packet with a tag again, without it. */
    if (skb->vlan_present)
        return TC_ACT_UNSPEC;
    /* Packets for other hosts: a mirrored port's, or a macvlan device's; and, on their way out, those that
     * are only forwarded and happen to have our port. */
    if (direction == TRAFFIC_INGRESS ? skb->pkt_type == PACKET_OTHERHOST : skb->ingress_ifindex != 0)
        return TC_ACT_UNSPEC;
    if (!read_remote(skb, l2_length, direction, datagram.offset))
        observe_segments(skb, &datagram, segment, direction);
    /* TC_ACT_UNSPEC is TCX_NEXT: whoever else is attached here gets the packet next. */
    return TC_ACT_UNSPEC;
}

SEC("tcx/ingress")
int underlay_ingress(struct __sk_buff* skb) {
    return observe(skb, ETHERNET_DEVICE, TRAFFIC_INGRESS);
}

SEC("tcx/egress")
int underlay_egress(struct __sk_buff* skb) {
    return observe(skb, ETHERNET_DEVICE, TRAFFIC_EGRESS);
}

SEC("tcx/ingress")
int underlay_ingress_l3(struct __sk_buff* skb) {
    return observe(skb, L3_DEVICE, TRAFFIC_INGRESS);
}

SEC("tcx/egress")
int underlay_egress_l3(struct __sk_buff* skb) {
    return observe(skb, L3_DEVICE, TRAFFIC_EGRESS);
}
