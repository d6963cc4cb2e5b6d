/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Lists the files that one process has open, for whom /proc/PID/fd is closed: it wants the process's own user
 * or a right to read all files of the host, this CAP_BPF and CAP_PERFMON.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/shared/open_file.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct super_block {
    __u32 s_dev;
};

struct inode {
    unsigned short i_mode;
    unsigned long i_ino;
    struct super_block* i_sb;
};

struct file {
    struct inode* f_inode;
};

struct task_struct {
    int pid;
    int tgid;
};

struct seq_file;

struct bpf_iter_meta {
    struct seq_file* seq;
};

struct bpf_iter__task_file {
    struct bpf_iter_meta* meta;
    struct task_struct* task;
    __u32 fd;
    struct file* file;
};

#pragma clang attribute pop

/* Set by userspace: the process, as its number is in the first pid namespace. */
__s32 process = 0;

SEC("iter/task_file")
int list_open_files(struct bpf_iter__task_file* context) {
    struct task_struct* task = context->task;
    struct file* file = context->file;
    struct open_file found = {};

    /* Threads share their process's files. The last call is without a task. */
    if (!task || !file || task->tgid != process || task->pid != process)
        return 0;
    found.inode = file->f_inode->i_ino;
    found.device = file->f_inode->i_sb->s_dev;
    found.mode = file->f_inode->i_mode;
    bpf_seq_write(context->meta->seq, &found, sizeof(found));
    return 0;
}
