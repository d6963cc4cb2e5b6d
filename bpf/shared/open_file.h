/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A file that a process has open. */
#ifndef PANGOLIN_BPF_SHARED_OPEN_FILE_H
#define PANGOLIN_BPF_SHARED_OPEN_FILE_H

#include "bpf/shared/address.h"

struct open_file {
    __u64 inode;
    __u32 device; /* as the kernel numbers devices: major << 20 | minor */
    __u32 mode;   /* type and permissions, as stat() gives them */
};
PANGOLIN_STATIC_ASSERT(sizeof(struct open_file) == 16, "no padding");

#endif /* PANGOLIN_BPF_SHARED_OPEN_FILE_H */
