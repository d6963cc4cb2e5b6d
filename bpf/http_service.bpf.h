/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Connections to Pangolin's own services: what is copied of their exchanges and frames, and the events. */
#ifndef PANGOLIN_BPF_HTTP_SERVICE_BPF_H
#define PANGOLIN_BPF_HTTP_SERVICE_BPF_H

#include "bpf/http_state.bpf.h"

/* Room behind the bytes that are kept, so that bounds by masks hold. */
enum { HTTP_COPY_MASK = 255, HTTP_COPY_ROOM = 512 };

/* Values in a JSON body that are wanted, a byte each by the name that they have. */
#define HTTP_JSON_HOST (1ULL << 0)
#define HTTP_JSON_METHOD (1ULL << 8)
#define HTTP_JSON_NEWT (1ULL << 16)
#define HTTP_JSON_TOKEN (1ULL << 24)

/* Where the reader of a JSON body is (http_json.bpf.h). */
struct http_json {
    __u64 wanted;     /* values that were not found yet */
    __u64 candidates; /* names that the string may still become */
    __u64 name;       /* the one whose value is next */
    __u64 taking;     /* the one whose value is being read */
    __u64 word;       /* its letters, of a method */
    __u32 at;         /* of the block */
    __u32 blocks;     /* that were read */
    __u8 level;       /* of the object whose names are meant: 1 for the outermost */
    __u8 depth;
    __u8 matched;
    __u8 in_string;
    __u8 is_escaped;
    __u8 direction; /* of the body */
    __u8 reserved[2];
};

/* `http` is the first member: whoever has it of a service's connection has the rest. */
struct http_service {
    struct http_connection http;
    struct http_event event; /* what all events of the connection have in common */
    __u32 texts_of;          /* the request whose texts these are */
    __u16 target_length;
    __u16 body_length;
    __u16 query_matched; /* bytes of "clientType=" in a query, then of its value */
    __u8 host_length;
    __u8 client_type;
    __u8 in_query;
    __u8 takes_texts;
    __u8 wants_body;
    __u8 subject_length;
    __u16 frame_copied[HTTP_STREAMS];
    __u16 token_matched; /* bytes of "token=" in a query */
    __u8 subject_method;
    __u8 reserved;
    __u64 frame_length[HTTP_STREAMS];
    __u64 values[HTTP_STREAMS]; /* HTTP_JSON_*: wanted of the request's body, and of the response's */
    __u64 token;
    __u64 etag;
    struct http_json json;
    char target[HTTP_TARGET_BYTES];
    char host[HTTP_HOST_BYTES];
    char subject[HTTP_SUBJECT_BYTES];
    __u8 body[HTTP_COPY_ROOM];
    __u8 frame[HTTP_STREAMS][HTTP_COPY_ROOM];
};

/* Sockets of services, by cookie. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 16384);
    __type(key, __u64);
    __type(value, struct http_service);
} http_service_connections SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1 << 20);
} http_events SEC(".maps");

/* Drawn by userspace for these maps: hashes say nothing to whoever does not know it. */
__u64 http_hash_key = 0;

/* FNV-1a with a key in place of its basis. */
static __always_inline __u64 http_hash(__u64 hash, __u8 c) {
    return ((hash ? hash : http_hash_key) ^ c) * 0x100000001b3ULL;
}

/* Events that were read still stand in the ring until others take their place: these do. */
struct http_nothing {
    __u8 zeros[HTTP_ERASE_BYTES];
};
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct http_nothing);
} http_nothings SEC(".maps");

static const char http_client_type_key[16] = "clientType=";
static const char http_token_key[8] = "token=";
enum { HTTP_TOKEN_KEY_LENGTH = 6 };
/* The path's end of the route whose response says in its body what became of the request. */
static const char http_body_route[24] = "/badger/verify-session";
enum { HTTP_BODY_ROUTE_LENGTH = 22 };
/* And of the one where newt says who it is. */
static const char http_newt_route[16] = "/newt/get-token";
enum { HTTP_NEWT_ROUTE_LENGTH = 15 };

