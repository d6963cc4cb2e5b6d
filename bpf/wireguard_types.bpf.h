/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The fields of drivers/net/wireguard that are read, the same from Linux 5.10 to 7.2. libbpf finds their real
 * places in the BTF of the kernel and of its wireguard module.
 */
#ifndef PANGOLIN_BPF_WIREGUARD_TYPES_BPF_H
#define PANGOLIN_BPF_WIREGUARD_TYPES_BPF_H

#include <linux/types.h>
#include <stdbool.h>

#include "bpf/kernel_types.bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct net_device_stats {
    unsigned long tx_dropped;
};

struct net_device___with_stats {
    struct net_device_stats stats;
};

struct sk_buff_head {
    __u32 qlen;
};

struct wg_device {
    struct net_device* dev;
};

struct cookie_checker {
    struct wg_device* device;
};

struct index_hashtable_entry {
    __u32 index; /* as in the messages: little-endian, and compared only */
};

struct noise_keypair {
    struct index_hashtable_entry entry;
    bool i_am_the_initiator;
};

struct noise_keypairs {
    struct noise_keypair* current_keypair;
};

struct noise_handshake {
    __u64 last_initiation_consumption; /* CLOCK_BOOTTIME, by the tick */
    __u8 remote_static[32];            /* the peer's public key; never changes */
};

struct wg_peer {
    struct wg_device* device;
    struct sk_buff_head staged_packet_queue;
    struct noise_keypairs keypairs;
    struct noise_handshake handshake;
};

#pragma clang attribute pop

enum cookie_mac_state {
    INVALID_MAC,
    VALID_MAC_BUT_NO_COOKIE,
    VALID_MAC_WITH_COOKIE_BUT_RATELIMITED,
    VALID_MAC_WITH_COOKIE,
};

/* Messages (WireGuard paper, section 5.4); fixed by the protocol. */
enum {
    WIREGUARD_INITIATION = 1,
    WIREGUARD_RESPONSE = 2,
};

/* How initiations and responses begin. */
struct wireguard_message_start {
    __u32 type;
    __u32 sender_index;
};

/* Begins as WIREGUARD_INITIATION does, but with the index of the one it is for. */
struct wireguard_cookie_reply_start {
    __u32 type;
    __u32 receiver_index;
};

#endif /* PANGOLIN_BPF_WIREGUARD_TYPES_BPF_H */
