/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The syntax of HTTP/1 heads, chunks and trailers, a byte at a time (RFC 9112). All that is known between two
 * bytes is in the stream's state, so that a stream may be cut anywhere; and it is reloaded for each byte, so
 * that the verifier sees every turn of the loop begin alike.
 */
#ifndef PANGOLIN_BPF_HTTP_SCAN_BPF_H
#define PANGOLIN_BPF_HTTP_SCAN_BPF_H

#include "bpf/http_service.bpf.h"

/* Reads memory anew: what the verifier does not know it does not tell apart. */
#define HTTP_RELOAD(place) (*(volatile typeof(place)*)&(place))

#define HTTP_WORD(a, b, c, d, e, f, g, h)                                                    \
    ((__u64)(a) | (__u64)(b) << 8 | (__u64)(c) << 16 | (__u64)(d) << 24 | (__u64)(e) << 32 | \
     (__u64)(f) << 40 | (__u64)(g) << 48 | (__u64)(h) << 56)

/* Fields that matter, a byte each. */
#define HTTP_FIELD_LENGTH (1ULL << 0)     /* content-length */
#define HTTP_FIELD_CODING (1ULL << 8)     /* transfer-encoding */
#define HTTP_FIELD_UPGRADE (1ULL << 16)   /* upgrade */
#define HTTP_FIELD_TYPE (1ULL << 24)      /* content-type */
#define HTTP_FIELD_HOST (1ULL << 32)      /* host */
#define HTTP_FIELD_FORWARDED (1ULL << 40) /* x-forwarded-host */
#define HTTP_FIELD_ETAG (1ULL << 48)      /* etag */
#define HTTP_NAMES(a, b, c, d, e, f, g) HTTP_WORD(a, b, c, d, e, f, g, 0)

/* Row n has the n-th character of each of these names, the colon included. */
static const __u64 http_field_names[32] = {
    HTTP_NAMES('c', 't', 'u', 'c', 'h', 'x', 'e'), HTTP_NAMES('o', 'r', 'p', 'o', 'o', '-', 't'),
    HTTP_NAMES('n', 'a', 'g', 'n', 's', 'f', 'a'), HTTP_NAMES('t', 'n', 'r', 't', 't', 'o', 'g'),
    HTTP_NAMES('e', 's', 'a', 'e', ':', 'r', ':'), HTTP_NAMES('n', 'f', 'd', 'n', 0, 'w', 0),
    HTTP_NAMES('t', 'e', 'e', 't', 0, 'a', 0),     HTTP_NAMES('-', 'r', ':', '-', 0, 'r', 0),
    HTTP_NAMES('l', '-', 0, 't', 0, 'd', 0),       HTTP_NAMES('e', 'e', 0, 'y', 0, 'e', 0),
    HTTP_NAMES('n', 'n', 0, 'p', 0, 'd', 0),       HTTP_NAMES('g', 'c', 0, 'e', 0, '-', 0),
    HTTP_NAMES('t', 'o', 0, ':', 0, 'h', 0),       HTTP_NAMES('h', 'd', 0, 0, 0, 'o', 0),
    HTTP_NAMES(':', 'i', 0, 0, 0, 's', 0),         HTTP_NAMES(0, 'n', 0, 0, 0, 't', 0),
    HTTP_NAMES(0, 'g', 0, 0, 0, ':', 0),           HTTP_NAMES(0, ':', 0, 0, 0, 0, 0),
};

/* A one for each byte of `word` that is `c`. */
static __always_inline __u64 http_bytes_equal(__u64 word, __u8 c) {
    const __u64 low = 0x7f7f7f7f7f7f7f7fULL;
    __u64 difference = word ^ (c * 0x0101010101010101ULL);
    return (~(((difference & low) + low) | difference | low)) >> 7;
}
static const char http_event_stream[32] = "text/event-stream";

enum { HTTP_IS_TOKEN = 1 << 0, HTTP_IS_DIGIT = 1 << 1, HTTP_IS_LETTER = 1 << 2 };

/* Tables instead of comparisons: the verifier follows each branch. RFC 9110 section 5.6.2 has the characters
 * of a token. */
