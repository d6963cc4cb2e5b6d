/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What begins and ends on a connection: requests, responses, and how far each reaches (RFC 9112 section 6).
 */
#ifndef PANGOLIN_BPF_HTTP_EXCHANGE_BPF_H
#define PANGOLIN_BPF_HTTP_EXCHANGE_BPF_H

#include "bpf/http_json.bpf.h"

/* No request is outstanding any more that had not been answered by now. */
static __always_inline void http_lose_outstanding(struct http_connection* c, enum http_loss reason,
                                                  bool is_service, __u64 key) {
    __u32 outstanding = http_outstanding(c);

    if (!outstanding)
        return;
    if (is_service)
        http_send_exchange(key, c->answered, 0, 0);
    else
        http_drop_requests(key, 0);
    c->answered = c->asked;
    http_add_total(reason, outstanding);
}

/* They will never be answered. */
static __always_inline void http_abort_outstanding(struct http_connection* c, bool is_service, __u64 key) {
    if (!http_outstanding(c))
        return;
    if (is_service)
        http_send_exchange(key, c->answered, 0, 0);
    else
        http_drop_requests(key, 1);
    c->answered = c->asked;
}

static __always_inline void http_become_opaque(struct http_connection* c, enum http_opaque kind,
                                               bool is_service, __u64 key) {
    http_lose_outstanding(c, HTTP_LOSS_MALFORMED, is_service, key);
    c->mode = HTTP_MODE_OPAQUE;
    c->stream[HTTP_REQUEST].state = HTTP_IGNORED;
    c->stream[HTTP_RESPONSE].state = HTTP_IGNORED;
    if (!is_service)
        http_add_total(http_opaque_index(kind), 1);
}

static __always_inline struct http_connection* http_connection_of(__u64 key, bool is_service) {
    return is_service ? bpf_map_lookup_elem(&http_service_connections, &key)
                      : bpf_map_lookup_elem(&http_connections, &key);
}

/* Cookies, tokens and passwords pass here: nothing stays of what was read. */
__noinline int http_erase_block(__u64 key, __u32 direction, bool is_service) {
    struct http_connection* c = http_connection_of(key, is_service);
    struct http_stream* s;

    if (!c)
        return 0;
    s = &c->stream[direction & (HTTP_STREAMS - 1)];
    __builtin_memset(s->block, 0, sizeof(s->block));
    s->at = 0;
    return 0;
}

__noinline int http_erase_stash(__u64 key, bool is_service) {
    struct http_connection* c = http_connection_of(key, is_service);

    if (!c)
        return 0;
    for (int i = 0; i < (int)sizeof(c->stash) / 8; i++)
        ((volatile __u64*)c->stash)[i] = 0; /* not a call of memset() */
    return 0;
}

/* Nothing is kept of what came before its turn. */
static __always_inline void http_forget_kept(struct http_connection* c, __u32 direction, bool is_service,
                                             __u64 key) {
    struct http_stream* s = &c->stream[direction];

    s->beyond_begin = s->beyond_end = s->next;
    if (c->stash_of != direction || !c->stashed)
        return;
    c->stashed = 0;
    http_erase_stash(key, is_service);
}

static __always_inline void http_reset_message(struct http_stream* s) {
    s->begin = s->position;
    s->remaining = 0;
    s->word = 0;
    s->length = 0;
    s->host = 0;
    s->status = 0;
    s->flags = 0;
    s->matched = 0;
    s->candidates = 0;
    s->head_ended = 0;
}

/* The response ended at `end`, or the connection with it. */
static __always_inline void http_finish(struct http_connection* c, __u64 end, bool is_service, __u64 key) {
    struct http_stream* s = &c->stream[HTTP_RESPONSE];
    struct http_pending* request = http_pending_at(c, c->answered);
    __u32 status = s->status;
    __u32 number = c->answered;

    c->answered++;
    s->state = HTTP_START;
    if (is_service) {
        http_send_exchange(key, number, end - s->begin, status);
        return;
    }
    http_add_open(request->target, -1, 0);
    http_add_status(request->target, request->method, status);
    http_add_size(request->target, end - s->begin);
    if (status != 101 && !(s->flags & HTTP_EVENT_STREAM))
        http_add_duration(request->target, request->method, s->last_ns - request->started_ns);
}