static __always_inline struct http_service* http_service_of(struct http_connection* c) {
    return (struct http_service*)c;
}

/* A request begins. Texts are kept for one request at a time; nobody pipelines to Pangolin. */
static __always_inline void http_begin_texts(struct http_connection* c) {
    struct http_service* service = http_service_of(c);

    service->takes_texts = !http_outstanding(c);
    if (!service->takes_texts)
        return;
    service->texts_of = c->asked;
    service->target_length = 0;
    service->host_length = 0;
    service->body_length = 0;
    __builtin_memset(service->target, 0, sizeof(service->target));
    __builtin_memset(service->host, 0, sizeof(service->host));
    __builtin_memset(service->body, 0, sizeof(service->body));
    __builtin_memset(service->subject, 0, sizeof(service->subject));
    service->client_type = HTTP_CLIENT_NONE;
    service->in_query = 0;
    service->query_matched = 0;
    service->wants_body = 0;
    service->subject_length = 0;
    service->subject_method = HTTP_METHOD_OTHER;
    service->token_matched = 0;
    service->token = 0;
    service->etag = 0;
    service->values[HTTP_REQUEST] = 0;
    service->values[HTTP_RESPONSE] = 0;
    service->json.level = 0;
}

/* Of a query nothing is kept but the kind of client and a token's hash. */
static __always_inline void http_take_query(struct http_service* service, __u8 c) {
    __u16 matched = service->query_matched;
    __u16 token_matched = service->token_matched;

    if (c == '&' || c == '?') {
        service->query_matched = 0;
        service->token_matched = 0;
        return;
    }
    if (token_matched < HTTP_TOKEN_KEY_LENGTH)
        service->token_matched = c == (__u8)http_token_key[token_matched & 7] ? token_matched + 1 : 255;
    else if (token_matched == HTTP_TOKEN_KEY_LENGTH)
        service->token = http_hash(service->token, c);
    if (matched < 11) {
        service->query_matched = c == (__u8)http_client_type_key[matched & 15] ? matched + 1 : 255;
        return;
    }
    if (matched > 11)
        return;
    service->client_type = c == 'n'   ? HTTP_CLIENT_NEWT
                           : c == 'o' ? HTTP_CLIENT_OLM
                           : c == 'r' ? HTTP_CLIENT_REMOTE_EXIT_NODE
                                      : HTTP_CLIENT_OTHER;
    service->query_matched = 12;
}

/* One byte of a request's target or Host, which left the reader in `state`. A function of its own, global, as
 * those below: so the verifier looks into it once, and not at every turn of the reader. */
__noinline int http_take_text(__u64 key, __u32 c, __u32 state) {
    struct http_service* service = bpf_map_lookup_elem(&http_service_connections, &key);

    if (!service || !service->takes_texts)
        return 0;
    if (state == HTTP_TARGET) {
        __u16 length = service->target_length;
        if (c == ' ')
            return 0;
        if (c == '?')
            service->in_query = 1;
        if (service->in_query) {
            http_take_query(service, c);
        } else if (length < HTTP_TARGET_BYTES) {
            service->target[length & (HTTP_TARGET_BYTES - 1)] = c;
            service->target_length = length + 1;
        }
    } else if (state == HTTP_VALUE_HOST) {
        __u8 length = service->host_length;
        if (c <= ' ' || (c == ':' && !length))
            return 0;
        if (length < HTTP_HOST_BYTES) {
            service->host[length & (HTTP_HOST_BYTES - 1)] = c;
            service->host_length = length + 1;
        }
    }
    return 0;
}

/* One byte of a response's ETag. */
__noinline int http_take_etag(__u64 key, __u32 c) {
    struct http_service* service = bpf_map_lookup_elem(&http_service_connections, &key);

    if (service)
        service->etag = http_hash(service->etag, c);
    return 0;
}

