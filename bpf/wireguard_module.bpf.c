/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the kernel's WireGuard module does with handshakes and with packets that wait for one, on one
 * interface. Attached to functions that run for handshakes or while a peer has no session: never for a data
 * packet of a working tunnel. Observes only.
 */
#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bpf/gate.bpf.h"
#include "bpf/handshakes.bpf.h"
#include "bpf/shared/wireguard_module.h"
#include "bpf/watched_netns.bpf.h"
#include "bpf/wireguard_types.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* The interface: nothing of others is counted. */
const volatile __u32 interface_index = 0;

/* INITIATIONS_PER_SECOND of drivers/net/wireguard/messages.h: a peer's initiation is refused when it comes
 * sooner than this after the last. */
#define FLOOD_INTERVAL_NS (1000000000ULL / 50)
/* MAX_STAGED_PACKETS there. */
#define MOST_STAGED_PACKETS 128

/* The initiation that a worker is consuming, by the worker's thread. No more than a worker for each CPU. */
struct consumption {
    struct wg_peer* peer; /* whose key the initiation holds; NULL while that is not known */
};
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 4096);
    __type(key, __u32);
    __type(value, struct consumption);
} consumptions SEC(".maps");

/* Packets thrown away while they waited for a handshake. The element of the key 0 is made by userspace, for
 * what finds no room. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 16384);
    __type(key, struct queue_drop_key);
    __type(value, __u64);
} queue_drops SEC(".maps");

/* How much of the device's tx_dropped is in queue_drops. */
#define NOT_READ_YET (~0ULL)
volatile __u64 drops_counted = NOT_READ_YET;

static __always_inline bool is_ours(struct wg_device* wg) {
    struct net_device* device = BPF_CORE_READ(wg, dev);

    return is_in_force() && BPF_CORE_READ(device, ifindex) == (int)interface_index &&
           is_watched_netns(BPF_CORE_READ(device, nd_net.net));
}

static __always_inline void identify(struct handshake_identity* identity, struct wg_peer* peer) {
    identity->kind = HANDSHAKE_PUBLIC_KEY;
    BPF_CORE_READ_INTO(&identity->public_key, peer, handshake.remote_static);
}

static __always_inline __u32 current_thread(void) {
    return (__u32)bpf_get_current_pid_tgid();
}

SEC("fexit/wg_cookie_validate_packet")
int BPF_PROG(cookie_validate_packet, struct cookie_checker* checker, struct sk_buff* skb, __u64 check_cookie,
             __u64 result) {
    /* The function sets the lower half of the register. */
    const __u32 state = (__u32)result;

    if (!is_ours(BPF_CORE_READ(checker, device)))
        return 0;
    if (state == bpf_core_enum_value(enum cookie_mac_state, INVALID_MAC))
        count_anonymous_handshake(HANDSHAKE_INVALID_MAC);
    else if (state == bpf_core_enum_value(enum cookie_mac_state, VALID_MAC_WITH_COOKIE_BUT_RATELIMITED))
        count_anonymous_handshake(HANDSHAKE_RATE_LIMITED);
    return 0;
}

SEC("fentry/wg_noise_handshake_consume_initiation")
int BPF_PROG(consume_initiation_begins, void* message, struct wg_device* wg) {
    const struct consumption nobody = {};
    __u32 thread = current_thread();

    if (is_ours(wg) && bpf_map_update_elem(&consumptions, &thread, &nobody, BPF_ANY))
        count_handshake_loss(HANDSHAKE_LOSS_HANDSHAKES);
    return 0;
}

SEC("fexit/wg_pubkey_hashtable_lookup")
int BPF_PROG(pubkey_hashtable_lookup, void* table, void* public_key, struct wg_peer* found) {
    __u32 thread = current_thread();
    struct consumption* consumption = is_in_force() ? bpf_map_lookup_elem(&consumptions, &thread) : NULL;

    if (consumption)
        consumption->peer = found;
    return 0;
}

