/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TCP payload in the order of its sequence numbers. The hooks see arriving segments before the socket sorts
 * them, and sent ones also when they are sent again.
 */
#ifndef PANGOLIN_BPF_HTTP_STREAM_BPF_H
#define PANGOLIN_BPF_HTTP_STREAM_BPF_H

#include "bpf/http_exchange.bpf.h"

/* In an offset: the bytes are in the connection's stash. */
#define HTTP_FROM_STASH (1U << 31)
/* In an offset: the bytes are gone. */
#define HTTP_UNSEEN (1U << 30)
/* What a receive window may hold (RFC 7323 section 2.3); farther away is no segment of this stream. */
#define HTTP_WINDOW (1 << 30)

/* A segment of TCP. */
struct http_segment {
    __u32 begin;        /* sequence number of the first byte */
    __u32 size;         /* bytes of payload */
    __u32 offset;       /* of the payload in the packet */
    __u32 acknowledged; /* acknowledgement number */
    __u8 flags;         /* as in the header */
};
enum { TCP_FLAG_FIN_BIT = 1, TCP_FLAG_SYN_BIT = 2, TCP_FLAG_RST_BIT = 4, TCP_FLAG_ACK_BIT = 16 };

/*
 * `size`, which is from 1 to `most` (a power of two), in a way that verifiers before 6.8 follow: these learn
 * nothing from a comparison with 0, and see no bounds that the compiler knows and therefore does not check.
 */
static __always_inline __u32 http_between_1_and(__u32 most, __u32 size) {
    __u32 last = size - 1;
    barrier_var(last);
    return (last & (most - 1)) + 1;
}

/* Of 1 to `most` bytes. */
static __always_inline bool http_load(struct __sk_buff* skb, struct http_connection* c, __u32 offset,
                                      void* to, __u32 size, __u32 most) {
    size = http_between_1_and(most, size);
    if (offset & HTTP_UNSEEN)
        return false;
    if (offset & HTTP_FROM_STASH)
        return !bpf_probe_read_kernel(to, size, &c->stash[offset & (2 * HTTP_STASH - 1)]);
    return !bpf_skb_load_bytes(skb, offset, to, size);
}

/* The beginning of a body or frame is kept, of up to 255 bytes. */
static __always_inline __u32 http_copy_bulk(struct __sk_buff* skb, struct http_connection* c, __u8* to,
                                            __u32 copied, __u32 wanted, __u32 offset, __u32 size) {
    __u32 take = wanted > copied ? wanted - copied : 0;

    if (take > size)
        take = size;
    barrier_var(copied);
    copied &= HTTP_COPY_MASK;
    if (!take || !http_load(skb, c, offset, to + copied, take, HTTP_COPY_MASK + 1))
        return copied;
    return copied + take;
}

static __always_inline void http_copy_body(struct __sk_buff* skb, struct http_connection* c, __u32 offset,
                                           __u32 size) {
    struct http_service* service = http_service_of(c);
    if (service->wants_body && service->texts_of == c->answered)
        service->body_length =
            http_copy_bulk(skb, c, service->body, service->body_length, HTTP_BODY_BYTES, offset, size);
}

/* The next block of a body that may have values that are wanted. Returns how many bytes that is, or -1. */
__noinline int http_read_values(struct __sk_buff* skb, __u64 key, __u32 offset, __u32 size, __u32 direction) {
    struct http_service* service = bpf_map_lookup_elem(&http_service_connections, &key);

    if (!service || !size)
        return -1;
    direction &= HTTP_STREAMS - 1;
    if (!service->json.level || service->json.direction != direction)
        http_begin_json(&service->json, service->values[direction], direction);
    if (!service->json.wanted || service->json.blocks >= HTTP_JSON_BLOCKS) {
        service->values[direction] = 0;
        return -1;
    }
    if (size > HTTP_JSON_BLOCK)
        size = HTTP_JSON_BLOCK;
    if (!http_load(skb, &service->http, offset, service->http.stream[direction].block, size, HTTP_JSON_BLOCK))
        return -1;
    http_scan_json_block(service, direction, size);
    return size;
}

__noinline int http_take_values(struct __sk_buff* skb, __u64 key, __u32 offset, __u32 size, __u32 direction) {
    const struct http_service* service = bpf_map_lookup_elem(&http_service_connections, &key);
    __u32 done = 0;

    direction &= HTTP_STREAMS - 1;
    if (!service || !service->values[direction] ||
        service->texts_of != (direction == HTTP_REQUEST ? service->http.asked - 1 : service->http.answered))
        return 0;
    for (int i = 0; i < HTTP_JSON_BLOCKS && done < size; i++) {
        int read = http_read_values(skb, key, offset + done, size - done, direction);
        if (read < 0)
            break;
        done += read;
    }
    return 0;
}

