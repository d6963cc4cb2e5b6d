/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * HTTP/1.1 exchanges as the kernel sees them on TCP sockets. Connections to targets are aggregated by target;
 * of connections to Pangolin's own services every exchange and WebSocket frame is an event.
 */
#ifndef PANGOLIN_BPF_SHARED_HTTP_H
#define PANGOLIN_BPF_SHARED_HTTP_H

#include "bpf/shared/address.h"
#include "bpf/shared/latency.h"

/* RFC 9110 section 9.3 and RFC 5789; any other token is HTTP_METHOD_OTHER. */
enum http_method {
    HTTP_METHOD_OTHER,
    HTTP_METHOD_GET,
    HTTP_METHOD_HEAD,
    HTTP_METHOD_POST,
    HTTP_METHOD_PUT,
    HTTP_METHOD_DELETE,
    HTTP_METHOD_CONNECT,
    HTTP_METHOD_OPTIONS,
    HTTP_METHOD_TRACE,
    HTTP_METHOD_PATCH,
    HTTP_METHODS
};

/* Why a connection is not looked into, or no more. */
enum http_opaque {
    HTTP_OPAQUE_TLS,
    HTTP_OPAQUE_H2C,     /* HTTP/2 without TLS: by its preface, or upgraded to */
    HTTP_OPAQUE_TUNNEL,  /* after CONNECT, or upgraded to something that is not WebSocket */
    HTTP_OPAQUE_UNKNOWN, /* not HTTP/1, or requests that break its syntax */
    HTTP_OPAQUE_KINDS
};

/* What could not be counted. */
enum http_loss {
    HTTP_LOSS_CONNECTIONS_FULL, /* connection without room for its state: none of its exchanges is counted */
    HTTP_LOSS_STATUSES_FULL,    /* request without room for its method and status */
    HTTP_LOSS_DURATIONS_FULL,   /* duration without room for its method */
    HTTP_LOSS_TARGETS_FULL,     /* exchange without room for its target's counts */
    HTTP_LOSS_PIPELINE_FULL,    /* request on a connection with too many unanswered ones */
    HTTP_LOSS_UNSOLICITED,      /* response without a request that was seen */
    HTTP_LOSS_SEQUENCE,         /* request whose response's status was in bytes that were not seen in order */
    HTTP_LOSS_MALFORMED,        /* request whose response is not HTTP/1 */
    HTTP_LOSS_BOUND,            /* packet with more to read than one program run may */
    HTTP_LOSS_CONCURRENT,       /* packet of a stream that another CPU was reading */
    HTTP_LOSS_UNREADABLE,       /* packet whose bytes the kernel did not hand out */
    HTTP_LOSS_EVENTS_FULL,      /* event without room in the ring */
    HTTP_LOSSES
};

/* Index into `http_totals`: the losses, and behind them the connections by opaque kind. */
enum { HTTP_TOTALS = (int)HTTP_LOSSES + (int)HTTP_OPAQUE_KINDS };
static inline __u32 http_opaque_index(enum http_opaque kind) {
    return (__u32)HTTP_LOSSES + (__u32)kind;
}

/* Inclusive upper bounds in bytes; the last bucket has none. */
enum { HTTP_SIZE_BOUNDS = 12, HTTP_SIZE_BUCKETS = HTTP_SIZE_BOUNDS + 1 };
static const __u32 http_size_bounds[HTTP_SIZE_BOUNDS] = {
    1U << 8,  1U << 10, 1U << 12, 1U << 14, 1U << 16, 1U << 18,
    1U << 20, 1U << 22, 1U << 24, 1U << 26, 1U << 28, 1U << 30,
};

/* Requests by target, method and status as it came back: 100 to 999, but no interim ones; or this, when the
 * connection ended before one came. */
enum { HTTP_STATUS_NONE = 0 };
struct http_status_key {
    __u32 target;
    __u16 method; /* enum http_method */
    __u16 status;
};
PANGOLIN_STATIC_ASSERT(sizeof(struct http_status_key) == 8, "no padding");

/* Durations from the first byte of a request to the last of its response: 101, text/event-stream and
 * responses that were cut off are not in them. */
struct http_duration_key {
    __u32 target;
    __u32 method;
};
PANGOLIN_STATIC_ASSERT(sizeof(struct http_duration_key) == 8, "no padding");

/* What is counted by target. Gauges go down to what they were before the first connection. */
struct http_target_counts {
    __u64 size_bucket[HTTP_SIZE_BUCKETS]; /* responses by head and body bytes, not cumulated */
    __u64 size_sum;
    __u64 aborted; /* requests whose connection ended before their response did: without one, or cut off */
    __s64 open_requests;
    __s64 open_websockets;
};
PANGOLIN_STATIC_ASSERT(sizeof(struct http_target_counts) == 8 * (HTTP_SIZE_BUCKETS + 4), "no padding");

/*
 * Where several resources have targets at one address, the host that a request names tells whose it is: key
 * of `http_hosts`, whose value (a __u32) is the index to count for. What it does not have counts for
 * `target`.
 */
