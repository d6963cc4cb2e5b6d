/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* BLAKE2s (RFC 7693), of which both sides compute parts: userspace what depends on a key only. */
#ifndef PANGOLIN_BPF_SHARED_BLAKE2S_H
#define PANGOLIN_BPF_SHARED_BLAKE2S_H

#include <linux/types.h>

enum { BLAKE2S_BLOCK = 64, BLAKE2S_BLOCK_WORDS = 16, BLAKE2S_STATE_WORDS = 8 };

#define BLAKE2S_LAST_BLOCK 0xffffffffU

static inline __u32 blake2s_rotate(__u32 word, int bits) {
    return word >> bits | word << (32 - bits);
}

#define BLAKE2S_MIX(a, b, c, d, x, y)           \
    do {                                        \
        v##a += v##b + (x);                     \
        v##d = blake2s_rotate(v##d ^ v##a, 16); \
        v##c += v##d;                           \
        v##b = blake2s_rotate(v##b ^ v##c, 12); \
        v##a += v##b + (y);                     \
        v##d = blake2s_rotate(v##d ^ v##a, 8);  \
        v##c += v##d;                           \
        v##b = blake2s_rotate(v##b ^ v##c, 7);  \
    } while (0)

/* One of the ten permutations of the message words (RFC 7693 section 2.7). */
#define BLAKE2S_ROUND(s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15) \
    do {                                                                                    \
        BLAKE2S_MIX(0, 4, 8, 12, m[s0], m[s1]);                                             \
        BLAKE2S_MIX(1, 5, 9, 13, m[s2], m[s3]);                                             \
        BLAKE2S_MIX(2, 6, 10, 14, m[s4], m[s5]);                                            \
        BLAKE2S_MIX(3, 7, 11, 15, m[s6], m[s7]);                                            \
        BLAKE2S_MIX(0, 5, 10, 15, m[s8], m[s9]);                                            \
        BLAKE2S_MIX(1, 6, 11, 12, m[s10], m[s11]);                                          \
        BLAKE2S_MIX(2, 7, 8, 13, m[s12], m[s13]);                                           \
        BLAKE2S_MIX(3, 4, 9, 14, m[s14], m[s15]);                                           \
    } while (0)

/*
 * Mixes a block into `state`. `m` is the block's sixteen little-endian words as numbers, `length` the bytes
 * hashed up to its end without padding (a key's block counts whole), `last` BLAKE2S_LAST_BLOCK or 0. Written
 * out instead of looped: indexes that are constants need no bounds and no memory of their own.
 */
static inline void blake2s_compress(__u32* state, const __u32* m, __u32 length, __u32 last) {
    __u32 v0 = state[0], v1 = state[1], v2 = state[2], v3 = state[3];
    __u32 v4 = state[4], v5 = state[5], v6 = state[6], v7 = state[7];
    __u32 v8 = 0x6a09e667, v9 = 0xbb67ae85, v10 = 0x3c6ef372, v11 = 0xa54ff53a;
    __u32 v12 = 0x510e527f ^ length, v13 = 0x9b05688c, v14 = 0x1f83d9ab ^ last, v15 = 0x5be0cd19;

    BLAKE2S_ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    BLAKE2S_ROUND(14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3);
    BLAKE2S_ROUND(11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4);
    BLAKE2S_ROUND(7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8);
    BLAKE2S_ROUND(9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13);
    BLAKE2S_ROUND(2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9);
    BLAKE2S_ROUND(12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11);
    BLAKE2S_ROUND(13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10);
    BLAKE2S_ROUND(6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5);
    BLAKE2S_ROUND(10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0);

    state[0] ^= v0 ^ v8;
    state[1] ^= v1 ^ v9;
    state[2] ^= v2 ^ v10;
    state[3] ^= v3 ^ v11;
    state[4] ^= v4 ^ v12;
    state[5] ^= v5 ^ v13;
    state[6] ^= v6 ^ v14;
    state[7] ^= v7 ^ v15;
}

/* The state before the first block, for a digest and a key (0: none) of so many bytes. */
static inline void blake2s_begin(__u32* state, __u32 digest_length, __u32 key_length) {
    state[0] = 0x6a09e667 ^ 0x01010000 ^ key_length << 8 ^ digest_length;
    state[1] = 0xbb67ae85;
    state[2] = 0x3c6ef372;
    state[3] = 0xa54ff53a;
    state[4] = 0x510e527f;
    state[5] = 0x9b05688c;
    state[6] = 0x1f83d9ab;
    state[7] = 0x5be0cd19;
}

#endif /* PANGOLIN_BPF_SHARED_BLAKE2S_H */