static const __u8 http_classes[256] = {
    ['!'] = HTTP_IS_TOKEN,
    ['#' ... '\''] = HTTP_IS_TOKEN,
    ['*' ... '+'] = HTTP_IS_TOKEN,
    ['-' ... '.'] = HTTP_IS_TOKEN,
    ['0' ... '9'] = HTTP_IS_TOKEN | HTTP_IS_DIGIT,
    ['A' ... 'Z'] = HTTP_IS_TOKEN | HTTP_IS_LETTER,
    ['^' ... '`'] = HTTP_IS_TOKEN,
    ['a' ... 'z'] = HTTP_IS_TOKEN | HTTP_IS_LETTER,
    ['|'] = HTTP_IS_TOKEN,
    ['~'] = HTTP_IS_TOKEN,
};

static __always_inline bool http_is_token(__u8 c) {
    return http_classes[c] & HTTP_IS_TOKEN;
}

static __always_inline __u8 http_lower(__u8 c) {
    return c | (http_classes[c] & HTTP_IS_LETTER) << 3;
}

static __always_inline bool http_is_blank(__u8 c) {
    return c == ' ' || c == '\t';
}

static __always_inline __u8 http_method_of(__u64 word) {
    switch (word) {
        case HTTP_WORD('G', 'E', 'T', 0, 0, 0, 0, 0):
            return HTTP_METHOD_GET;
        case HTTP_WORD('H', 'E', 'A', 'D', 0, 0, 0, 0):
            return HTTP_METHOD_HEAD;
        case HTTP_WORD('P', 'O', 'S', 'T', 0, 0, 0, 0):
            return HTTP_METHOD_POST;
        case HTTP_WORD('P', 'U', 'T', 0, 0, 0, 0, 0):
            return HTTP_METHOD_PUT;
        case HTTP_WORD('D', 'E', 'L', 'E', 'T', 'E', 0, 0):
            return HTTP_METHOD_DELETE;
        case HTTP_WORD('C', 'O', 'N', 'N', 'E', 'C', 'T', 0):
            return HTTP_METHOD_CONNECT;
        case HTTP_WORD('O', 'P', 'T', 'I', 'O', 'N', 'S', 0):
            return HTTP_METHOD_OPTIONS;
        case HTTP_WORD('T', 'R', 'A', 'C', 'E', 0, 0, 0):
            return HTTP_METHOD_TRACE;
        case HTTP_WORD('P', 'A', 'T', 'C', 'H', 0, 0, 0):
            return HTTP_METHOD_PATCH;
        default:
            return HTTP_METHOD_OTHER;
    }
}

/* "HTTP/1." and a digit. False when the byte does not belong there. */
static __always_inline bool http_scan_version(struct http_stream* s, __u8 c) {
    if (s->matched < 7) {
        if (c != (__u8)(HTTP_WORD('H', 'T', 'T', 'P', '/', '1', '.', 0) >> (s->matched & 7) * 8))
            return false;
    } else {
        if (c < '0' || c > '9')
            return false;
        if (c == '0')
            s->flags |= HTTP_MINOR_0;
    }
    s->matched++;
    return true;
}

static __always_inline __u8 http_scan_method(struct http_stream* s, __u8 c) {
    if (c == ' ') {
        __u64 word = s->word;
        if (!s->matched)
            return HTTP_FAULT;
        s->matched = 0;
        /* A method like another, unless the version says so: visitors may call theirs what they like. */
        if (word == HTTP_WORD('P', 'R', 'I', 0, 0, 0, 0, 0))
            s->flags |= HTTP_PREFACE;
        s->method = http_method_of(word);
        return HTTP_TARGET;
    }
    if (!http_is_token(c))
        return HTTP_FAULT;
    /* Eight letters and more are none of the known ones. */
    if (s->matched < 7) {
        s->word |= (__u64)c << (s->matched & 7) * 8;
        s->matched++;
    } else {
        s->word = ~0ULL;
    }
    return HTTP_METHOD;
}

static __always_inline __u8 http_scan_target(struct http_stream* s, __u8 c) {
    if (c == ' ') {
        if (!s->matched)
            return HTTP_FAULT;
        s->matched = 0;
        return HTTP_VERSION;
    }
    if (c < ' ' || c == 0x7f)
        return HTTP_FAULT;
    s->matched = 1;
    return HTTP_TARGET;
}

/* The version ends a request line. */
static __always_inline __u8 http_scan_request_version(struct http_stream* s, __u8 c) {
    if (s->matched < 8)
        return http_scan_version(s, c) ? HTTP_VERSION : HTTP_FAULT;
    if (c == '\n') {
        s->flags &= ~HTTP_PREFACE;
        return HTTP_LINE;
    }
    if (c != '\r' || s->matched > 8)
        return HTTP_FAULT;
    s->matched++;
    return HTTP_VERSION;
}