static __always_inline bool http_has_path_end(const struct http_service* service, const char* end,
                                              __u32 size) {
    __u32 start = service->target_length - size;

    if (service->target_length < size)
        return false;
    for (__u32 i = 0; i < size; i++) {
        if (service->target[(start + i) & (HTTP_TARGET_BYTES - 1)] != end[i])
            return false;
    }
    return true;
}

/* What is wanted of the bodies. */
__noinline int http_choose_body(__u64 key) {
    struct http_service* service = bpf_map_lookup_elem(&http_service_connections, &key);

    if (!service || !service->takes_texts)
        return 0;
    if (http_has_path_end(service, http_body_route, HTTP_BODY_ROUTE_LENGTH)) {
        service->wants_body = 1;
        service->values[HTTP_REQUEST] = HTTP_JSON_HOST | HTTP_JSON_METHOD;
    } else if (http_has_path_end(service, http_newt_route, HTTP_NEWT_ROUTE_LENGTH)) {
        service->values[HTTP_REQUEST] = HTTP_JSON_NEWT;
        service->values[HTTP_RESPONSE] = HTTP_JSON_TOKEN;
    }
    return 0;
}

/* Nothing of an exchange that is over, or of a frame that was sent on, is kept. */
static __always_inline void http_forget_texts(struct http_service* service) {
    __builtin_memset(service->target, 0, sizeof(service->target));
    __builtin_memset(service->host, 0, sizeof(service->host));
    __builtin_memset(service->subject, 0, sizeof(service->subject));
    __builtin_memset(service->body, 0, HTTP_BODY_BYTES);
    service->target_length = 0;
    service->host_length = 0;
    service->subject_length = 0;
    service->body_length = 0;
    service->token = 0;
    service->json.word = 0;
    service->json.level = 0;
    service->wants_body = 0;
    service->values[HTTP_REQUEST] = 0;
    service->values[HTTP_RESPONSE] = 0;
}

/* Why a request was refused stands only in the answer's body: {"data":null,...,"message":"..."}. */
static __always_inline void http_want_body(struct http_connection* c) {
    struct http_service* service = http_service_of(c);

    if (service->texts_of == c->answered)
        service->wants_body = 1;
}

static __always_inline void http_fill_event(struct http_event* event, const struct http_service* service,
                                            __u64 key, __u32 type) {
    *event = service->event;
    event->type = type;
    event->connection = key;
    event->time_ns = bpf_ktime_get_ns();
}

/* The three that send are functions of their own, global, so that the verifier looks into each of them once.
 */
__noinline int http_send_exchange(__u64 key, __u32 number, __u64 response_bytes, __u32 status) {
    struct http_service* service = bpf_map_lookup_elem(&http_service_connections, &key);
    const struct http_connection* c;
    const struct http_pending* request;
    struct http_exchange* exchange;

    if (!service)
        return 0;
    c = &service->http;
    request = &c->pending[number & (HTTP_PENDING - 1)];
    exchange = bpf_ringbuf_reserve(&http_events, sizeof(*exchange), 0);
    if (!exchange) {
        http_add_total(HTTP_LOSS_EVENTS_FULL, 1);
        return 0;
    }
    __builtin_memset(exchange, 0, sizeof(*exchange));
    http_fill_event(&exchange->event, service, key, HTTP_EVENT_EXCHANGE);
    exchange->started_ns = request->started_ns;
    exchange->duration_ns = c->stream[HTTP_RESPONSE].last_ns - request->started_ns;
    exchange->request_bytes = c->stream[HTTP_REQUEST].position - request->begin;
    exchange->response_bytes = response_bytes;
    exchange->status = status;
    exchange->method = request->method;
    exchange->is_websocket = status == 101 && c->stream[HTTP_RESPONSE].flags & HTTP_TO_WEBSOCKET;
    if (service->texts_of == number) {
        exchange->client_type = service->client_type;
        exchange->target_length = service->target_length;
        exchange->host_length = service->host_length;
        exchange->body_length = service->body_length;
        exchange->subject_length = service->subject_length;
        exchange->subject_method = service->subject_method;
        exchange->token = service->token;
        exchange->etag = service->etag;
        __builtin_memcpy(exchange->target, service->target, sizeof(exchange->target));
        __builtin_memcpy(exchange->host, service->host, sizeof(exchange->host));
        __builtin_memcpy(exchange->body, service->body, sizeof(exchange->body));
        __builtin_memcpy(exchange->subject, service->subject, sizeof(exchange->subject));
        http_forget_texts(service);
    }
    bpf_ringbuf_submit(exchange, 0);
    return 0;
}

