/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * WireGuard handshakes as the kernel side sees them, be it inside the WireGuard module or by its messages on
 * the network: the one definition of map keys and values.
 *
 * Two maps hold everything. `handshakes` has one element for each handshake that this host answered or began;
 * nobody can make one without WireGuard itself having sent a message. `handshake_counts` has the outcomes
 * that need no more than a number: whatever an attacker can cause is counted there, without an event and
 * without an element of its own.
 */
#ifndef PANGOLIN_BPF_SHARED_HANDSHAKE_H
#define PANGOLIN_BPF_SHARED_HANDSHAKE_H

#include "bpf/shared/address.h"

enum handshake_role {
    HANDSHAKE_RESPONDER, /* the peer began (newt always does) */
    HANDSHAKE_INITIATOR, /* this host began */
};

enum handshake_result {
    HANDSHAKE_SUCCESS,      /* responder: confirmed by the first data; initiator: response accepted */
    HANDSHAKE_INVALID_MAC,  /* initiation or response that was not made for this interface's key */
    HANDSHAKE_UNKNOWN_PEER, /* initiation for this interface by nobody that it knows */
    HANDSHAKE_REPLAY,       /* initiation that was seen before */
    HANDSHAKE_RATE_LIMITED, /* refused for coming too often */
    HANDSHAKE_TIMEOUT,      /* answered or begun by this host, and the far side never finished it */
    HANDSHAKE_COOKIE_REPLY, /* one side was under load and told the other to come again with a cookie */
    HANDSHAKE_RESULTS
};

enum handshake_identity_kind { HANDSHAKE_NOBODY, HANDSHAKE_PUBLIC_KEY, HANDSHAKE_ENDPOINT };

/* Who the far side is: what the place of observation can know. Unused bytes are 0, for it is part of keys. */
struct handshake_identity {
    __u32 kind;
    __u32 reserved;
    union {
        __u8 public_key[32];
        struct peer_endpoint endpoint;
    };
};
PANGOLIN_STATIC_ASSERT(sizeof(struct handshake_identity) == 40, "no padding");

/* Element of both, whose key is the index (__u32, as in the message) that this host chose for it. */
struct handshake {
    struct handshake_identity identity;
    __u64 begin_ns; /* CLOCK_MONOTONIC; responder: response sent, initiator: initiation sent */
    __u64 end_ns;   /* 0 while open; responder: first data came, initiator: response or cookie came */
    __u32 role;     /* enum handshake_role */
    __u32 result;   /* enum handshake_result, once ended */
};
PANGOLIN_STATIC_ASSERT(sizeof(struct handshake) == 64, "no padding");

/* Key of `handshake_counts`; the value is a __u64. */
struct handshake_count_key {
    struct handshake_identity identity;
    __u32 result; /* enum handshake_result */
    __u32 reserved;
};
PANGOLIN_STATIC_ASSERT(sizeof(struct handshake_count_key) == 48, "no padding");

/* What could not be kept. Keys of `handshake_losses`, a per-CPU array of __u64. */
enum handshake_loss {
    HANDSHAKE_LOSS_HANDSHAKES, /* `handshakes` or `ended_handshakes` full: the handshake is in no count */
    HANDSHAKE_LOSS_COUNTS,     /* `handshake_counts` full: counted without the peer's identity instead */
    HANDSHAKE_LOSS_REASONS
};

#endif /* PANGOLIN_BPF_SHARED_HANDSHAKE_H */