/* The module's own flood check, a moment later. Its clock goes by the tick, of which the interval is a
 * multiple, so that a finer clock comes to the same result. */
static __always_inline bool comes_too_soon(struct wg_peer* peer) {
    const __u64 last = BPF_CORE_READ(peer, handshake.last_initiation_consumption);

    return (__s64)(last + FLOOD_INTERVAL_NS - bpf_ktime_get_boot_ns()) > 0;
}

SEC("fexit/wg_noise_handshake_consume_initiation")
int BPF_PROG(consume_initiation_ends, void* message, struct wg_device* wg, struct wg_peer* accepted) {
    __u32 thread = current_thread();
    struct consumption* consumption = is_in_force() ? bpf_map_lookup_elem(&consumptions, &thread) : NULL;
    struct handshake_identity identity = {};
    struct wg_peer* peer;

    if (!consumption)
        return 0;
    peer = consumption->peer;
    bpf_map_delete_elem(&consumptions, &thread);
    if (accepted)
        return 0;
    if (!peer) {
        count_anonymous_handshake(HANDSHAKE_UNKNOWN_PEER);
        return 0;
    }
    identify(&identity, peer);
    count_handshake(&identity, comes_too_soon(peer) ? HANDSHAKE_RATE_LIMITED : HANDSHAKE_REPLAY);
    return 0;
}

/* Sends initiations and responses, and nothing else. The index is in `handshakes` before an answer can come.
 */
SEC("fentry/wg_socket_send_buffer_to_peer")
int BPF_PROG(send_buffer_begins, struct wg_peer* peer, void* buffer) {
    struct handshake_identity identity = {};
    struct wireguard_message_start message = {};

    if (!is_ours(BPF_CORE_READ(peer, device)))
        return 0;
    bpf_probe_read_kernel(&message, sizeof(message), buffer);
    if (message.type != WIREGUARD_INITIATION && message.type != WIREGUARD_RESPONSE)
        return 0;
    identify(&identity, peer);
    begin_handshake(message.sender_index, &identity,
                    message.type == WIREGUARD_INITIATION ? HANDSHAKE_INITIATOR : HANDSHAKE_RESPONDER);
    return 0;
}

/* A message that could not be sent, for want of an endpoint or a route, began nothing. */
SEC("fexit/wg_socket_send_buffer_to_peer")
int BPF_PROG(send_buffer_ends, struct wg_peer* peer, void* buffer, __u64 length, __u64 service,
             __u64 result) {
    struct wireguard_message_start message = {};

    if ((__s32)result >= 0 || !is_ours(BPF_CORE_READ(peer, device)))
        return 0;
    bpf_probe_read_kernel(&message, sizeof(message), buffer);
    if (!bpf_map_delete_elem(&handshakes, &message.sender_index))
        __sync_fetch_and_sub(&open_handshakes, 1);
    return 0;
}

/* Of an initiator, when the response was accepted; of a responder, when the first data came. Either way the
 * new session has become the current one just before. It has the index of its handshake. */
SEC("fentry/wg_timers_handshake_complete")
int BPF_PROG(handshake_complete, struct wg_peer* peer) {
    struct noise_keypair* session;

    if (!is_ours(BPF_CORE_READ(peer, device)))
        return 0;
    session = BPF_CORE_READ(peer, keypairs.current_keypair);
    if (!session)
        return 0;
    end_handshake(BPF_CORE_READ(session, entry.index),
                  BPF_CORE_READ(session, i_am_the_initiator) ? HANDSHAKE_INITIATOR : HANDSHAKE_RESPONDER,
                  HANDSHAKE_SUCCESS);
    return 0;
}

/* The far side can be under load as a responder and as an initiator, whose cookie reply then is for our
 * response. */