static __always_inline void http_copy_frame(struct __sk_buff* skb, struct http_connection* c, __u32 direction,
                                            __u32 offset, __u32 size, __u64 key) {
    struct http_service* service = http_service_of(c);
    __u32 copied = service->frame_copied[direction];
    __u64 length = service->frame_length[direction];
    __u32 wanted = length < HTTP_FRAME_BYTES ? length : HTTP_FRAME_BYTES;

    if (copied >= wanted)
        return;
    copied = http_copy_bulk(skb, c, service->frame[direction], copied, wanted, offset, size);
    service->frame_copied[direction] = copied;
    if (copied >= wanted)
        http_send_frame(key, direction);
}

static __always_inline void http_end_frame(struct http_connection* c, __u32 direction, bool is_service,
                                           __u64 key) {
    struct http_service* service = http_service_of(c);

    c->stream[direction].state = HTTP_FRAME_HEAD;
    if (!is_service)
        return;
    /* Its first bytes were not all to be had. */
    if (service->frame_copied[direction] < HTTP_FRAME_BYTES &&
        service->frame_copied[direction] < service->frame_length[direction])
        http_send_frame(key, direction);
}

/* Bytes that need not be read one by one. Returns how many of the `left` these are. */
static __always_inline __u32 http_pass_bulk(struct __sk_buff* skb, struct http_connection* c, __u32 offset,
                                            __u32 left, bool is_request, bool is_service, __u64 key) {
    struct http_stream* s = &c->stream[is_request ? HTTP_REQUEST : HTTP_RESPONSE];
    __u32 size = left;
    __u8 state = s->state;

    if (state <= HTTP_FRAME_PAYLOAD) {
        if (s->remaining < size)
            size = s->remaining;
        s->remaining -= size;
    }
    if (is_service && !is_request && state < HTTP_FRAME_PAYLOAD)
        http_copy_body(skb, c, offset, size);
    if (is_service && state < HTTP_FRAME_PAYLOAD &&
        http_service_of(c)->values[is_request ? HTTP_REQUEST : HTTP_RESPONSE])
        http_take_values(skb, key, offset, size, is_request ? HTTP_REQUEST : HTTP_RESPONSE);
    if (is_service && state == HTTP_FRAME_PAYLOAD)
        http_copy_frame(skb, c, is_request ? HTTP_REQUEST : HTTP_RESPONSE, offset, size, key);
    s->position += size;
    s->next += size;
    if (state > HTTP_FRAME_PAYLOAD || s->remaining)
        return size;
    s->word = 0;
    s->matched = 0;
    if (state == HTTP_CHUNK_DATA)
        s->state = HTTP_CHUNK_END;
    else if (state == HTTP_FRAME_PAYLOAD)
        http_end_frame(c, is_request ? HTTP_REQUEST : HTTP_RESPONSE, is_service, key);
    else
        http_end_message(c, is_request, is_service, key);
    return size;
}

static __always_inline void http_begin_message(struct http_connection* c, __u8 first, bool is_request,
                                               bool is_service, __u64 key) {
    if (is_request)
        http_begin_request(c, first, is_service, key);
    else
        http_begin_response(c);
}

/* Reads on at `offset`, where `left` bytes are. Returns how many were read, or -1. */
static __always_inline int http_step(struct __sk_buff* skb, struct http_connection* c, __u32 offset,
                                     __u32 left, bool is_request, bool is_service, __u64 key) {
    struct http_stream* s = &c->stream[is_request ? HTTP_REQUEST : HTTP_RESPONSE];
    __u32 size = left;
    __u32 read;

    if (s->state >= HTTP_BULK)
        return http_pass_bulk(skb, c, offset, left, is_request, is_service, key);
    if (size > HTTP_BLOCK)
        size = HTTP_BLOCK;
    if (!size)
        return -1;
    if (!http_load(skb, c, offset, s->block, size, HTTP_BLOCK)) {
        http_add_total(HTTP_LOSS_UNREADABLE, 1);
        return -1;
    }
    if (s->state == HTTP_START && s->block[0] != '\r' && s->block[0] != '\n') {
        http_begin_message(c, s->block[0], is_request, is_service, key);
        return 0; /* not on to the reading: the verifier would follow each way there apart */
    }
    read = http_scan_block(key, size, is_request, is_service);
    s->position += read;
    s->next += read;
    switch (s->state) {
        case HTTP_BEGIN:
            s->state = HTTP_START;
            break;
        case HTTP_HEAD_END:
            if (is_request)
                http_end_request_head(c, is_service, key);
            else
                http_end_response_head(c, is_service, key);
            break;
        case HTTP_MESSAGE_END:
            http_end_message(c, is_request, is_service, key);
            break;
        case HTTP_FAULT:
            http_fail(c, is_request, is_service, key);
            break;
        case HTTP_FRAME_BEGIN:
            if (is_service)
                http_begin_frame(c, is_request ? HTTP_REQUEST : HTTP_RESPONSE, key);
            break;
    }
    return read;
}

