/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The readers of bpf/http.bpf.c on packets of BPF_PROG_RUN, which have no TCP socket: `cb` names the
 * connection. */
#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "bpf/http_packet.bpf.h"
#include "bpf/http_stream.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum { RUN_IS_REQUEST = 1, RUN_CLOSES = 2 };

static __noinline int target_segment(struct __sk_buff* skb, __u64 key, const struct http_segment* segment,
                                     __u32 what) {
    struct http_connection* c = bpf_map_lookup_elem(&http_connections, &key);
    if (!c)
        return 0;
    if (what & RUN_CLOSES)
        http_close(c, false, key);
    else if (what & RUN_IS_REQUEST)
        http_segment(skb, c, key, segment, true, false);
    else
        http_segment(skb, c, key, segment, false, false);
    return 1;
}

SEC("cgroup_skb/ingress")
int http_run(struct __sk_buff* skb) {
    struct http_segment segment = {};
    if (!http_read_segment(skb, &segment))
        return 0;
    return target_segment(skb, skb->cb[0], &segment, skb->cb[1]);
}
