/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is remembered of a connection that speaks HTTP/1, and the counts that its exchanges end up in. */
#ifndef PANGOLIN_BPF_HTTP_STATE_BPF_H
#define PANGOLIN_BPF_HTTP_STATE_BPF_H

#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "bpf/shared/http.h"

/* Where a stream's reader is. */
enum http_state {
    HTTP_START, /* before a message */
    HTTP_METHOD,
    HTTP_TARGET,
    HTTP_VERSION,
    HTTP_STATUS,
    HTTP_SKIP, /* the rest of a line that says nothing */
    HTTP_LINE, /* before a field line */
    HTTP_LINE_END,
    HTTP_NAME,
    HTTP_VALUE_LENGTH,
    HTTP_VALUE_CODING,
    HTTP_VALUE_UPGRADE,
    HTTP_VALUE_TYPE,
    HTTP_VALUE_HOST,
    HTTP_VALUE_ETAG,
    HTTP_CHUNK_SIZE,
    HTTP_CHUNK_EXTENSION,
    HTTP_CHUNK_END,
    HTTP_CHUNK_END_LF,
    HTTP_TRAILER,
    HTTP_TRAILER_SKIP,
    HTTP_TRAILER_END,
    HTTP_FRAME_HEAD, /* of a WebSocket */
    /* From here on the reader of single bytes stops. */
    HTTP_STOPPED,
    HTTP_BEGIN = HTTP_STOPPED, /* the first byte of a message is next */
    HTTP_HEAD_END,
    HTTP_MESSAGE_END,
    HTTP_FAULT,
    HTTP_FRAME_BEGIN, /* the first byte of a frame's payload is next */
    HTTP_BULK,
    HTTP_BODY = HTTP_BULK, /* `remaining` bytes until the message ends */
    HTTP_CHUNK_DATA,       /* `remaining` bytes until the chunk ends */
    HTTP_FRAME_PAYLOAD,    /* `remaining` bytes until the frame ends */
    HTTP_UNTIL_CLOSE,      /* the message ends with the connection */
    HTTP_UNTIL_NEXT,       /* the end is lost: the next request tells where it was */
    HTTP_IGNORED           /* nothing is known until the next request begins */
};

/* What a head said. */
enum {
    HTTP_HAS_LENGTH = 1 << 0,
    HTTP_HAS_CODING = 1 << 1,
    HTTP_CHUNKED = 1 << 2, /* the last transfer coding is `chunked` */
    HTTP_BAD_FRAMING = 1 << 3,
    HTTP_EVENT_STREAM = 1 << 4,
    HTTP_TO_WEBSOCKET = 1 << 5,
    HTTP_TO_H2C = 1 << 6,
    HTTP_MINOR_0 = 1 << 7,       /* HTTP/1.0 */
    HTTP_PREFACE = 1 << 8,       /* of HTTP/2 (RFC 9113 section 3.4) */
    HTTP_HAS_FORWARDED = 1 << 9, /* X-Forwarded-Host: goes before Host */
};

enum http_mode { HTTP_MODE_HTTP, HTTP_MODE_WEBSOCKET, HTTP_MODE_OPAQUE };

enum { HTTP_REQUEST, HTTP_RESPONSE, HTTP_STREAMS };
enum {
    HTTP_BLOCK = 128,  /* bytes read at a time */
    HTTP_TURNS = 64,   /* steps in them: of a byte, or of eight where there is nothing to see */
    HTTP_STASH = 2048, /* bytes kept of what arrives before its turn */
    HTTP_STASH_PIECE = 256,
    HTTP_PENDING = 16,     /* unanswered requests of a connection */
    HTTP_RUN_STEPS = 2048, /* blocks and bodies that one run may read */
};

struct http_pending {
    __u64 started_ns;
    __u64 begin; /* position of its first byte */
    __u8 method;
    __u8 client_type;
    __u8 reserved[2];
    __u32 target; /* that it counts for */
};

