/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * HTTP/1.1 on TCP sockets: connections to targets (shared/sockets.h), counted by target; and connections to
 * Pangolin's own services, of which every exchange is an event. Attached to the cgroup-v2 root, so that the
 * sockets of all containers pass here, on loopback too. Passes every packet on.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <stdbool.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bpf/gate.bpf.h"
#include "bpf/http_packet.bpf.h"
#include "bpf/http_stream.bpf.h"
#include "bpf/kernel_types.bpf.h"
#include "bpf/target_sockets.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Ports of targets, and of services, in any namespace: a bit each. All other packets cost no more than the
 * look at these. */
__u64 target_ports[HTTP_PORT_WORDS] = {};
__u64 service_ports[HTTP_PORT_WORDS] = {};

/* The value means nothing. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 1024);
    __type(key, struct http_service_key);
    __type(value, __u32);
} http_services SEC(".maps");

static __always_inline bool has_port(const __u64* ports, __u32 port) {
    return ports[(port >> 6) & (HTTP_PORT_WORDS - 1)] >> (port & 63) & 1;
}

/* About a microsecond, in which other CPUs have their cache lines. Global, so that the verifier looks into it
 * once. */
__noinline int http_pause(void) {
    for (int i = 0; i < 40; i++)
        bpf_ktime_get_ns();
    return 0;
}

/*
 * Sent segments pass under the socket's lock. Arriving ones do not: should two CPUs have some of one socket
 * at the same time, the second one waits a little, because the first one may be interrupted by its devices.
 */
static __always_inline bool enter(struct http_stream* s) {
    for (int attempt = 0; attempt < 64; attempt++) {
        __sync_fetch_and_add(&s->busy, 1);
        if (HTTP_RELOAD(s->busy) == 1)
            return true;
        __sync_fetch_and_add(&s->busy, -1);
        http_pause();
    }
    http_add_total(HTTP_LOSS_CONCURRENT, 1);
    return false;
}

static __always_inline void leave(struct http_stream* s) {
    __sync_fetch_and_add(&s->busy, -1);
}

/* A connection is known from its SYN on, or from the first request that is seen to begin. */
static __noinline struct http_connection* add_connection(struct __sk_buff* skb, __u64 cookie, __u32 target,
                                                         const struct http_segment* segment) {
    static const struct http_connection zero = {};
    struct http_connection* c;

    if (!(segment->flags & TCP_FLAG_SYN_BIT) && !http_begins_request(skb, segment))
        return NULL;
    c = HTTP_FIND_OR_ADD(&http_connections, &cookie, &zero);
    if (c)
        c->target = target;
    else
        http_add_total(HTTP_LOSS_CONNECTIONS_FULL, 1);
    return c;
}

/* False for a segment that carries nothing of interest. */
static __always_inline bool read_interesting(struct __sk_buff* skb, struct http_segment* segment) {
    return http_read_segment(skb, segment) &&
           (segment->size || segment->flags & (TCP_FLAG_SYN_BIT | TCP_FLAG_FIN_BIT));
}

/* Sockets of other targets have the same ports as these: the packet is looked at last. */
static __noinline int target_packet(struct __sk_buff* skb, bool arrives) {
    __u64 cookie = bpf_get_socket_cookie(skb);
    struct http_connection* c = bpf_map_lookup_elem(&http_connections, &cookie);
    const struct socket_record* record = NULL;
    struct http_segment segment = {};

    if (!c && !arrives)
        record = bpf_map_lookup_elem(&sockets, &cookie);
    if (!c && (!record || !(record->flags & SOCKET_HTTP)))
        return 0;
    if (!read_interesting(skb, &segment))
        return 0;
    if (!c && record)
        c = add_connection(skb, cookie, record->target, &segment);
    if (!c)
        return 0;
    if (!arrives) {
        http_segment(skb, c, cookie, &segment, true, false);
        return 0;
    }
    if (!enter(&c->stream[HTTP_RESPONSE]))
        return 0;
    http_segment(skb, c, cookie, &segment, false, false);
    leave(&c->stream[HTTP_RESPONSE]);
    return 0;
}

static __always_inline bool is_loopback(const struct bpf_sock* sk) {
    if (sk->family == HTTP_FAMILY_INET)
        return (__u8)sk->dst_ip4 == 127 || sk->dst_ip4 == sk->src_ip4;
    if (sk->dst_ip6[0] == sk->src_ip6[0] && sk->dst_ip6[1] == sk->src_ip6[1] &&
        sk->dst_ip6[2] == sk->src_ip6[2] && sk->dst_ip6[3] == sk->src_ip6[3])
        return true;
    return !sk->dst_ip6[0] && !sk->dst_ip6[1] && sk->dst_ip6[2] == bpf_htonl(0xffff) &&
           (__u8)sk->dst_ip6[3] == 127;
}

