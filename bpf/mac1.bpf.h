/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* mac1 of WireGuard's messages (WireGuard paper, section 5.4.4): whether they were made for this interface.
 */
#ifndef PANGOLIN_BPF_MAC1_BPF_H
#define PANGOLIN_BPF_MAC1_BPF_H

#include <asm/byteorder.h>
#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "bpf/shared/blake2s.h"

/* What the keyed BLAKE2s of mac1 begins with: the state after the block of the key. */
__u32 mac1_states[2][BLAKE2S_STATE_WORDS] = {};
__u32 active_mac1_state = 0;

struct mac1 {
    __u32 word[4];
};

static __noinline int compress(__u32* state, const __u32* block, __u32 length, __u32 last) {
    if (!state || !block)
        return -1;
    blake2s_compress(state, block, length, last);
    return 0;
}

/*
 * Whether `mac1` is that of the first `words` of `word`. Changes them: zeros follow them up to the end of a
 * block, for which there must be room.
 */
static __always_inline bool is_mac1(__u32* word, __u32 words, const struct mac1* mac1) {
    const __u32 blocks = (words + BLAKE2S_BLOCK_WORDS - 1) / BLAKE2S_BLOCK_WORDS;
    __u32 state[BLAKE2S_STATE_WORDS];

    __builtin_memcpy(state, mac1_states[active_mac1_state & 1], sizeof(state));
    for (__u32 i = words; i < blocks * BLAKE2S_BLOCK_WORDS; i++)
        word[i] = 0;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    for (__u32 i = 0; i < words; i++)
        word[i] = __le32_to_cpu(word[i]);
#endif
    if (blocks == 2)
        compress(state, word, 2 * BLAKE2S_BLOCK, 0);
    compress(state, word + (blocks - 1) * BLAKE2S_BLOCK_WORDS, BLAKE2S_BLOCK + 4 * words, BLAKE2S_LAST_BLOCK);
    return !((state[0] ^ __le32_to_cpu(mac1->word[0])) | (state[1] ^ __le32_to_cpu(mac1->word[1])) |
             (state[2] ^ __le32_to_cpu(mac1->word[2])) | (state[3] ^ __le32_to_cpu(mac1->word[3])));
}

/* The mac1 that stands at `at`. */
static __always_inline struct mac1 mac1_at(const __u32* word, __u32 at) {
    struct mac1 mac1 = {{word[at], word[at + 1], word[at + 2], word[at + 3]}};
    return mac1;
}

#endif /* PANGOLIN_BPF_MAC1_BPF_H */
