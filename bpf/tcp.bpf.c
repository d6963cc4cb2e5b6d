/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TCP sockets of one network namespace whose far end lies behind a peer: how connections begin, what is sent
 * again, how long a round trip takes.
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
#include "bpf/peer_lookup.bpf.h"
#include "bpf/shared/tunnel.h"
#include "bpf/tcp_sockets.bpf.h"
#include "bpf/watched_netns.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Whether tcp_retransmit_skb says how the transmission went; before Linux 6.16 it fires for sent ones only.
 */
const volatile bool retransmit_has_result = false;

/* Low halves of jiffies at which the last complete sampling began, and the one that is under way. They go on
 * in the next process with these maps: what the last one has sampled is not sampled again. */
__u32 last_sampling = 0;
__u32 this_sampling = 0;
bool sampled = false;

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct tcp_counts);
} tcp_counts SEC(".maps");

/* Events that found `tcp_counts` full. */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} tcp_losses SEC(".maps");

static __always_inline void count_loss(void) {
    __u32 key = 0;
    __u64* value = bpf_map_lookup_elem(&tcp_losses, &key);
    if (value)
        *value += 1;
}

static __always_inline bool remote_key(const struct sock_common* sk, struct peer_address_key* key) {
    struct in6_addr address;

    if (!read_remote_address(sk, &address))
        return false;
    set_v6_key(key, &address);
    if (is_mapped_v4(&address))
        key->is_v6 = 0;
    return true;
}

/* The counts of the peer that the socket talks to; none for a socket that is not ours. */
static __noinline struct tcp_counts* find_counts(const struct sock_common* sk) {
    static const struct tcp_counts zero = {};
    struct peer_address_key key;
    struct tcp_counts* counts;
    __u32 slot;

    if (!is_watched_netns(BPF_CORE_READ(sk, skc_net.net)) || !remote_key(sk, &key))
        return NULL;
    slot = slot_of_address(&key);
    if (!slot)
        return NULL;
    counts = bpf_map_lookup_elem(&tcp_counts, &slot);
    if (counts)
        return counts;
    /* Another CPU may have been faster: what counts is whether the element is there afterwards. */
    bpf_map_update_elem(&tcp_counts, &slot, &zero, BPF_NOEXIST);
    counts = bpf_map_lookup_elem(&tcp_counts, &slot);
    if (!counts)
        count_loss();
    return counts;
}

static __always_inline void count_result(const struct sock_common* sk, enum tcp_result result) {
    struct tcp_counts* counts = find_counts(sk);
    if (counts)
        __sync_fetch_and_add(&counts->connections[result], 1);
}

static __always_inline void add_round_trip(const struct sock_common* sk) {
    __u32 microseconds = round_trip_of(sk);
    struct tcp_counts* counts = microseconds ? find_counts(sk) : NULL;

    if (counts)
        add_latency(&counts->rtt, microseconds);
}

static __always_inline enum tcp_result failure_of(int error, int soft_error) {
    switch (error) {
        case 0:
        case ECONNABORTED: /* by an administrator (ss -K) */
        case ECONNRESET:   /* the program disconnected the socket */
            return soft_error ? TCP_RESULT_UNREACHABLE : TCP_RESULT_ABORTED;
        case ECONNREFUSED:
            return TCP_RESULT_REFUSED;
        case ETIMEDOUT:
            return TCP_RESULT_TIMEOUT;
        default:
            return TCP_RESULT_UNREACHABLE;
    }
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state, const struct sock* sk, int old_state, int new_state) {
    const struct sock_common* common = (const struct sock_common*)sk;

    if (!is_in_force())
        return 0;
    if (new_state != BPF_TCP_ESTABLISHED && new_state != BPF_TCP_CLOSE)
        return 0;
    if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
        return 0;
    if (new_state == BPF_TCP_ESTABLISHED) {
        if (old_state == BPF_TCP_SYN_SENT || old_state == BPF_TCP_SYN_RECV)
            count_result(common, TCP_RESULT_SUCCESS);
        return 0;
    }
    switch (old_state) {
        case BPF_TCP_SYN_SENT:
            count_result(common, failure_of(BPF_CORE_READ(sk, sk_err), BPF_CORE_READ(sk, sk_err_soft)));
            return 0;
        case BPF_TCP_SYN_RECV:
        case BPF_TCP_LISTEN:
        case BPF_TCP_CLOSE:
            return 0;
        default:
            add_round_trip(common);
            return 0;
    }
}

/* The control block says how many segments the packet is; the packet itself knows it only once it was sent.
 */
SEC("tp_btf/tcp_retransmit_skb")
int tcp_retransmit(__u64* context) {
    const struct sock_common* sk = (const void*)context[0];
    const struct sk_buff* skb = (const void*)context[1];
    struct tcp_counts* counts;
    __u16 segments;

    if (!is_in_force())
        return 0;
    if (retransmit_has_result && (int)context[2])
        return 0;
    counts = find_counts(sk);
    if (!counts)
        return 0;
    segments = BPF_CORE_READ((const struct tcp_skb_cb*)&skb->cb, tcp_gso_segs);
    __sync_fetch_and_add(&counts->retransmits, segments ?: 1);
    return 0;
}

SEC("tp_btf/tcp_retransmit_synack")
int BPF_PROG(tcp_retransmit_synack, const struct sock* listener, const struct request_sock* request) {
    struct tcp_counts* counts;

    if (!is_in_force())
        return 0;
    counts = find_counts((const struct sock_common*)request);
    if (counts)
        __sync_fetch_and_add(&counts->retransmits, 1);
    return 0;
}

/*
 * The smoothed round-trip time changes with acknowledgements: a connection that got none since the last
 * sampling has nothing new to say. The last call of a sampling is without a socket. One read() is a whole
 * sampling (of up to a million sockets), which no signal interrupts: a process that is killed has sampled all
 * or nothing.
 */
SEC("iter/tcp")
int tcp_sample(struct bpf_iter__tcp* context) {
    const struct sock_common* sk = context->sk_common;
    unsigned char state;

    if (context->meta->seq_num == 0)
        this_sampling = bpf_jiffies64();
    if (!sk) {
        last_sampling = this_sampling;
        sampled = true;
        return 0;
    }
    state = BPF_CORE_READ(sk, skc_state);
    if (state != BPF_TCP_ESTABLISHED && state != BPF_TCP_CLOSE_WAIT)
        return 0;
    if (sampled && (__s32)(BPF_CORE_READ((const struct tcp_sock*)sk, rcv_tstamp) - last_sampling) < 0)
        return 0;
    add_round_trip(sk);
    return 0;
}