static __always_inline __u8 http_scan_status(struct http_stream* s, __u8 c) {
    __u8 matched = s->matched;

    if (matched < 8)
        return http_scan_version(s, c) ? HTTP_STATUS : HTTP_FAULT;
    s->matched = matched + 1;
    if (matched == 8)
        return c == ' ' ? HTTP_STATUS : HTTP_FAULT;
    if (matched < 12) {
        if (c < '0' || c > '9' || (matched == 9 && c == '0'))
            return HTTP_FAULT;
        s->status = s->status * 10 + (c - '0');
        return HTTP_STATUS;
    }
    if (c == '\n')
        return HTTP_LINE;
    if (c == ' ' || c == '\r')
        return HTTP_SKIP;
    s->status = 0;
    return HTTP_FAULT;
}

/* Which of the wanted names the bytes so far begin. */
static __always_inline __u8 http_scan_name(struct http_stream* s, __u8 c) {
    __u64 row = http_field_names[s->matched & 31];
    __u64 candidates = s->candidates;

    if (c == '\n') {
        s->candidates = 0;
        return HTTP_LINE;
    }
    if (http_is_blank(c)) {
        /* RFC 9112 section 5.1: no blank before the colon; whoever reads over it reads another message. */
        if (candidates & http_bytes_equal(row, ':') & (HTTP_FIELD_LENGTH | HTTP_FIELD_CODING))
            s->flags |= HTTP_BAD_FRAMING;
        s->candidates = 0;
        return HTTP_SKIP;
    }
    candidates &= http_bytes_equal(row, http_lower(c));
    s->candidates = candidates;
    s->matched++;
    if (!candidates)
        return HTTP_SKIP;
    if (c != ':')
        return HTTP_NAME;
    s->matched = 0;
    s->word = 0;
    switch (candidates) {
        case HTTP_FIELD_LENGTH:
            return HTTP_VALUE_LENGTH;
        case HTTP_FIELD_CODING:
            s->flags |= HTTP_HAS_CODING;
            return HTTP_VALUE_CODING;
        case HTTP_FIELD_UPGRADE:
            return HTTP_VALUE_UPGRADE;
        case HTTP_FIELD_TYPE:
            return HTTP_VALUE_TYPE;
        case HTTP_FIELD_FORWARDED:
            s->flags |= HTTP_HAS_FORWARDED;
            s->host = HTTP_HOST_BASIS;
            return HTTP_VALUE_HOST;
        case HTTP_FIELD_ETAG:
            return HTTP_VALUE_ETAG;
        default:
            if (s->flags & HTTP_HAS_FORWARDED)
                return HTTP_SKIP;
            s->host = HTTP_HOST_BASIS;
            return HTTP_VALUE_HOST;
    }
}

/* At the beginning of a line: the head's end, or another field. */
static __always_inline __u8 http_scan_line(struct http_stream* s, __u8 c, __u64 wanted) {
    if (c == '\r')
        return HTTP_LINE_END;
    if (c == '\n')
        return HTTP_HEAD_END;
    if (http_is_blank(c)) {
        /* Folded onto the line before (RFC 9112 section 5.2): of no matter, unless that said the length. */
        if (s->candidates & (HTTP_FIELD_LENGTH | HTTP_FIELD_CODING))
            s->flags |= HTTP_BAD_FRAMING;
        return HTTP_SKIP;
    }
    s->candidates = wanted;
    s->matched = 0;
    return http_scan_name(s, c);
}

/* Digits, or a list of the same number (RFC 9110 section 8.6). `matched`: 0 before the digits, 1 in them, 2
 * behind. */
static __always_inline __u8 http_scan_length(struct http_stream* s, __u8 c) {
    if (c >= '0' && c <= '9') {
        if (s->matched == 2 || s->word >> 59) {
            s->flags |= HTTP_BAD_FRAMING;
            return HTTP_SKIP;
        }
        s->matched = 1;
        s->word = s->word * 10 + (c - '0');
        return HTTP_VALUE_LENGTH;
    }
    if (http_is_blank(c) || c == '\r') {
        if (s->matched == 1)
            s->matched = 2;
        return HTTP_VALUE_LENGTH;
    }
    if (c == ',' || c == '\n') {
        if (!s->matched || (s->flags & HTTP_HAS_LENGTH && s->length != s->word))
            s->flags |= HTTP_BAD_FRAMING;
        s->length = s->word;
        s->flags |= HTTP_HAS_LENGTH;
        s->matched = 0;
        s->word = 0;
        return c == '\n' ? HTTP_LINE : HTTP_VALUE_LENGTH;
    }
    s->flags |= HTTP_BAD_FRAMING;
    return HTTP_SKIP;
}

