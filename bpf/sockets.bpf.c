/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TCP connections that this host's reverse proxy makes to targets: how they begin and end, what they carry.
 * One object serves all namespaces. Everything happens at changes of a socket's state and when userspace
 * samples the live ones; a packet costs nothing.
 *
 * A socket's state changes under its lock. Sampling reads a socket under that lock (since Linux 5.14), or
 * under that of its bucket in the table of sockets, which a socket leaves before its change to closed is
 * traced. So the end of a connection and its sampling exclude each other.
 */
#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/in.h>
#include <stdbool.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bpf/gate.bpf.h"
#include "bpf/kernel_types.bpf.h"
#include "bpf/shared/sockets.h"
#include "bpf/target_sockets.bpf.h"
#include "bpf/tcp_sockets.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Tracing programs can give a socket its cookie since Linux 5.12. */
const volatile bool can_make_cookies = false;

/* Number of the sampling that is under way; userspace counts them. */
__u32 sampling = 0;

/* Sizes are userspace's. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u32);
} socket_namespaces SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 1);
    __type(key, struct socket_target_key);
    __type(value, struct socket_target);
} socket_targets SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 1);
    __type(key, struct socket_service);
    __type(value, __u32);
} socket_services SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct socket_counts);
} socket_counts SEC(".maps");

/* An element lives for as long as a call of connect(), or until the socket is closed when that fails. */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 4096);
    __type(key, __u64);
    __type(value, struct dialled_socket);
} dialled SEC(".maps");

/* Userspace's own: ends that only it knows of, by target index. Here, so that they are kept with the counts.
 */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} unseen_ends SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, SOCKET_LOSSES);
    __type(key, __u32);
    __type(value, __u64);
} socket_losses SEC(".maps");

static __always_inline void count_loss(enum socket_loss loss) {
    __u32 key = loss;
    __u64* value = bpf_map_lookup_elem(&socket_losses, &key);
    if (value)
        *value += 1;
}

static __noinline struct socket_counts* counts_of(__u32 index) {
    static const struct socket_counts zero = {};
    struct socket_counts* counts = bpf_map_lookup_elem(&socket_counts, &index);

    if (counts)
        return counts;
    /* Another CPU may have been faster: what counts is whether the element is there afterwards. */
    bpf_map_update_elem(&socket_counts, &index, &zero, BPF_NOEXIST);
    counts = bpf_map_lookup_elem(&socket_counts, &index);
    if (!counts)
        count_loss(SOCKET_LOSS_COUNTS_FULL);
    return counts;
}

/* 0 for a socket that was never given a key: no record can be of it. */
static __always_inline __u64 key_of(const struct sock_common* sk) {
    __u64 cookie = sk->skc_cookie.counter;
    return cookie || can_make_cookies ? cookie : (__u64)sk;
}

static __always_inline struct socket_record* record_of(const struct sock_common* sk) {
    __u64 key = key_of(sk);
    struct socket_record* record = key ? bpf_map_lookup_elem(&sockets, &key) : NULL;

    if (record || can_make_cookies || key == (__u64)sk)
        return record;
    /* It may have got its cookie meanwhile. */
    key = (__u64)sk;
    return bpf_map_lookup_elem(&sockets, &key);
}

static __always_inline void forget(const struct sock_common* sk) {
    __u64 key = key_of(sk);

    if (bpf_map_delete_elem(&sockets, &key) && !can_make_cookies) {
        key = (__u64)sk;
        bpf_map_delete_elem(&sockets, &key);
    }
}

static __always_inline const struct socket_target* find_target(const struct socket_service* service,
                                                               __u32 netns) {
    struct socket_target_key key = {.service = *service, .netns = netns};
    const struct socket_target* target;

    if (!bpf_map_lookup_elem(&socket_namespaces, &netns))
        return NULL;
    target = bpf_map_lookup_elem(&socket_targets, &key);
    if (target)
        return target;
    key.netns = 0;
    return bpf_map_lookup_elem(&socket_targets, &key);
}

static __noinline const struct socket_target* target_of(const struct sock_common* sk) {
    struct socket_service service;

    if (!read_remote_address(sk, (struct in6_addr*)&service.address))
        return NULL;
    service.port = bpf_ntohs(sk->skc_dport);
    return find_target(&service, netns_of(sk));
}

/* TCP payload, each byte once. The far end's FIN is counted by the kernel as a byte, and so are our SYN, and
 * our FIN once it was sent: it is the last that is written. */
static __always_inline __u64 received_bytes(const struct sock_common* sk) {
    __u64 received = BPF_CORE_READ((const struct tcp_sock*)sk, bytes_received);
    return received - (sk->skc_flags >> SOCK_DONE_BIT & 1);
}

