/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How long a program waited for its SQLite database. */
#ifndef PANGOLIN_BPF_SHARED_DATABASE_WAIT_H
#define PANGOLIN_BPF_SHARED_DATABASE_WAIT_H

#include "bpf/shared/address.h"

struct database_wait {
    __u64 lock_ns; /* from a lock that was refused to the one that was granted */
    __u64 locks;   /* such waits */
    __u64 sync_ns; /* in fsync() and fdatasync() */
    __u64 syncs;
    __u64 lost; /* waits that found no room */
};
PANGOLIN_STATIC_ASSERT(sizeof(struct database_wait) == 40, "no padding");

#endif /* PANGOLIN_BPF_SHARED_DATABASE_WAIT_H */