/* A list of codings, of which the last one counts. `matched`: bytes of "chunked"; 64 when it ended; 63 for
 * another word. */
static __always_inline __u8 http_scan_coding(struct http_stream* s, __u8 c) {
    const __u64 chunked = HTTP_WORD('c', 'h', 'u', 'n', 'k', 'e', 'd', 0);
    __u8 matched = s->matched;

    if (c == ',' || c == '\n') {
        if (matched) {
            if ((matched & 63) == 7)
                s->flags |= HTTP_CHUNKED;
            else
                s->flags &= ~HTTP_CHUNKED;
        }
        s->matched = 0;
        return c == '\n' ? HTTP_LINE : HTTP_VALUE_CODING;
    }
    if (http_is_blank(c) || c == '\r') {
        if (matched)
            s->matched = matched | 64;
        return HTTP_VALUE_CODING;
    }
    if (matched < 7 && http_lower(c) == (__u8)(chunked >> (matched & 7) * 8))
        s->matched = matched + 1;
    else
        s->matched = 63;
    return HTTP_VALUE_CODING;
}

/* The first protocol of the list. */
static __always_inline __u8 http_scan_upgrade(struct http_stream* s, __u8 c) {
    __u8 lower = http_lower(c);
    __u8 matched = s->matched;

    if (http_is_blank(c) && !matched)
        return HTTP_VALUE_UPGRADE;
    if (http_is_token(c)) {
        if (matched < 8)
            s->word |= (__u64)lower << (matched & 7) * 8;
        else if (matched != 8 || lower != 't')
            s->word = 0;
        if (matched < 255)
            s->matched = matched + 1;
        return HTTP_VALUE_UPGRADE;
    }
    if (matched == 9 && s->word == HTTP_WORD('w', 'e', 'b', 's', 'o', 'c', 'k', 'e'))
        s->flags |= HTTP_TO_WEBSOCKET;
    else if (s->word == HTTP_WORD('h', '2', 'c', 0, 0, 0, 0, 0))
        s->flags |= HTTP_TO_H2C;
    return c == '\n' ? HTTP_LINE : HTTP_SKIP;
}

static __always_inline __u8 http_scan_type(struct http_stream* s, __u8 c) {
    __u8 matched = s->matched;

    if (matched == 17 && !http_is_token(c) && c != '/')
        s->flags |= HTTP_EVENT_STREAM;
    if (c == '\n')
        return HTTP_LINE;
    if (http_is_blank(c) && !matched)
        return HTTP_VALUE_TYPE;
    if (matched == 17 || http_lower(c) != (__u8)http_event_stream[matched & 31])
        return HTTP_SKIP;
    s->matched = matched + 1;
    return HTTP_VALUE_TYPE;
}

/* The name in lower case, without a port behind it, and the first of a list. `matched`: it ended. */
static __always_inline __u8 http_scan_host(struct http_stream* s, __u8 c) {
    if (c == '\n')
        return HTTP_LINE;
    if (c == ':' || c == ',')
        s->matched = 1;
    if (!s->matched && c > ' ')
        s->host = http_hash_host(s->host, http_lower(c));
    return HTTP_VALUE_HOST;
}

/* RFC 9112 section 7.1. */
static __always_inline __u8 http_scan_chunk_size(struct http_stream* s, __u8 c) {
    __u8 lower = http_lower(c);
    __u8 digit = c >= '0' && c <= '9' ? c - '0' : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : 16;

    if (digit < 16) {
        if (s->word >> 59)
            return HTTP_FAULT;
        s->word = s->word << 4 | digit;
        s->matched = 1;
        return HTTP_CHUNK_SIZE;
    }
    if (!s->matched)
        return HTTP_FAULT;
    if (c == '\r' || c == ';' || http_is_blank(c))
        return HTTP_CHUNK_EXTENSION;
    if (c != '\n')
        return HTTP_FAULT;
    s->remaining = s->word;
    return s->remaining ? HTTP_CHUNK_DATA : HTTP_TRAILER;
}