struct http_stream {
    __u64 position; /* bytes that are behind the reader */
    __u64 begin;    /* position of the first byte of the message */
    __u64 remaining;
    __u64 word;         /* a number or short word while it is read */
    __u64 length;       /* of Content-Length */
    __u64 candidates;   /* fields that the name may still become, a byte each */
    __u64 host;         /* of a request to a target, hashed; 0: it named none, or it does not matter */
    __u64 last_ns;      /* when the last new bytes passed */
    __u32 next;         /* sequence number of the byte at `position` */
    __u32 highest;      /* sequence number behind the last byte that passed */
    __u32 end;          /* sequence number of the FIN */
    __u32 beyond_begin; /* bytes that passed before their turn: [begin, end) */
    __u32 beyond_end;
    __u32 busy;         /* CPUs that are reading */
    __u32 acknowledged; /* acknowledgement number of the segment that is read */
    __u16 status;
    __u16 flags;
    __u8 state;
    __u8 synced; /* `next` is known */
    __u8 has_end;
    __u8 matched; /* bytes that were recognised of whatever is being read */
    __u8 method;
    __u8 head_ended; /* of the message */
    __u8 reserved[6];
    __u32 at;     /* in `block`, while it is read */
    __u32 filled; /* bytes of `block` */
    __u8 block[HTTP_BLOCK];
};

struct http_connection {
    __u32 target; /* of its address; of a WebSocket the one that its request counted for */
    __u8 mode;
    __u8 reserved[3];
    /* Requests that began, and that ended: one is advanced by the requests' stream, the other by the
     * responses'. A response follows its request's bytes around the network, so they need no lock. */
    __u32 asked;
    __u32 answered;
    __u32 stashed;  /* bytes in `stash`, from `beyond_begin` on */
    __u32 stash_of; /* the stream that they belong to */
    struct http_pending pending[HTTP_PENDING];
    struct http_stream stream[HTTP_STREAMS];
    __u8 stash[HTTP_STASH + HTTP_STASH_PIECE];
};

/* Sockets with HTTP targets at the far end, by cookie. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 65536);
    __type(key, __u64);
    __type(value, struct http_connection);
} http_connections SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 65536);
    __type(key, struct http_status_key);
    __type(value, __u64);
} http_statuses SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 16384);
    __type(key, struct http_duration_key);
    __type(value, struct latency_histogram);
} http_durations SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 16384);
    __type(key, __u32);
    __type(value, struct http_target_counts);
} http_targets SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 16384);
    __type(key, struct http_host_key);
    __type(value, __u32);
} http_hosts SEC(".maps");

/* Whether it has an element: else the hosts of requests need not be read. */
__u32 http_tells_hosts = 0;

/* By enum http_loss, and behind them by enum http_opaque. */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, HTTP_TOTALS);
    __type(key, __u32);
    __type(value, __u64);
} http_totals SEC(".maps");

/* Functions of their own, global, so that the verifier looks into each of them once and not at every call. */
__noinline int http_add_total(__u32 index, __u64 amount) {
    __u64* value = bpf_map_lookup_elem(&http_totals, &index);
    if (value)
        *value += amount;
    return 0;
}

/* The element of `key`, made when it is missing; another CPU may be faster in making it. */
#define HTTP_FIND_OR_ADD(map, key, zero)                      \
    ({                                                        \
        void* element = bpf_map_lookup_elem(map, key);        \
        if (!element) {                                       \
            bpf_map_update_elem(map, key, zero, BPF_NOEXIST); \
            element = bpf_map_lookup_elem(map, key);          \
        }                                                     \
        element;                                              \
    })

static __always_inline struct http_target_counts* http_counts_of(__u32 target) {
    static const struct http_target_counts zero = {};
    struct http_target_counts* counts = HTTP_FIND_OR_ADD(&http_targets, &target, &zero);
    if (!counts)
        http_add_total(HTTP_LOSS_TARGETS_FULL, 1);
    return counts;
}