/* The connection ended in the middle of a response, whose status has come and whose last byte never will. */
static __always_inline void http_finish_early(struct http_connection* c, __u64 end) {
    struct http_stream* s = &c->stream[HTTP_RESPONSE];
    struct http_pending* request = http_pending_at(c, c->answered);

    c->answered++;
    http_add_aborted(request->target, 1);
    http_add_open(request->target, -1, 0);
    http_add_status(request->target, request->method, s->status);
    http_add_size(request->target, end - s->begin);
}

/*
 * A client asks again only when it has the whole answer, unless it pipelines; so what it acknowledges with
 * the first bytes of a request is where the response to it begins. This puts the reader of the responses in
 * its place when bytes of them were not seen in order.
 */
static __always_inline void http_place_responses(struct http_connection* c, __u32 acknowledged,
                                                 bool is_service, __u64 key) {
    struct http_stream* s = &c->stream[HTTP_RESPONSE];
    __s32 missed = s->synced ? acknowledged - s->next : 0;

    if (http_outstanding(c)) {
        if (missed <= 0 && s->synced && s->state != HTTP_UNTIL_NEXT && s->state != HTTP_IGNORED)
            return;
        if (missed < 0)
            missed = 0;
        if (http_outstanding(c) == 1 && s->state > HTTP_STATUS && s->state != HTTP_IGNORED &&
            s->status >= 200)
            http_finish(c, s->position + missed, is_service, key);
        else
            http_lose_outstanding(c, HTTP_LOSS_SEQUENCE, is_service, key);
    } else if (s->synced && !missed && s->state == HTTP_START) {
        return;
    }
    s->position += missed;
    s->next = acknowledged;
    s->highest = acknowledged;
    http_forget_kept(c, HTTP_RESPONSE, is_service, key);
    s->synced = 1;
    s->state = HTTP_START;
}

/* At the first byte of a request. */
static __always_inline void http_begin_request(struct http_connection* c, __u8 first, bool is_service,
                                               __u64 key) {
    struct http_stream* s = &c->stream[HTTP_REQUEST];
    struct http_pending* request;

    if (!http_is_token(first)) {
        /* RFC 8446 section 5.1: a handshake record. */
        http_become_opaque(c, first == 0x16 && !c->asked ? HTTP_OPAQUE_TLS : HTTP_OPAQUE_UNKNOWN, is_service,
                           key);
        return;
    }
    http_place_responses(c, s->acknowledged, is_service, key);
    if (http_outstanding(c) >= HTTP_PENDING) {
        http_lose_outstanding(c, HTTP_LOSS_PIPELINE_FULL, is_service, key);
        http_become_opaque(c, HTTP_OPAQUE_UNKNOWN, is_service, key);
        return;
    }
    http_reset_message(s);
    s->state = HTTP_METHOD;
    s->method = HTTP_METHOD_OTHER;
    request = http_pending_at(c, c->asked);
    request->started_ns = s->last_ns;
    request->begin = s->position;
    request->method = HTTP_METHOD_OTHER;
    request->client_type = HTTP_CLIENT_NONE;
    request->target = c->target;
    if (is_service)
        http_begin_texts(c);
    else
        http_add_open(c->target, 1, 0);
    c->asked++;
}

static __always_inline void http_begin_response(struct http_connection* c) {
    struct http_stream* s = &c->stream[HTTP_RESPONSE];

    if (!http_outstanding(c)) {
        http_add_total(HTTP_LOSS_UNSOLICITED, 1);
        s->state = HTTP_IGNORED;
        return;
    }
    http_reset_message(s);
    s->state = HTTP_STATUS;
}

static __always_inline void http_end_request_head(struct http_connection* c, bool is_service, __u64 key) {
    struct http_stream* s = &c->stream[HTTP_REQUEST];

    http_pending_at(c, c->asked - 1)->method = s->method;
    s->head_ended = 1;
    if (is_service)
        http_choose_body(key);
    else if (s->host)
        http_find_owner(key);
    s->word = 0;
    s->matched = 0;
    /* RFC 9112 section 6.1 and 6.3: a request whose end cannot be told is answered with 400 at most. */
    if (s->flags & HTTP_BAD_FRAMING ||
        (s->flags & HTTP_HAS_CODING && (s->flags & HTTP_MINOR_0 || !(s->flags & HTTP_CHUNKED)))) {
        s->state = HTTP_UNTIL_NEXT;
        return;
    }
    s->state = HTTP_START;
    if (s->flags & HTTP_HAS_CODING) {
        s->state = HTTP_CHUNK_SIZE;
    } else if (s->flags & HTTP_HAS_LENGTH && s->length) {
        s->remaining = s->length;
        s->state = HTTP_BODY;
    }
}

