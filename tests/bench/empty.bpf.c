/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The yardsticks: what programs that do nothing cost. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tc")
int empty(struct __sk_buff* skb) {
    return TC_ACT_UNSPEC;
}

SEC("cgroup_skb/egress")
int empty_cgroup(struct __sk_buff* skb) {
    return 1;
}
