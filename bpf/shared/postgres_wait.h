/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How long the programs of one network namespace waited for their PostgreSQL database. */
#ifndef PANGOLIN_BPF_SHARED_POSTGRES_WAIT_H
#define PANGOLIN_BPF_SHARED_POSTGRES_WAIT_H

#include "bpf/shared/address.h"

struct postgres_wait {
    __u64 wait_ns;   /* from what a connection sends to "ready for query" */
    __u64 waits;     /* such times */
    __u64 encrypted; /* connections of which nothing can be told, for TLS or GSSAPI */
    __u64 lost;      /* connections that found no room */
};
PANGOLIN_STATIC_ASSERT(sizeof(struct postgres_wait) == 32, "no padding");

#endif /* PANGOLIN_BPF_SHARED_POSTGRES_WAIT_H */