/* Functions of their own, global, so that the verifier looks into each of them once and not at every call. */
__noinline int http_step_request(struct __sk_buff* skb, __u64 key, __u32 offset, __u32 left) {
    struct http_connection* c = bpf_map_lookup_elem(&http_connections, &key);
    return c ? http_step(skb, c, offset, left, true, false, key) : -1;
}

__noinline int http_step_response(struct __sk_buff* skb, __u64 key, __u32 offset, __u32 left) {
    struct http_connection* c = bpf_map_lookup_elem(&http_connections, &key);
    return c ? http_step(skb, c, offset, left, false, false, key) : -1;
}

__noinline int http_step_service_request(struct __sk_buff* skb, __u64 key, __u32 offset, __u32 left) {
    struct http_service* c = bpf_map_lookup_elem(&http_service_connections, &key);
    return c ? http_step(skb, &c->http, offset, left, true, true, key) : -1;
}

__noinline int http_step_service_response(struct __sk_buff* skb, __u64 key, __u32 offset, __u32 left) {
    struct http_service* c = bpf_map_lookup_elem(&http_service_connections, &key);
    return c ? http_step(skb, &c->http, offset, left, false, true, key) : -1;
}

/* Reads `size` bytes at `offset`. Returns -1 when not all of them could be read. */
#define HTTP_READER(name, step)                                                       \
    __noinline int name(struct __sk_buff* skb, __u64 key, __u32 offset, __u32 size) { \
        __u32 done = 0;                                                               \
        for (int i = 0; i < HTTP_RUN_STEPS && done < size; i++) {                     \
            int read = step(skb, key, offset + done, size - done);                    \
            if (read < 0)                                                             \
                return -1;                                                            \
            done += read;                                                             \
        }                                                                             \
        if (done >= size)                                                             \
            return 0;                                                                 \
        http_add_total(HTTP_LOSS_BOUND, 1);                                           \
        return -1;                                                                    \
    }
HTTP_READER(http_read_request, http_step_request)
HTTP_READER(http_read_response, http_step_response)
HTTP_READER(http_read_service_request, http_step_service_request)
HTTP_READER(http_read_service_response, http_step_service_response)

static __always_inline bool http_read(struct __sk_buff* skb, __u64 key, __u32 offset, __u32 size,
                                      bool is_request, bool is_service) {
    if (is_service)
        return !(is_request ? http_read_service_request(skb, key, offset, size)
                            : http_read_service_response(skb, key, offset, size));
    return !(is_request ? http_read_request(skb, key, offset, size)
                        : http_read_response(skb, key, offset, size));
}

/* The bytes up to `end` will never be seen. */
static __always_inline void http_pass_unseen(struct __sk_buff* skb, struct http_connection* c, __u64 key,
                                             __u32 end, bool is_request, bool is_service) {
    struct http_stream* s = &c->stream[is_request ? HTTP_REQUEST : HTTP_RESPONSE];
    __u32 left = end - s->next;

    if (s->state >= HTTP_BULK)
        http_read(skb, key, HTTP_UNSEEN,
                  s->state > HTTP_FRAME_PAYLOAD || s->remaining > left ? left : s->remaining, is_request,
                  is_service);
    left = end - s->next;
    if (!left)
        return;
    if (is_request ? s->head_ended : (s->state > HTTP_STATUS && s->status >= 200)) {
        s->state = HTTP_UNTIL_NEXT;
    } else {
        http_lose_outstanding(c, HTTP_LOSS_SEQUENCE, is_service, key);
        s->state = HTTP_IGNORED;
    }
    s->position += left;
    s->next = end;
}