static __always_inline __u8 http_scan_chunk_extension(struct http_stream* s, __u8 c) {
    if (c != '\n')
        return HTTP_CHUNK_EXTENSION;
    s->remaining = s->word;
    return s->remaining ? HTTP_CHUNK_DATA : HTTP_TRAILER;
}

static __always_inline __u8 http_scan_chunk_end(struct http_stream* s, __u8 c, bool after_return) {
    if (c == '\r' && !after_return)
        return HTTP_CHUNK_END_LF;
    if (c != '\n')
        return HTTP_FAULT;
    s->word = 0;
    s->matched = 0;
    return HTTP_CHUNK_SIZE;
}

static __always_inline __u8 http_scan_trailer(__u8 c) {
    return c == '\r' ? HTTP_TRAILER_END : c == '\n' ? HTTP_MESSAGE_END : HTTP_TRAILER_SKIP;
}

/* RFC 6455 section 5.2. `method`: the first byte; `candidates`: bytes of the masking key to come, and
 * whether there is one; `flags`: bytes of the length to come; `word`: the length; `length`: the key. */
static __always_inline __u8 http_scan_frame_head(struct http_stream* s, __u8 c) {
    __u8 key_left = s->candidates & 7;

    if (!s->matched) {
        s->method = c;
        s->matched = 1;
        return HTTP_FRAME_HEAD;
    }
    if (s->matched == 1) {
        __u8 length = c & 0x7f;
        s->matched = 2;
        s->length = 0;
        s->word = length < 126 ? length : 0;
        s->flags = length == 126 ? 2 : length == 127 ? 8 : 0;
        key_left = c & 0x80 ? 4 : 0;
        s->candidates = (c & 0x80) | key_left;
    } else if (s->flags) {
        s->word = s->word << 8 | c;
        s->flags--;
    } else {
        s->length |= (__u64)c << ((4 - key_left) & 7) * 8;
        s->candidates--;
        key_left--;
    }
    return s->flags || key_left ? HTTP_FRAME_HEAD : HTTP_FRAME_BEGIN;
}

/* The state after one more byte. */
static __always_inline __u8 http_scan_byte(struct http_stream* s, __u8 c, bool is_request, __u64 wanted) {
    switch (s->state) {
        case HTTP_START:
            return c == '\r' || c == '\n' ? HTTP_START : HTTP_BEGIN;
        case HTTP_METHOD:
            return is_request ? http_scan_method(s, c) : HTTP_FAULT;
        case HTTP_TARGET:
            return is_request ? http_scan_target(s, c) : HTTP_FAULT;
        case HTTP_VERSION:
            return is_request ? http_scan_request_version(s, c) : HTTP_FAULT;
        case HTTP_STATUS:
            return is_request ? HTTP_FAULT : http_scan_status(s, c);
        case HTTP_SKIP:
            return c == '\n' ? HTTP_LINE : HTTP_SKIP;
        case HTTP_LINE:
            return http_scan_line(s, c, wanted);
        case HTTP_LINE_END:
            return c == '\n' ? HTTP_HEAD_END : HTTP_FAULT;
        case HTTP_NAME:
            return http_scan_name(s, c);
        case HTTP_VALUE_LENGTH:
            return http_scan_length(s, c);
        case HTTP_VALUE_CODING:
            return http_scan_coding(s, c);
        case HTTP_VALUE_UPGRADE:
            return is_request ? HTTP_FAULT : http_scan_upgrade(s, c);
        case HTTP_VALUE_TYPE:
            return is_request ? HTTP_FAULT : http_scan_type(s, c);
        case HTTP_VALUE_HOST:
            return http_scan_host(s, c);
        case HTTP_VALUE_ETAG:
            return c == '\n' ? HTTP_LINE : HTTP_VALUE_ETAG;
        case HTTP_CHUNK_SIZE:
            return http_scan_chunk_size(s, c);
        case HTTP_CHUNK_EXTENSION:
            return http_scan_chunk_extension(s, c);
        case HTTP_CHUNK_END:
            return http_scan_chunk_end(s, c, false);
        case HTTP_CHUNK_END_LF:
            return http_scan_chunk_end(s, c, true);
        case HTTP_TRAILER:
            return http_scan_trailer(c);
        case HTTP_TRAILER_SKIP:
            return c == '\n' ? HTTP_TRAILER : HTTP_TRAILER_SKIP;
        case HTTP_TRAILER_END:
            return c == '\n' ? HTTP_MESSAGE_END : HTTP_FAULT;
        case HTTP_FRAME_HEAD:
            return http_scan_frame_head(s, c);
        default:
            return HTTP_FAULT;
    }
}

