/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The time that connections to PostgreSQL wait: from the first byte that one sends (its startup, a query) to
 * the server's ReadyForQuery, which ends each answer (PostgreSQL's documentation, chapter 55,
 * "Frontend/Backend Protocol"). Attached to the cgroup of who connects, so that the packets of all others
 * cost nothing. Passes every packet on.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <stdbool.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bpf/gate.bpf.h"
#include "bpf/kernel_types.bpf.h"
#include "bpf/same_netns.bpf.h"
#include "bpf/shared/postgres_wait.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum {
    /* 'Z', its length of 5, and a byte of which state the session is in. */
    READY_BYTES = 6,
    /* What asks for encryption: a length of 8 and a code; answered with one byte. */
    ENCRYPTION_REQUEST_BYTES = 8,
    /* Pangolin's pool has 20 (server/db/pg/driver.ts). */
    MOST_CONNECTIONS = 1024,
};

/* Set by userspace: who connects, and to which port. They stay while nobody is there to follow who connects.
 */
__u32 netns_inode = 0;
__u64 netns_cookie = 0;
__u32 server_port = 0;

struct connection {
    __u64 begin; /* of the wait; 0 for none */
    __u8 tail[READY_BYTES];
    __u8 asks_encryption;
    __u8 is_encrypted;
};

/* By the socket's cookie. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, MOST_CONNECTIONS);
    __type(key, __u64);
    __type(value, struct connection);
} connections SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct postgres_wait);
} waits SEC(".maps");

static __always_inline struct postgres_wait* counts(void) {
    __u32 first = 0;
    return bpf_map_lookup_elem(&waits, &first);
}

/* Where the segment's payload begins; 0 when it has none. A socket's own packets have no IPv6 extension
 * headers. */
static __always_inline __u32 payload_offset(struct __sk_buff* skb) {
    __u32 offset = sizeof(struct ipv6hdr);
    __u8 byte;

    if (bpf_skb_load_bytes(skb, 0, &byte, 1))
        return 0;
    if (byte >> 4 == 4) {
        offset = (byte & 15) * 4;
    } else {
        if (bpf_skb_load_bytes(skb, __builtin_offsetof(struct ipv6hdr, nexthdr), &byte, 1) ||
            byte != IPPROTO_TCP)
            return 0;
    }
    /* The byte with the header's length, which is a bit field of struct tcphdr. */
    if (bpf_skb_load_bytes(skb, offset + 12, &byte, 1))
        return 0;
    offset += (byte >> 4) * 4;
    return skb->len > offset ? offset : 0;
}

static __always_inline bool is_ours(struct bpf_sock* sk) {
    const struct tcp_sock* tcp = (void*)bpf_skc_to_tcp_sock(sk);

    return tcp && is_same_netns(BPF_CORE_READ((const struct sock_common*)tcp, skc_net.net), netns_inode,
                                netns_cookie);
}

static __always_inline struct connection* add_connection(struct __sk_buff* skb, __u64 cookie) {
    const struct connection fresh = {};
    struct postgres_wait* sum = counts();
    struct bpf_sock* sk = skb->sk ? bpf_sk_fullsock(skb->sk) : NULL;

    if (!sk || !is_ours(sk))
        return NULL;
    if (bpf_map_update_elem(&connections, &cookie, &fresh, BPF_NOEXIST) && sum)
        sum->lost++;
    return bpf_map_lookup_elem(&connections, &cookie);
}

static __noinline int sent(struct __sk_buff* skb) {
    __u64 cookie = bpf_get_socket_cookie(skb);
    __u32 offset = payload_offset(skb);
    struct connection* c;
    __be32 request[2];

    if (!offset)
        return 0;
    c = bpf_map_lookup_elem(&connections, &cookie);
    if (!c)
        c = add_connection(skb, cookie);
    if (!c || c->is_encrypted)
        return 0;
    if (!c->begin)
        c->begin = bpf_ktime_get_ns();
    c->asks_encryption = skb->len - offset == ENCRYPTION_REQUEST_BYTES &&
                         !bpf_skb_load_bytes(skb, offset, request, sizeof(request)) &&
                         request[0] == bpf_htonl(ENCRYPTION_REQUEST_BYTES) &&
                         (request[1] == bpf_htonl(80877103) || request[1] == bpf_htonl(80877104));
    return 0;
}

/* Keeps the last bytes that arrived: a segment may hold but a part of a message. */
static __always_inline void keep_tail(struct __sk_buff* skb, struct connection* c, __u32 offset) {
    __u32 size = skb->len - offset;

    if (size >= READY_BYTES) {
        bpf_skb_load_bytes(skb, skb->len - READY_BYTES, c->tail, READY_BYTES);
        return;
    }
    for (__u32 i = 0; i < READY_BYTES - 1; i++) {
        if (i >= size)
            break;
        for (int at = 0; at < READY_BYTES - 1; at++)
            c->tail[at] = c->tail[at + 1];
        bpf_skb_load_bytes(skb, offset + i, &c->tail[READY_BYTES - 1], 1);
    }
}

static __always_inline bool is_ready(const __u8* tail) {
    return tail[0] == 'Z' && !tail[1] && !tail[2] && !tail[3] && tail[4] == READY_BYTES - 1 &&
           (tail[5] == 'I' || tail[5] == 'T' || tail[5] == 'E');
}

static __noinline int arrived(struct __sk_buff* skb) {
    __u64 cookie = bpf_get_socket_cookie(skb);
    struct connection* c = bpf_map_lookup_elem(&connections, &cookie);
    struct postgres_wait* sum = counts();
    __u32 offset;

    if (!c || !sum || c->is_encrypted)
        return 0;
    offset = payload_offset(skb);
    if (!offset)
        return 0;
    keep_tail(skb, c, offset);
    if (c->asks_encryption) {
        c->asks_encryption = 0;
        if (skb->len - offset == 1 && (c->tail[READY_BYTES - 1] == 'S' || c->tail[READY_BYTES - 1] == 'G')) {
            c->is_encrypted = 1;
            sum->encrypted++;
        }
        return 0;
    }
    if (!c->begin || !is_ready(c->tail))
        return 0;
    sum->wait_ns += bpf_ktime_get_ns() - c->begin;
    sum->waits++;
    c->begin = 0;
    return 0;
}

static __always_inline bool is_to_server(const struct __sk_buff* skb) {
    return skb->sk && server_port && bpf_ntohs(skb->sk->dst_port) == server_port;
}

SEC("cgroup_skb/ingress")
int postgres_ingress(struct __sk_buff* skb) {
    if (is_to_server(skb))
        arrived(skb);
    return 1;
}

SEC("cgroup_skb/egress")
int postgres_egress(struct __sk_buff* skb) {
    if (is_to_server(skb))
        sent(skb);
    return 1;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(postgres_socket_closed, const struct sock* sk, int old_state, int new_state) {
    __u64 cookie;

    if (!is_in_force() || new_state != BPF_TCP_CLOSE)
        return 0;
    cookie = BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
    bpf_map_delete_elem(&connections, &cookie);
    return 0;
}