/* Keeps the first bytes of what is ahead of its turn. */
static __always_inline void http_stash(struct __sk_buff* skb, struct http_connection* c, __u32 offset,
                                       __u32 size) {
    for (int piece = 0; piece < HTTP_STASH / HTTP_STASH_PIECE + 1; piece++) {
        __u32 stashed = c->stashed;
        __u32 take = size > HTTP_STASH_PIECE ? HTTP_STASH_PIECE : size;
        if (!take || stashed >= HTTP_STASH)
            return;
        take = http_between_1_and(HTTP_STASH_PIECE, take);
        if (bpf_skb_load_bytes(skb, offset, &c->stash[stashed & (HTTP_STASH - 1)], take))
            return;
        c->stashed = stashed + take;
        offset += take;
        size -= take;
    }
}

/*
 * A segment ahead of its turn. Remembered are the extent of what follows the first gap, and its first bytes.
 * False when the segment is not a part of that.
 */
static __always_inline bool http_keep(struct __sk_buff* skb, struct http_connection* c,
                                      const struct http_segment* segment, __u32 direction) {
    struct http_stream* s = &c->stream[direction];
    __u32 begin = segment->begin;
    __u32 end = begin + segment->size;
    __u32 known = 0;
    bool is_complete = true;

    if (s->beyond_begin != s->beyond_end && (__s32)(begin - s->beyond_begin) >= 0) {
        if ((__s32)(begin - s->beyond_end) > 0)
            return false;
        if ((__s32)(end - s->beyond_end) <= 0)
            return true;
        known = s->beyond_end - begin;
        is_complete = c->stash_of == direction && c->stashed == s->beyond_end - s->beyond_begin;
        s->beyond_end = end;
    } else {
        is_complete = s->beyond_begin == s->beyond_end ? !c->stashed : c->stash_of == direction;
        if (s->beyond_begin == s->beyond_end || (__s32)(end - s->beyond_begin) < 0 ||
            (__s32)(end - s->beyond_end) > 0)
            s->beyond_end = end;
        s->beyond_begin = begin;
        if (is_complete) {
            c->stash_of = direction;
            c->stashed = 0;
        }
    }
    if (is_complete)
        http_stash(skb, c, segment->offset + known, segment->size - known);
    return true;
}

/* What had arrived before its turn, if that has come. */
static __always_inline void http_read_kept(struct __sk_buff* skb, struct http_connection* c, __u64 key,
                                           bool is_request, bool is_service) {
    struct http_stream* s = &c->stream[is_request ? HTTP_REQUEST : HTTP_RESPONSE];
    __u32 at = s->next - s->beyond_begin;
    __u32 begin = s->beyond_begin;
    __u32 end = s->beyond_end;
    const __u32 direction = is_request ? HTTP_REQUEST : HTTP_RESPONSE;
    bool is_stashed = c->stash_of == direction;

    if (begin == end || (__s32)at < 0)
        return;
    if (is_stashed && at < c->stashed && at < HTTP_STASH)
        http_read(skb, key, HTTP_FROM_STASH | at, c->stashed - at, is_request, is_service);
    if ((__s32)(end - s->next) > 0)
        http_pass_unseen(skb, c, key, end, is_request, is_service);
    http_forget_kept(c, direction, is_service, key);
}

/* Whether the payload begins like a request: where a connection is met that had begun before. */
static __always_inline bool http_begins_request(struct __sk_buff* skb, const struct http_segment* segment) {
    __u64 word = 0;
    __u64 mask = 0xff;

    if (segment->size < 16 || bpf_skb_load_bytes(skb, segment->offset, &word, sizeof(word)))
        return false;
    for (int length = 1; length < 8; length++) {
        if ((__u8)(word >> length * 8) == ' ')
            return http_method_of(word & mask) != HTTP_METHOD_OTHER;
        mask = mask << 8 | 0xff;
    }
    return false;
}

/* Puts a reader in its place that has lost, or never knew it. */
static __always_inline void http_place_requests(struct __sk_buff* skb, struct http_connection* c,
                                                const struct http_segment* segment, bool is_service,
                                                __u64 key) {
    struct http_stream* s = &c->stream[HTTP_REQUEST];
    __u32 ahead = segment->begin - s->next;

    if (s->synced && (s->state < HTTP_UNTIL_NEXT || http_outstanding(c) || (__s32)ahead < 0))
        return;
    if (!http_begins_request(skb, segment))
        return;
    if (s->synced)
        s->position += ahead;
    s->next = segment->begin;
    s->highest = segment->begin;
    http_forget_kept(c, HTTP_REQUEST, is_service, key);
    s->synced = 1;
    s->state = HTTP_START;
}

/* The stream ended where it was read to. */
static __always_inline void http_end_stream(struct http_connection* c, bool is_request, bool is_service,
                                            __u64 key) {
    struct http_stream* s = &c->stream[HTTP_RESPONSE];

    if (is_request || !http_outstanding(c))
        return;
    if (s->state == HTTP_UNTIL_CLOSE || (s->state == HTTP_UNTIL_NEXT && http_outstanding(c) == 1))
        http_finish(c, s->position, is_service, key);
}

