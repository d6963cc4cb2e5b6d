/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Values of a JSON object (RFC 8259), found by name while its bytes pass. Only names in the object that is
 * meant count, whatever stands in the strings and objects inside of it: what clients send is in there.
 */
#ifndef PANGOLIN_BPF_HTTP_JSON_BPF_H
#define PANGOLIN_BPF_HTTP_JSON_BPF_H

#include "bpf/http_scan.bpf.h"

/* Values are looked for in so much of a body, 16 KiB: cookies stand before them. */
enum { HTTP_JSON_BLOCK = 64, HTTP_JSON_BLOCKS = 256 };

#define HTTP_JSON_NAMES(host, method, newt, token) HTTP_WORD(host, method, newt, token, 0, 0, 0, 0)

/* Row n has the n-th character of each of these names, the quotation mark included. */
static const __u64 http_json_names[8] = {
    HTTP_JSON_NAMES('h', 'm', 'n', 't'), HTTP_JSON_NAMES('o', 'e', 'e', 'o'),
    HTTP_JSON_NAMES('s', 't', 'w', 'k'), HTTP_JSON_NAMES('t', 'h', 't', 'e'),
    HTTP_JSON_NAMES('"', 'o', 'I', 'n'), HTTP_JSON_NAMES(0, 'd', 'd', '"'),
    HTTP_JSON_NAMES(0, '"', '"', 0),
};

static __always_inline void http_begin_json(struct http_json* json, __u64 wanted, __u32 direction) {
    __builtin_memset(json, 0, sizeof(*json));
    json->wanted = wanted;
    json->direction = direction;
    /* A question is an object, an answer has one that is called "data". */
    json->level = direction == HTTP_REQUEST ? 1 : 2;
}

/* One byte of the value that was wanted. */
static __always_inline void http_take_value(struct http_service* service, __u64 name, __u8 c) {
    struct http_json* json = &service->json;
    __u8 matched = json->matched;
    __u8 length = service->subject_length;

    if (name == HTTP_JSON_TOKEN) {
        service->token = http_hash(service->token, c);
        return;
    }
    if (name == HTTP_JSON_METHOD) {
        /* Eight letters and more are none of the known ones. */
        json->word = matched < 7 ? json->word | (__u64)c << (matched & 7) * 8 : ~0ULL;
        json->matched = matched < 7 ? matched + 1 : matched;
        return;
    }
    if (length < HTTP_SUBJECT_BYTES) {
        service->subject[length & (HTTP_SUBJECT_BYTES - 1)] = c;
        service->subject_length = length + 1;
    }
}

static __always_inline void http_end_string(struct http_service* service) {
    struct http_json* json = &service->json;
    __u64 taking = json->taking;

    json->in_string = 0;
    if (!taking) {
        json->name = json->candidates & http_bytes_equal(http_json_names[json->matched & 7], '"');
        return;
    }
    if (taking == HTTP_JSON_METHOD)
        service->subject_method = http_method_of(json->word);
    json->wanted &= ~taking;
    json->taking = 0;
}

static __always_inline void http_scan_json(struct http_service* service, __u8 c) {
    struct http_json* json = &service->json;

    if (!json->in_string) {
        if (c == '"') {
            json->in_string = 1;
            json->matched = 0;
            json->taking = json->name;
            json->candidates = json->depth == json->level ? json->wanted : 0;
        } else if (c == '{' || c == '[') {
            json->depth++;
        } else if (c == '}' || c == ']') {
            json->depth--;
        } else if (c != ',') {
            return; /* a colon, blanks, other values */
        }
        json->name = 0;
    } else if (json->is_escaped) {
        /* Neither names nor values that are wanted have any. */
        json->is_escaped = 0;
        json->candidates = 0;
        json->taking = 0;
    } else if (c == '\\') {
        json->is_escaped = 1;
    } else if (c == '"') {
        http_end_string(service);
    } else if (json->taking) {
        http_take_value(service, json->taking, c);
    } else {
        json->candidates &= http_bytes_equal(http_json_names[json->matched & 7], c);
        json->matched = json->matched < 7 ? json->matched + 1 : 7;
    }
}

/* Reads the first `size` bytes of the stream's block. */
static __always_inline void http_scan_json_block(struct http_service* service, __u32 direction, __u32 size) {
    struct http_stream* s = &service->http.stream[direction];
    struct http_json* json = &service->json;

    json->at = 0;
    json->blocks++;
    for (int turn = 0; turn < HTTP_JSON_BLOCK; turn++) {
        __u32 at = HTTP_RELOAD(json->at);

        if (at >= size || !HTTP_RELOAD(json->wanted))
            break;
        http_scan_json(service, s->block[at & (HTTP_JSON_BLOCK - 1)]);
        json->at = at + 1;
    }
    __builtin_memset(s->block, 0, HTTP_JSON_BLOCK);
}

#endif /* PANGOLIN_BPF_HTTP_JSON_BPF_H */