SEC("fexit/wg_cookie_message_consume")
int BPF_PROG(cookie_message_consume, void* buffer, struct wg_device* wg) {
    struct wireguard_cookie_reply_start message = {};

    if (!is_ours(wg))
        return 0;
    bpf_probe_read_kernel(&message, sizeof(message), buffer);
    if (!end_handshake(message.receiver_index, HANDSHAKE_INITIATOR, HANDSHAKE_COOKIE_REPLY))
        end_handshake(message.receiver_index, HANDSHAKE_RESPONDER, HANDSHAKE_COOKIE_REPLY);
    return 0;
}

SEC("fentry/wg_packet_send_handshake_cookie")
int BPF_PROG(send_handshake_cookie, struct wg_device* wg) {
    if (is_ours(wg))
        count_anonymous_handshake(HANDSHAKE_COOKIE_REPLY);
    return 0;
}

static __always_inline void count_queue_drops(struct wg_peer* peer, __u64 packets) {
    static const __u64 zero = 0;
    struct queue_drop_key key = {};
    __u64* count;

    BPF_CORE_READ_INTO(&key.public_key, peer, handshake.remote_static);
    count = bpf_map_lookup_elem(&queue_drops, &key);
    if (!count) {
        /* Another CPU may have been faster: what counts is whether the element is there afterwards. */
        bpf_map_update_elem(&queue_drops, &key, &zero, BPF_NOEXIST);
        count = bpf_map_lookup_elem(&queue_drops, &key);
    }
    if (!count) {
        __builtin_memset(&key, 0, sizeof(key));
        count = bpf_map_lookup_elem(&queue_drops, &key);
    }
    if (count)
        __sync_fetch_and_add(count, packets);
}

static __always_inline __u64 dropped_by_device(struct wg_peer* peer) {
    struct net_device___with_stats* device = (void*)BPF_CORE_READ(peer, device, dev);

    return BPF_CORE_READ(device, stats.tx_dropped);
}

/* Claims what the device has dropped and nobody has claimed yet. */
static __always_inline __u64 claim_drops(struct wg_peer* peer) {
    for (int attempt = 0; attempt < 4; attempt++) {
        const __u64 counted = drops_counted;
        const __u64 dropped = dropped_by_device(peer);

        /* Less while a purge is under way, which claims in advance. */
        if (counted != NOT_READ_YET && dropped <= counted)
            return 0;
        if (__sync_val_compare_and_swap(&drops_counted, counted, dropped) == counted)
            return counted == NOT_READ_YET ? 0 : dropped - counted;
    }
    /* The next one will find them. */
    return 0;
}

/*
 * wg_xmit() throws away a waiting peer's oldest packets when it has more than MAX_STAGED_PACKETS, adds the
 * new ones and, for want of a session, ends here. It counts them for the device alone; the peer whose queue
 * is over its limit now is the one that has just lost them. When two peers lose packets on two CPUs within
 * the same microsecond, the first to come here claims both losses.
 */
SEC("fentry/wg_packet_send_queued_handshake_initiation")
int BPF_PROG(queued_handshake_initiation, struct wg_peer* peer) {
    __u64 packets;

    if (!is_ours(BPF_CORE_READ(peer, device)))
        return 0;
    if (drops_counted != NOT_READ_YET && BPF_CORE_READ(peer, staged_packet_queue.qlen) <= MOST_STAGED_PACKETS)
        return 0;
    packets = claim_drops(peer);
    if (packets)
        count_queue_drops(peer, packets);
    return 0;
}

/* Throws away all that waits: no handshake for 90 s, the interface down, the peer removed. */
SEC("fentry/wg_packet_purge_staged_packets")
int BPF_PROG(purge_staged_packets, struct wg_peer* peer) {
    __u64 packets;

    if (!is_ours(BPF_CORE_READ(peer, device)))
        return 0;
    packets = BPF_CORE_READ(peer, staged_packet_queue.qlen);
    if (!packets)
        return 0;
    if (drops_counted == NOT_READ_YET)
        claim_drops(peer);
    __sync_fetch_and_add(&drops_counted, packets);
    count_queue_drops(peer, packets);
    return 0;
}