static __always_inline void http_read_new(struct __sk_buff* skb, struct http_connection* c, __u64 key,
                                          const struct http_segment* segment, bool is_request,
                                          bool is_service) {
    struct http_stream* s = &c->stream[is_request ? HTTP_REQUEST : HTTP_RESPONSE];
    __u32 ahead = segment->begin - s->next;
    __u32 behind = 0;

    s->last_ns = bpf_ktime_get_ns();
    s->acknowledged = segment->acknowledged;
    if ((__s32)ahead > 0) {
        if (ahead > HTTP_WINDOW || http_keep(skb, c, segment, is_request ? HTTP_REQUEST : HTTP_RESPONSE))
            return;
        /* A second gap. A body reaches over both, or the place is lost until the next request. */
        if (s->state < HTTP_BULK || (s->state <= HTTP_FRAME_PAYLOAD && s->remaining < ahead))
            return;
        http_pass_unseen(skb, c, key, segment->begin, is_request, is_service);
        http_forget_kept(c, is_request ? HTTP_REQUEST : HTTP_RESPONSE, is_service, key);
    } else {
        behind = -ahead;
    }
    if (!http_read(skb, key, segment->offset + behind, segment->size - behind, is_request, is_service))
        return;
    http_read_kept(skb, c, key, is_request, is_service);
}

/* A segment of a connection that is known. */
static __always_inline void http_segment(struct __sk_buff* skb, struct http_connection* c, __u64 key,
                                         const struct http_segment* segment, bool is_request,
                                         bool is_service) {
    struct http_stream* s = &c->stream[is_request ? HTTP_REQUEST : HTTP_RESPONSE];
    __u32 end = segment->begin + segment->size;

    if (segment->flags & TCP_FLAG_SYN_BIT) {
        s->next = segment->begin + 1;
        s->highest = s->next;
        s->beyond_begin = s->beyond_end = s->next;
        s->synced = 1;
        return;
    }
    if (c->mode == HTTP_MODE_OPAQUE || (c->mode == HTTP_MODE_WEBSOCKET && !is_service))
        return;
    if (is_request && segment->size)
        http_place_requests(skb, c, segment, is_service, key);
    if (!s->synced)
        return;
    if ((__s32)(end - s->highest) > 0)
        s->highest = end;
    if (segment->flags & TCP_FLAG_FIN_BIT) {
        s->has_end = 1;
        s->end = end;
    }
    if (segment->size && (__s32)(end - s->next) > 0) {
        http_read_new(skb, c, key, segment, is_request, is_service);
        if (s->at)
            http_erase_block(key, is_request ? HTTP_REQUEST : HTTP_RESPONSE, is_service);
    }
    if (s->has_end && s->next == s->end)
        http_end_stream(c, is_request, is_service, key);
}

/*
 * The connection ended. What was answered by then, as far as can be told: bytes that passed but could not be
 * read in order are taken for the rest of a response whose status is known. A response to a target's request
 * that is cut off behind its head has its status, but no duration.
 */
static __always_inline void http_close(struct http_connection* c, bool is_service, __u64 key) {
    struct http_stream* s = &c->stream[HTTP_RESPONSE];
    __u32 outstanding = http_outstanding(c);
    __s32 unread = s->highest - s->next;
    __u64 end = s->position + (unread > 0 ? unread : 0);

    if (is_service && c->mode == HTTP_MODE_WEBSOCKET)
        http_send_closed(key);
    if (!is_service && c->mode == HTTP_MODE_WEBSOCKET)
        http_add_open(c->target, 0, -1);
    if (!outstanding || c->mode != HTTP_MODE_HTTP)
        return;
    if (outstanding == 1 && s->has_end && s->status >= 200 && s->state > HTTP_STATUS &&
        (s->state == HTTP_UNTIL_NEXT || s->state == HTTP_UNTIL_CLOSE ||
         (s->state < HTTP_UNTIL_CLOSE && unread > 0 && s->remaining <= (__u64)unread))) {
        http_finish(c, end, is_service, key);
        return;
    }
    if (!is_service && s->status >= 200 && s->state >= HTTP_CHUNK_SIZE && s->state != HTTP_IGNORED)
        http_finish_early(c, end);
    http_abort_outstanding(c, is_service, key);
}

#endif /* PANGOLIN_BPF_HTTP_STREAM_BPF_H */
