/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What sockets.bpf.c shares with userspace, and with other programs that want to know the target of a socket:
 * TCP connections that this host's reverse proxy makes to targets.
 *
 * A target is an address and port as the proxy dials it. Userspace gives it an index, which stays the same
 * for as long as the counts are kept; several addresses may share one. A connection belongs to the index that
 * its address had when it was dialled (or found), whatever becomes of the address later.
 */
#ifndef PANGOLIN_BPF_SHARED_SOCKETS_H
#define PANGOLIN_BPF_SHARED_SOCKETS_H

#include "bpf/shared/address.h"
#include "bpf/shared/latency.h"

/* Key of `socket_namespaces`: the inode of a network namespace in which the proxy's sockets are. The value (a
 * __u32) means nothing. Connections of other namespaces are not looked at. */

/* A TCP port as it is dialled. Key of `socket_services`, which has every service that is a target in some
 * namespace; the value (a __u32) means nothing. */
struct socket_service {
    __u8 address[16]; /* network order, IPv4 as ::ffff:a.b.c.d */
    __u32 port;       /* host order */
};
PANGOLIN_STATIC_ASSERT(sizeof(struct socket_service) == 20, "no padding");

/* Key of `socket_targets`. One with a namespace goes before one without. */
struct socket_target_key {
    struct socket_service service;
    __u32 netns; /* inode; 0 for any of `socket_namespaces` */
};
PANGOLIN_STATIC_ASSERT(sizeof(struct socket_target_key) == 24, "no padding");

/* Of a target and of its connections. */
enum socket_flag {
    SOCKET_HTTP = 1 << 0, /* the proxy speaks HTTP/1 to it, in the clear or not */
    /* Of connections alone. */
    SOCKET_ESTABLISHED = 1 << 8,
    SOCKET_FOUND = 1 << 9, /* existed before it could be seen to begin: `begun_ns` is when it was found */
    SOCKET_FAR_END_CLOSED = 1 << 10, /* before this side did */
    SOCKET_WAS_RESET = 1 << 11,      /* by the far end */
};

/* Value of `socket_targets`. */
struct socket_target {
    __u32 index;
    __u32 flags;
};
PANGOLIN_STATIC_ASSERT(sizeof(struct socket_target) == 8, "no padding");

/* How an attempt to connect failed. */
enum socket_failure {
    SOCKET_FAILURE_REFUSED,     /* answered by a reset */
    SOCKET_FAILURE_TIMEOUT,     /* not answered, though asked more than once */
    SOCKET_FAILURE_UNREACHABLE, /* no route, no free local port, or an ICMP error said so */
    SOCKET_FAILURE_ABANDONED,   /* given up by the proxy before there could be an answer: nobody's error */
    SOCKET_FAILURES
};

/* How an established connection ended. */
enum socket_end {
    SOCKET_END_ORDINARY,    /* closed by the proxy, or by the far end after it had answered; or never used */
    SOCKET_END_EARLY,       /* closed or reset by the far end, which had not sent a byte */
    SOCKET_END_RESET,       /* reset by the far end, which had answered, while the proxy used it */
    SOCKET_END_UNREACHABLE, /* what was sent was not acknowledged for too long, or an ICMP error said so */
    SOCKET_END_UNSEEN,      /* it is gone, and nobody knows how */
    SOCKET_ENDS
};

/*
 * Value of `socket_counts`, a hash by target index (__u32). All only grow, until userspace takes an element;
 * what is in use is established + found - the ends.
 */
struct socket_counts {
    __u64 attempts;
    __u64 established; /* of the attempts */
    __u64 found;       /* established already when they were first seen */
    __u64 failures[SOCKET_FAILURES];
    __u64 ends[SOCKET_ENDS];
    __u64 bytes[TRAFFIC_DIRECTIONS]; /* TCP payload, each byte once; those of live ones as last sampled */
    struct latency_histogram rtt;
};
PANGOLIN_STATIC_ASSERT(sizeof(struct socket_counts) ==
                           8 * (3 + SOCKET_FAILURES + SOCKET_ENDS + 2) + sizeof(struct latency_histogram),
                       "no padding");

/*
 * Value of `sockets`, a hash by socket cookie (__u64, bpf_get_socket_cookie()): the connections to targets
 * that are being made or made. An element exists from before the first SYN, or since sampling found the
 * socket, until the connection is over; it may go at any moment, so whoever looks it up reads and does not
 * keep it. Before Linux 5.12, where tracing programs cannot give a socket its cookie, a socket that has none
 * has its address as key.
 */
struct socket_record {
    __u32 target;   /* index */
    __u32 flags;    /* enum socket_flag */
    __u32 netns;    /* inode */
    __u32 end;      /* enum socket_end, as far as it is known */
    __u64 begun_ns; /* bpf_ktime_get_ns() when it was dialled, later when it was established */
    __u64
        bytes[TRAFFIC_DIRECTIONS]; /* that were added to the target's counts, and those before it was found */
    __u32 acknowledged_at;         /* low half of jiffies at the last sampling of its round-trip time */
    __u32 sampling;                /* the last one that saw it */
};
PANGOLIN_STATIC_ASSERT(sizeof(struct socket_record) == 48, "no padding");

/* Value of `dialled`, by socket cookie: connect() was called for a target, and has not come to a SYN yet. */
struct dialled_socket {
    struct socket_service service;
    __u32 times;
};
PANGOLIN_STATIC_ASSERT(sizeof(struct dialled_socket) == 24, "no padding");

/* Why something is missing in the counts; keys of `socket_losses`, a per-CPU array of __u64. */
enum socket_loss {
    SOCKET_LOSS_COUNTS_FULL,  /* an event found no room in `socket_counts` */
    SOCKET_LOSS_SOCKETS_FULL, /* a connection found no room in `sockets`: sampling may find it later */
    SOCKET_LOSS_END_MISSED,   /* a connection's end was seen late, and not its cause */
    SOCKET_LOSSES
};

#endif /* PANGOLIN_BPF_SHARED_SOCKETS_H */