static __always_inline __u32 netns_of_socket(struct bpf_sock* sk) {
    const struct tcp_sock* tcp = (void*)bpf_skc_to_tcp_sock(sk);
    return tcp ? BPF_CORE_READ((const struct sock_common*)tcp, skc_net.net, ns.inum) : 0;
}

static __noinline struct http_service* find_service(struct __sk_buff* skb, __u64 cookie,
                                                    const struct http_segment* segment, bool arrives) {
    static const struct http_service zero = {};
    struct http_service* service = bpf_map_lookup_elem(&http_service_connections, &cookie);
    struct bpf_sock* sk = skb->sk;
    struct http_service_key key = {};
    struct bpf_tcp_sock* tcp;

    if (service || !arrives || !segment->size || !sk)
        return service;
    sk = bpf_sk_fullsock(sk);
    if (!sk || sk->state == BPF_TCP_LISTEN)
        return NULL;
    key.netns_inode = netns_of_socket(sk);
    key.port = sk->src_port;
    if (!bpf_map_lookup_elem(&http_services, &key))
        return NULL;
    tcp = bpf_tcp_sock(sk);
    if (!tcp || (tcp->bytes_received && !http_begins_request(skb, segment)))
        return NULL;
    service = HTTP_FIND_OR_ADD(&http_service_connections, &cookie, &zero);
    if (!service) {
        http_add_total(HTTP_LOSS_CONNECTIONS_FULL, 1);
        return NULL;
    }
    service->event.netns_inode = key.netns_inode;
    service->event.service_port = key.port;
    service->event.peer_is_loopback = is_loopback(sk);
    if (!tcp->bytes_received) {
        struct http_stream* s = &service->http.stream[HTTP_REQUEST];
        s->next = s->highest = s->beyond_begin = s->beyond_end = tcp->rcv_nxt;
        s->synced = 1;
    }
    return service;
}

static __noinline int service_packet(struct __sk_buff* skb, bool arrives) {
    __u64 cookie = bpf_get_socket_cookie(skb);
    struct http_segment segment = {};
    struct http_service* service;

    if (!read_interesting(skb, &segment))
        return 0;
    service = find_service(skb, cookie, &segment, arrives);
    if (!service)
        return 0;
    if (!arrives) {
        http_segment(skb, &service->http, cookie, &segment, false, true);
        return 0;
    }
    if (!enter(&service->http.stream[HTTP_REQUEST]))
        return 0;
    http_segment(skb, &service->http, cookie, &segment, true, true);
    leave(&service->http.stream[HTTP_REQUEST]);
    return 0;
}

static __always_inline int handle(struct __sk_buff* skb, bool arrives) {
    struct bpf_sock* sk = skb->sk;

    if (!sk)
        return 1;
    /* Services first: their clients have any port, also one that is a target's. */
    if (has_port(service_ports, sk->src_port))
        service_packet(skb, arrives);
    else if (has_port(target_ports, bpf_ntohs(sk->dst_port)))
        target_packet(skb, arrives);
    return 1;
}

SEC("cgroup_skb/ingress")
int http_ingress(struct __sk_buff* skb) {
    return handle(skb, true);
}

SEC("cgroup_skb/egress")
int http_egress(struct __sk_buff* skb) {
    return handle(skb, false);
}

/* For BPF_PROG_RUN alone: never attached. Each run puts zeros into the next bytes of the ring of events. */
SEC("raw_tp")
int http_erase_events(void* context) {
    __u32 key = 0;
    const struct http_nothing* nothing = bpf_map_lookup_elem(&http_nothings, &key);
    void* room = nothing ? bpf_ringbuf_reserve(&http_events, HTTP_ERASE_BYTES, 0) : NULL;

    if (!room)
        return 1;
    bpf_probe_read_kernel(room, HTTP_ERASE_BYTES, nothing);
    bpf_ringbuf_discard(room, BPF_RB_NO_WAKEUP);
    return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(http_socket_closed, const struct sock* sk, int old_state, int new_state) {
    struct http_connection* c;
    struct http_service* service;
    __u64 cookie;

    if (new_state != BPF_TCP_CLOSE || !is_in_force())
        return 0;
    cookie = BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
    c = bpf_map_lookup_elem(&http_connections, &cookie);
    if (c) {
        http_close(c, false, cookie);
        bpf_map_delete_elem(&http_connections, &cookie);
        return 0;
    }
    service = bpf_map_lookup_elem(&http_service_connections, &cookie);
    if (service) {
        http_close(&service->http, true, cookie);
        bpf_map_delete_elem(&http_service_connections, &cookie);
    }
    return 0;
}