__noinline int http_send_closed(__u64 key) {
    const struct http_service* service = bpf_map_lookup_elem(&http_service_connections, &key);
    struct http_closed* closed;

    if (!service)
        return 0;
    closed = bpf_ringbuf_reserve(&http_events, sizeof(*closed), 0);
    if (!closed) {
        http_add_total(HTTP_LOSS_EVENTS_FULL, 1);
        return 0;
    }
    http_fill_event(&closed->event, service, key, HTTP_EVENT_CLOSED);
    bpf_ringbuf_submit(closed, 0);
    return 0;
}

/* Both streams of an upgraded connection consist of frames. */
static __always_inline void http_begin_frames(struct http_connection* c) {
    for (int i = 0; i < HTTP_STREAMS; i++) {
        c->stream[i].state = HTTP_FRAME_HEAD;
        c->stream[i].matched = 0;
        c->stream[i].candidates = 0;
        c->stream[i].flags = 0;
    }
}

__noinline int http_send_frame(__u64 key, __u32 direction) {
    struct http_service* service = bpf_map_lookup_elem(&http_service_connections, &key);
    const struct http_stream* s;
    struct http_frame* frame;
    __u64 mask;
    __u32 copied;

    if (!service)
        return 0;
    direction &= HTTP_STREAMS - 1;
    s = &service->http.stream[direction];
    copied = service->frame_copied[direction];
    mask = s->candidates & 0x80 ? (__u32)s->length : 0;
    frame = bpf_ringbuf_reserve(&http_events, sizeof(*frame), 0);
    if (!frame) {
        http_add_total(HTTP_LOSS_EVENTS_FULL, 1);
        return 0;
    }
    http_fill_event(&frame->event, service, key, HTTP_EVENT_FRAME);
    frame->payload_length = service->frame_length[direction];
    frame->from_client = direction == HTTP_REQUEST;
    frame->opcode = s->method & 15;
    frame->final = s->method >> 7;
    frame->reserved_bits = s->method >> 4 & 7;
    frame->payload_copied = copied;
    frame->reserved[0] = frame->reserved[1] = frame->reserved[2] = 0;
    mask |= mask << 32;
    /* All of it, also what is behind the copied bytes: with a comparison for each word the verifiers of 6.1
     * and older would follow thousands of ways. */
    for (__u32 i = 0; i < HTTP_FRAME_BYTES / 8; i++)
        ((__u64*)frame->payload)[i] = ((const __u64*)service->frame[direction])[i] ^ mask;
    __builtin_memset(service->frame[direction], 0, HTTP_FRAME_BYTES);
    bpf_ringbuf_submit(frame, 0);
    return 0;
}

static __always_inline void http_begin_frame(struct http_connection* c, __u32 direction, __u64 key) {
    struct http_service* service = http_service_of(c);
    struct http_stream* s = &c->stream[direction];

    service->frame_length[direction] = s->word;
    service->frame_copied[direction] = 0;
    __builtin_memset(service->frame[direction], 0, HTTP_FRAME_BYTES);
    s->remaining = s->word;
    s->matched = 0;
    s->flags = 0;
    if (s->remaining) {
        s->state = HTTP_FRAME_PAYLOAD;
        return;
    }
    s->state = HTTP_FRAME_HEAD;
    http_send_frame(key, direction);
}

#endif /* PANGOLIN_BPF_HTTP_SERVICE_BPF_H */