struct http_host_key {
    __u64 host;   /* http_hash_host() over the name in lower case, without its port */
    __u32 target; /* index of the address */
    __u32 reserved;
};
PANGOLIN_STATIC_ASSERT(sizeof(struct http_host_key) == 16, "no padding");

/* FNV-1a. */
#define HTTP_HOST_BASIS 0xcbf29ce484222325ULL
static inline __u64 http_hash_host(__u64 hash, __u8 c) {
    return (hash ^ c) * 0x100000001b3ULL;
}

/* A service of Pangolin's own: the server's sockets with this local port in this network namespace. */
struct http_service_key {
    __u32 netns_inode;
    __u32 port; /* host order */
};
PANGOLIN_STATIC_ASSERT(sizeof(struct http_service_key) == 8, "no padding");

enum http_event_type {
    HTTP_EVENT_EXCHANGE, /* struct http_exchange: a response ended, or never will */
    HTTP_EVENT_FRAME,    /* struct http_frame: of a WebSocket, once its first payload bytes were seen */
    HTTP_EVENT_CLOSED    /* struct http_closed: a connection that had become a WebSocket */
};

struct http_event {
    __u32 type;        /* enum http_event_type */
    __u32 netns_inode; /* of the service */
    __u64 connection;  /* the socket's cookie: unique until the next boot */
    __u64 time_ns;     /* CLOCK_MONOTONIC when the event was sent */
    __u16 service_port;
    __u8
        peer_is_loopback; /* the client is in the service's namespace: 127.0.0.0/8, ::1, or its own address */
    __u8 reserved[5];
};
PANGOLIN_STATIC_ASSERT(sizeof(struct http_event) == 32, "no padding");

enum http_client_type { /* `clientType` in the query of a request for a WebSocket */
                        HTTP_CLIENT_NONE,
                        HTTP_CLIENT_NEWT,
                        HTTP_CLIENT_OLM,
                        HTTP_CLIENT_REMOTE_EXIT_NODE,
                        HTTP_CLIENT_OTHER
};

enum {
    HTTP_TARGET_BYTES = 256,
    HTTP_HOST_BYTES = 64,
    HTTP_BODY_BYTES = 128,
    HTTP_SUBJECT_BYTES = 64,
    HTTP_FRAME_BYTES = 192
};

/*
 * One exchange. What is copied of it: the request target up to its query (never the query: it may hold
 * tokens), the Host field, the beginning of a response's body where the outcome stands only there: for
 * POST .../badger/verify-session, and of statuses 400 to 499 (Pangolin's `message`), and whom a request is
 * about: "host" and "method" in the body of POST .../badger/verify-session, "newtId" in that of POST
 * .../newt/get-token. Texts are not terminated and may be cut. Of tokens nothing is copied but 64 bits of a
 * hash, whose key is drawn with the maps.
 */
struct http_exchange {
    struct http_event event;
    __u64 started_ns;     /* CLOCK_MONOTONIC at the first byte of the request */
    __u64 duration_ns;    /* to the last byte of the response; of a 101, to the end of its head */
    __u64 request_bytes;  /* head and body, as far as sent when the response ended */
    __u64 response_bytes; /* head and body of the final response */
    __u16 status;         /* 0: the connection ended before the response did, or its status was lost */
    __u16 target_length;
    __u8 method;       /* enum http_method */
    __u8 is_websocket; /* 101 with Upgrade: websocket */
    __u8 client_type;  /* enum http_client_type */
    __u8 host_length;
    __u8 body_length;
    __u8 subject_length;
    __u8 subject_method; /* enum http_method of the request that verify-session is about */
    __u8 reserved[5];
    __u64 token; /* hash of the token in the answer to get-token, or in the query of a request for a
                    WebSocket; 0: there is none */
    __u64 etag;  /* hash of the response's ETag (RFC 9110 section 8.8.3); 0: it has none */
    char target[HTTP_TARGET_BYTES];
    char host[HTTP_HOST_BYTES];
    char body[HTTP_BODY_BYTES];
    char subject[HTTP_SUBJECT_BYTES];
};
PANGOLIN_STATIC_ASSERT(sizeof(struct http_exchange) == 96 + 256 + 64 + 128 + 64, "no padding");

/* One WebSocket frame (RFC 6455 section 5.2). */
struct http_frame {
    struct http_event event;
    __u64 payload_length;
    __u8 from_client;
    __u8 opcode; /* 0 continuation, 1 text, 2 binary, 8 close, 9 ping, 10 pong */
    __u8 final;
    __u8 reserved_bits;  /* RSV1 to RSV3 in bits 2 to 0 */
    __u8 payload_copied; /* bytes of `payload` that are set, unmasked; those behind them mean nothing */
    __u8 reserved[3];
    __u8 payload[HTTP_FRAME_BYTES];
};
PANGOLIN_STATIC_ASSERT(sizeof(struct http_frame) == 48 + HTTP_FRAME_BYTES, "no padding");

/* Of the ring of events that one run of http_erase_events overwrites. */
enum { HTTP_ERASE_BYTES = 1 << 15 };

struct http_closed {
    struct http_event event;
};

#endif /* PANGOLIN_BPF_SHARED_HTTP_H */