static __always_inline void http_upgrade(struct http_connection* c, bool is_service, __u64 key) {
    struct http_stream* s = &c->stream[HTTP_RESPONSE];
    __u32 target = http_pending_at(c, c->answered)->target;
    __u32 flags = s->flags;

    http_finish(c, s->position, is_service, key);
    if (flags & HTTP_TO_WEBSOCKET) {
        http_abort_outstanding(c, is_service, key);
        c->mode = HTTP_MODE_WEBSOCKET;
        if (is_service) {
            http_begin_frames(c);
            return;
        }
        c->stream[HTTP_REQUEST].state = HTTP_IGNORED;
        s->state = HTTP_IGNORED;
        c->target = target;
        http_add_open(target, 0, 1);
        return;
    }
    http_become_opaque(c, flags & HTTP_TO_H2C ? HTTP_OPAQUE_H2C : HTTP_OPAQUE_TUNNEL, is_service, key);
}

static __always_inline void http_end_response_head(struct http_connection* c, bool is_service, __u64 key) {
    struct http_stream* s = &c->stream[HTTP_RESPONSE];
    __u32 method = http_pending_at(c, c->answered)->method;
    __u32 flags = s->flags;

    s->word = 0;
    s->matched = 0;
    if (is_service && s->status / 100 == 4)
        http_want_body(c);
    if (s->status < 200) {
        if (s->status == 101)
            http_upgrade(c, is_service, key);
        else
            s->state = HTTP_START;
    } else if (method == HTTP_METHOD_CONNECT && s->status < 300) {
        http_finish(c, s->position, is_service, key);
        http_become_opaque(c, HTTP_OPAQUE_TUNNEL, is_service, key);
    } else if (method == HTTP_METHOD_HEAD || s->status == 204 || s->status == 304) {
        http_finish(c, s->position, is_service, key);
    } else if (flags & HTTP_BAD_FRAMING) {
        s->state = HTTP_UNTIL_NEXT;
    } else if (flags & HTTP_HAS_CODING) {
        s->state = flags & HTTP_CHUNKED && !(flags & HTTP_MINOR_0) ? HTTP_CHUNK_SIZE : HTTP_UNTIL_CLOSE;
    } else if (!(flags & HTTP_HAS_LENGTH)) {
        s->state = HTTP_UNTIL_CLOSE;
    } else if (s->length) {
        s->remaining = s->length;
        s->state = HTTP_BODY;
    } else {
        http_finish(c, s->position, is_service, key);
    }
}

static __always_inline void http_end_message(struct http_connection* c, bool is_request, bool is_service,
                                             __u64 key) {
    if (is_request)
        c->stream[HTTP_REQUEST].state = HTTP_START;
    else
        http_finish(c, c->stream[HTTP_RESPONSE].position, is_service, key);
}

/* The stream breaks the syntax. */
static __always_inline void http_fail(struct http_connection* c, bool is_request, bool is_service,
                                      __u64 key) {
    struct http_stream* s = &c->stream[is_request ? HTTP_REQUEST : HTTP_RESPONSE];

    if (is_request && s->head_ended) {
        s->state = HTTP_UNTIL_NEXT;
    } else if (is_request) {
        /* What was taken for the beginning of a request is none. */
        if (http_outstanding(c)) {
            c->asked--;
            if (!is_service)
                http_add_open(c->target, -1, 0);
        }
        http_become_opaque(c, s->flags & HTTP_PREFACE ? HTTP_OPAQUE_H2C : HTTP_OPAQUE_UNKNOWN, is_service,
                           key);
    } else if (s->status >= 200) {
        s->state = HTTP_UNTIL_NEXT;
    } else {
        http_lose_outstanding(c, HTTP_LOSS_MALFORMED, is_service, key);
        s->state = HTTP_IGNORED;
    }
}

#endif /* PANGOLIN_BPF_HTTP_EXCHANGE_BPF_H */