/* The highest bit of each byte that is a line feed; bytes behind the first of them may be marked wrongly. */
static __always_inline __u64 http_line_feeds(__u64 bytes) {
    __u64 difference = bytes ^ 0x0a0a0a0a0a0a0a0aULL;
    return (difference - 0x0101010101010101ULL) & ~difference & 0x8080808080808080ULL;
}

/* How many of eight bytes the end of a line takes: through the first line feed. */
static __always_inline __u32 http_through_line_feed(__u64 line_feeds) {
    __u32 through = 1;

    if (!(__u32)line_feeds) {
        line_feeds >>= 32;
        through += 4;
    }
    if (!(line_feeds & 0xffff)) {
        line_feeds >>= 16;
        through += 2;
    }
    return line_feeds & 0xff ? through : through + 1;
}

/*
 * Reads bytes of the stream's block until they end or something has to be done that single bytes cannot.
 * Returns how many were read; the state says why it stopped.
 */
static __always_inline int http_scan(struct http_connection* c, __u32 size, bool is_request, bool is_service,
                                     __u64 key) {
    struct http_stream* s = &c->stream[is_request ? HTTP_REQUEST : HTTP_RESPONSE];
    const __u64 wanted = HTTP_FIELD_LENGTH | HTTP_FIELD_CODING |
                         (is_request   ? 0
                          : is_service ? HTTP_FIELD_UPGRADE | HTTP_FIELD_TYPE | HTTP_FIELD_ETAG
                                       : HTTP_FIELD_UPGRADE | HTTP_FIELD_TYPE) |
                         (!is_request        ? 0
                          : is_service       ? HTTP_FIELD_HOST
                          : http_tells_hosts ? HTTP_FIELD_HOST | HTTP_FIELD_FORWARDED
                                             : 0);

    s->at = 0;
    s->filled = size;
    for (int turn = 0; turn < HTTP_TURNS; turn++) {
        __u32 at = HTTP_RELOAD(s->at);
        __u32 filled = HTTP_RELOAD(s->filled);
        __u32 place = at & (HTTP_BLOCK - 1);
        __u8 state = HTTP_RELOAD(s->state);

        if (at >= filled)
            break;
        if (state == HTTP_SKIP && at + 8 <= filled && place <= HTTP_BLOCK - 8) {
            __u64 line_feeds = http_line_feeds(*(const __u64*)&s->block[place]);
            if (line_feeds)
                s->state = HTTP_LINE;
            s->at = at + (line_feeds ? http_through_line_feed(line_feeds) : 8);
            continue;
        }
        s->state = http_scan_byte(s, s->block[place], is_request, wanted);
        state = HTTP_RELOAD(s->state);
        if (is_service && is_request && (state == HTTP_TARGET || state == HTTP_VALUE_HOST))
            http_take_text(key, s->block[place], state);
        if (is_service && !is_request && state == HTTP_VALUE_ETAG)
            http_take_etag(key, s->block[place]);
        if (state == HTTP_BEGIN)
            break;
        s->at = at + 1;
        if (state >= HTTP_STOPPED)
            break;
    }
    return HTTP_RELOAD(s->at);
}

/* Functions of their own, global, so that the verifier looks into each of them once, whatever it knows about
 * their callers; before Linux 5.13 these take no pointers. */
#define HTTP_SCANNER(name, map, type, is_request, is_service)                                    \
    __noinline int name(__u64 key, __u32 size) {                                                 \
        type* c = bpf_map_lookup_elem(map, &key);                                                \
        return c ? http_scan((struct http_connection*)c, size, is_request, is_service, key) : 0; \
    }
HTTP_SCANNER(http_scan_request, &http_connections, struct http_connection, true, false)
HTTP_SCANNER(http_scan_response, &http_connections, struct http_connection, false, false)
HTTP_SCANNER(http_scan_service_request, &http_service_connections, struct http_service, true, true)
HTTP_SCANNER(http_scan_service_response, &http_service_connections, struct http_service, false, true)

static __always_inline __u32 http_scan_block(__u64 key, __u32 size, bool is_request, bool is_service) {
    if (is_service)
        return is_request ? http_scan_service_request(key, size) : http_scan_service_response(key, size);
    return is_request ? http_scan_request(key, size) : http_scan_response(key, size);
}

#endif /* PANGOLIN_BPF_HTTP_SCAN_BPF_H */