static __always_inline __u64 sent_bytes(const struct sock_common* sk, int state) {
    const struct tcp_sock* tcp = (const struct tcp_sock*)sk;
    __u32 next = BPF_CORE_READ(tcp, snd_nxt);
    __u64 sent = BPF_CORE_READ(tcp, bytes_acked) + (__u32)(next - BPF_CORE_READ(tcp, snd_una));
    bool fin_written = state != BPF_TCP_ESTABLISHED && state != BPF_TCP_CLOSE_WAIT;

    if (fin_written && next == BPF_CORE_READ(tcp, write_seq))
        sent -= 1;
    return sent ? sent - 1 : 0;
}

static __always_inline void add_growth(__u64* total, __u64* before, __u64 now) {
    if ((__s64)(now - *before) <= 0)
        return;
    __sync_fetch_and_add(total, now - *before);
    *before = now;
}

/* What the connection carried since the last time, and its round-trip time when an acknowledgement came
 * since. */
static __always_inline void account(const struct sock_common* sk, int state, struct socket_record* record,
                                    struct socket_counts* counts) {
    __u32 acknowledged_at = BPF_CORE_READ((const struct tcp_sock*)sk, rcv_tstamp);
    __u32 microseconds = round_trip_of(sk);

    add_growth(&counts->bytes[TRAFFIC_INGRESS], &record->bytes[TRAFFIC_INGRESS], received_bytes(sk));
    add_growth(&counts->bytes[TRAFFIC_EGRESS], &record->bytes[TRAFFIC_EGRESS], sent_bytes(sk, state));
    if (microseconds && acknowledged_at != record->acknowledged_at)
        add_latency(&counts->rtt, microseconds);
    record->acknowledged_at = acknowledged_at;
}

/* Whether the far end, which ends the connection without having sent a byte, fails the proxy thereby. The
 * proxy's pool has connections to HTTP targets that it never used: to close such a one is the target's right.
 */
static __always_inline bool is_early(const struct sock_common* sk, int state,
                                     const struct socket_record* record) {
    const __u64 second = 1000000000;

    if (received_bytes(sk))
        return false;
    if (!(record->flags & SOCKET_HTTP) || sent_bytes(sk, state))
        return true;
    return !(record->flags & SOCKET_FOUND) && bpf_ktime_get_ns() - record->begun_ns < second;
}

static __always_inline enum socket_end end_of(const struct sock_common* sk, int state,
                                              const struct socket_record* record) {
    bool closed_here = sk->skc_flags >> SOCK_DEAD_BIT & 1;
    bool in_use = state == BPF_TCP_ESTABLISHED || state == BPF_TCP_CLOSE_WAIT ||
                  ((state == BPF_TCP_FIN_WAIT1 || state == BPF_TCP_FIN_WAIT2) && !closed_here);

    int error = ((const struct sock*)sk)->sk_err;

    if (record->end != SOCKET_END_ORDINARY || !in_use)
        return record->end;
    if (!error && record->flags & SOCKET_WAS_RESET)
        error = state == BPF_TCP_CLOSE_WAIT ? EPIPE : ECONNRESET;
    switch (error) {
        case 0:            /* closed by the proxy */
        case ECONNABORTED: /* by an administrator (ss -K) */
        case EPIPE:        /* reset after the far end's FIN, which says how it ended */
            return SOCKET_END_ORDINARY;
        case ECONNRESET:
            if (received_bytes(sk))
                return SOCKET_END_RESET;
            return is_early(sk, state, record) ? SOCKET_END_EARLY : SOCKET_END_ORDINARY;
        default:
            return SOCKET_END_UNREACHABLE;
    }
}

/* A program that polls may have asked for the socket's error, which takes it away, just before the state
 * changes. If so, a reset was seen before, and otherwise the socket was not shut. */
static __always_inline enum socket_failure failure_of(const struct sock_common* common,
                                                      const struct socket_record* record) {
    const struct tcp_sock* tcp = (const struct tcp_sock*)common;
    const struct sock* sk = (const struct sock*)common;

    switch (sk->sk_err) {
        case 0:
        case ECONNABORTED: /* by an administrator (ss -K) */
        case ECONNRESET:   /* the program disconnected the socket */
            if (record->flags & SOCKET_WAS_RESET)
                return SOCKET_FAILURE_REFUSED;
            if (sk->sk_err_soft || !BPF_CORE_READ(tcp, segs_out))
                return SOCKET_FAILURE_UNREACHABLE;
            if (BPF_CORE_READ(tcp, total_retrans))
                return SOCKET_FAILURE_TIMEOUT;
            return sk->sk_shutdown || sk->sk_err ? SOCKET_FAILURE_ABANDONED : SOCKET_FAILURE_UNREACHABLE;
        case ECONNREFUSED:
            return SOCKET_FAILURE_REFUSED;
        case ETIMEDOUT:
            return SOCKET_FAILURE_TIMEOUT;
        default:
            return SOCKET_FAILURE_UNREACHABLE;
    }
}