__noinline int http_add_status(__u32 target, __u32 method, __u32 status) {
    static const __u64 zero = 0;
    struct http_status_key key = {.target = target, .method = method, .status = status};
    __u64* requests = HTTP_FIND_OR_ADD(&http_statuses, &key, &zero);
    if (requests)
        __sync_fetch_and_add(requests, 1);
    else
        http_add_total(HTTP_LOSS_STATUSES_FULL, 1);
    return 0;
}

__noinline int http_add_duration(__u32 target, __u32 method, __u64 duration_ns) {
    static const struct latency_histogram zero = {};
    struct http_duration_key key = {.target = target, .method = method};
    struct latency_histogram* histogram = HTTP_FIND_OR_ADD(&http_durations, &key, &zero);
    __u64 microseconds = duration_ns / 1000;
    __u32 bucket = latency_bucket(microseconds);

    if (!histogram) {
        http_add_total(HTTP_LOSS_DURATIONS_FULL, 1);
        return 0;
    }
    if (bucket < LATENCY_BUCKETS)
        __sync_fetch_and_add(&histogram->bucket[bucket], 1);
    __sync_fetch_and_add(&histogram->sum_us, microseconds);
    return 0;
}

__noinline int http_add_size(__u32 target, __u64 size) {
    struct http_target_counts* counts = http_counts_of(target);
    __u32 bucket = 0;

    if (!counts)
        return 0;
    for (__u32 i = 0; i < HTTP_SIZE_BOUNDS; i++)
        bucket += size > http_size_bounds[i];
    if (bucket < HTTP_SIZE_BUCKETS)
        __sync_fetch_and_add(&counts->size_bucket[bucket], 1);
    __sync_fetch_and_add(&counts->size_sum, size);
    return 0;
}

__noinline int http_add_open(__u32 target, __s64 requests, __s64 websockets) {
    struct http_target_counts* counts = http_counts_of(target);
    if (!counts)
        return 0;
    if (requests)
        __sync_fetch_and_add(&counts->open_requests, requests);
    if (websockets)
        __sync_fetch_and_add(&counts->open_websockets, websockets);
    return 0;
}

__noinline int http_add_aborted(__u32 target, __u64 requests) {
    struct http_target_counts* counts = http_counts_of(target);
    if (counts)
        __sync_fetch_and_add(&counts->aborted, requests);
    return 0;
}

static __always_inline __u32 http_outstanding(const struct http_connection* connection) {
    return connection->asked - connection->answered;
}

static __always_inline struct http_pending* http_pending_at(struct http_connection* connection,
                                                            __u32 number) {
    return &connection->pending[number & (HTTP_PENDING - 1)];
}

/* The head of the last request was read: whose it is. */
__noinline int http_find_owner(__u64 key) {
    struct http_connection* c = bpf_map_lookup_elem(&http_connections, &key);
    struct http_host_key host = {};
    struct http_pending* request;
    const __u32* owner;

    if (!c || !http_outstanding(c))
        return 0;
    host.host = c->stream[HTTP_REQUEST].host;
    host.target = c->target;
    owner = bpf_map_lookup_elem(&http_hosts, &host);
    if (!owner)
        return 0;
    request = http_pending_at(c, c->asked - 1);
    http_add_open(request->target, -1, 0);
    request->target = *owner;
    http_add_open(request->target, 1, 0);
    return 0;
}

/* The unanswered requests to a target will not be answered. */
__noinline int http_drop_requests(__u64 key, __u32 are_aborted) {
    struct http_connection* c = bpf_map_lookup_elem(&http_connections, &key);

    for (int i = 0; i < HTTP_PENDING; i++) {
        struct http_pending* request;
        if (!c || !http_outstanding(c))
            return 0;
        request = http_pending_at(c, c->answered);
        http_add_open(request->target, -1, 0);
        if (are_aborted) {
            http_add_aborted(request->target, 1);
            http_add_status(request->target, request->method, HTTP_STATUS_NONE);
        }
        c->answered++;
    }
    return 0;
}

#endif /* PANGOLIN_BPF_HTTP_STATE_BPF_H */