static __always_inline void count_unreachable(struct socket_counts* counts, __u32 times) {
    __sync_fetch_and_add(&counts->attempts, times);
    __sync_fetch_and_add(&counts->failures[SOCKET_FAILURE_UNREACHABLE], times);
}

static __always_inline void establish(struct socket_record* record, struct socket_counts* counts) {
    record->flags |= SOCKET_ESTABLISHED;
    record->begun_ns = bpf_ktime_get_ns();
    __sync_fetch_and_add(&counts->established, 1);
}

static __always_inline void finish(const struct sock_common* sk, int state, struct socket_record* record) {
    struct socket_counts* counts = counts_of(record->target);
    bool connecting = state == BPF_TCP_SYN_SENT || state == BPF_TCP_SYN_RECV;

    if (counts && connecting && !(record->flags & SOCKET_ESTABLISHED)) {
        __sync_fetch_and_add(&counts->failures[failure_of(sk, record) & (SOCKET_FAILURES - 1)], 1);
    } else if (counts) {
        __u32 end = end_of(sk, state, record);

        if (!(record->flags & SOCKET_ESTABLISHED))
            establish(record, counts);
        account(sk, state, record, counts);
        if (end < SOCKET_ENDS)
            __sync_fetch_and_add(&counts->ends[end], 1);
    }
    forget(sk);
}
_Static_assert(SOCKET_FAILURES == 4, "used as a mask");

static __always_inline void fill_record(struct socket_record* record, const struct sock_common* sk,
                                        const struct socket_target* target) {
    record->target = target->index;
    record->flags = target->flags;
    record->netns = netns_of(sk);
    record->begun_ns = bpf_ktime_get_ns();
    record->sampling = sampling;
}

/* From connect(): no SYN was sent yet. A program of its own, so that it holds up no event of another socket
 * that interrupts it: since Linux 6.1 a tracing program is not run inside itself. */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(socket_dials, struct sock* sk, int old_state, int new_state) {
    const struct sock_common* common = (const struct sock_common*)sk;
    const struct socket_target* target;
    const struct dialled_socket* tries;
    struct socket_record record = {};
    struct socket_counts* counts;
    __u64 key;

    if (new_state != BPF_TCP_SYN_SENT || sk->sk_protocol != IPPROTO_TCP || !is_in_force())
        return 0;
    target = target_of(common);
    if (!target)
        return 0;
    counts = counts_of(target->index);
    if (!counts)
        return 0;
    __sync_fetch_and_add(&counts->attempts, 1);
    key = can_make_cookies ? bpf_get_socket_cookie(sk) : key_of(common);
    tries = bpf_map_lookup_elem(&dialled, &key);
    if (tries) {
        /* All but this one came to nothing. */
        count_unreachable(counts, tries->times - 1);
        bpf_map_delete_elem(&dialled, &key);
    }
    fill_record(&record, common, target);
    if (bpf_map_update_elem(&sockets, &key, &record, BPF_ANY))
        count_loss(SOCKET_LOSS_SOCKETS_FULL);
    return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(socket_state, struct sock* sk, int old_state, int new_state) {
    const struct sock_common* common = (const struct sock_common*)sk;
    struct socket_record* record;
    struct socket_counts* counts;

    if (new_state != BPF_TCP_ESTABLISHED && new_state != BPF_TCP_CLOSE_WAIT && new_state != BPF_TCP_CLOSE)
        return 0;
    if (!is_in_force())
        return 0;
    record = record_of(common);
    if (!record)
        return 0;
    switch (new_state) {
        case BPF_TCP_ESTABLISHED:
            counts = counts_of(record->target);
            if (counts && !(record->flags & SOCKET_ESTABLISHED))
                establish(record, counts);
            break;
        case BPF_TCP_CLOSE_WAIT:
            record->flags |= SOCKET_FAR_END_CLOSED;
            if (is_early(common, old_state, record))
                record->end = SOCKET_END_EARLY;
            break;
        default:
            finish(common, old_state, record);
    }
    return 0;
}

/* Before the reset changes anything of the socket. */
SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(socket_reset, struct sock* sk) {
    struct socket_record* record = is_in_force() ? record_of((const struct sock_common*)sk) : NULL;

    if (record)
        record->flags |= SOCKET_WAS_RESET;
    return 0;
}

/* The socket goes. What connect() could not even begin has no state that changed. */
SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(socket_gone, struct sock* sk) {
    const struct sock_common* common = (const struct sock_common*)sk;
    __u64 key = key_of(common);
    const struct socket_target* target;
    struct dialled_socket* attempt;
    struct socket_counts* counts;
    struct socket_record* record;

    if (!key || !is_in_force())
        return 0;
    record = record_of(common);
    if (record) {
        /* Its last change of state interrupted the handling of another one and was not seen. */
        bool established = record->flags & SOCKET_ESTABLISHED;
        count_loss(SOCKET_LOSS_END_MISSED);
        finish(common, established ? BPF_TCP_ESTABLISHED : BPF_TCP_SYN_SENT, record);
    }
    attempt = bpf_map_lookup_elem(&dialled, &key);
    if (!attempt)
        return 0;
    target = find_target(&attempt->service, netns_of(common));
    counts = target ? counts_of(target->index) : NULL;
    if (counts)
        count_unreachable(counts, attempt->times);
    bpf_map_delete_elem(&dialled, &key);
    return 0;
}

/* Before connect() looks for a route: without one it changes nothing of the socket. */
static __always_inline int note_dialled(struct bpf_sock_addr* context, const struct socket_service* service) {
    struct dialled_socket first = {.service = *service, .times = 1};
    struct dialled_socket* before;
    __u64 key;

    if (!bpf_map_lookup_elem(&socket_services, service))
        return 1;
    key = bpf_get_socket_cookie(context);
    before = bpf_map_lookup_elem(&dialled, &key);
    if (before)
        first.times = before->times + 1;
    bpf_map_update_elem(&dialled, &key, &first, BPF_ANY);
    return 1;
}

SEC("cgroup/connect4")
int socket_connect4(struct bpf_sock_addr* context) {
    struct socket_service service = {.port = bpf_ntohs((__u16)context->user_port)};

    if (context->protocol != IPPROTO_TCP)
        return 1;
    map_v4_address((struct in6_addr*)&service.address, context->user_ip4);
    return note_dialled(context, &service);
}

SEC("cgroup/connect6")
int socket_connect6(struct bpf_sock_addr* context) {
    struct socket_service service = {.port = bpf_ntohs((__u16)context->user_port)};
    __u32* words = (__u32*)service.address;

    if (context->protocol != IPPROTO_TCP)
        return 1;
    words[0] = context->user_ip6[0];
    words[1] = context->user_ip6[1];
    words[2] = context->user_ip6[2];
    words[3] = context->user_ip6[3];
    return note_dialled(context, &service);
}

static __always_inline bool is_connection(unsigned char state) {
    switch (state) {
        case BPF_TCP_ESTABLISHED:
        case BPF_TCP_SYN_SENT:
        case BPF_TCP_FIN_WAIT1:
        case BPF_TCP_FIN_WAIT2:
        case BPF_TCP_CLOSE_WAIT:
        case BPF_TCP_LAST_ACK:
        case BPF_TCP_CLOSING:
            return true;
        default: /* listening, or no full socket */
            return false;
    }
}

/* A connection that was made before the programs or its target were there. What it carried so far counts for
 * nobody. */
static __always_inline void adopt(struct sock_common* sk, int state) {
    const struct socket_target* target = target_of(sk);
    struct socket_record record = {};
    struct socket_counts* counts;
    __u64 key;

    if (!target || state == BPF_TCP_SYN_SENT || sk->skc_flags >> SOCK_DEAD_BIT & 1)
        return;
    counts = counts_of(target->index);
    if (!counts)
        return;
    key = can_make_cookies ? bpf_get_socket_cookie(sk) : key_of(sk);
    fill_record(&record, sk, target);
    record.flags |= SOCKET_ESTABLISHED | SOCKET_FOUND;
    record.bytes[TRAFFIC_INGRESS] = received_bytes(sk);
    record.bytes[TRAFFIC_EGRESS] = sent_bytes(sk, state);
    if (bpf_map_update_elem(&sockets, &key, &record, BPF_NOEXIST))
        count_loss(SOCKET_LOSS_SOCKETS_FULL);
    else
        __sync_fetch_and_add(&counts->found, 1);
}

SEC("iter/tcp")
int socket_sample(struct bpf_iter__tcp* context) {
    struct sock_common* sk = context->sk_common;
    struct socket_record* record;
    struct socket_counts* counts;
    unsigned char state;

    if (!sk)
        return 0;
    state = sk->skc_state;
    if (!is_connection(state))
        return 0;
    record = record_of(sk);
    if (!record) {
        adopt(sk, state);
        return 0;
    }
    record->sampling = sampling;
    if (state == BPF_TCP_SYN_SENT)
        return 0;
    counts = counts_of(record->target);
    if (counts)
        account(sk, state, record, counts);
    return 0;
}
