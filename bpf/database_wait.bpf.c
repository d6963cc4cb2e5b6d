/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The time that one program waits for its SQLite database: for locks, and for the disk. Tracepoints of file
 * locks and of ext4's fsync, which others pass rarely; those of system calls would slow down every system
 * call of the machine.
 */
#include <asm-generic/errno-base.h>
#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bpf/gate.bpf.h"
#include "bpf/shared/database_wait.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct super_block {
    __u32 s_dev;
};

struct inode {
    unsigned long i_ino;
    struct super_block* i_sb;
};

struct file {
    struct inode* f_inode;
};

/* Since Linux 6.9 the type is in a struct of its own (69baed4ad6dd). */
struct file_lock_core {
    unsigned char flc_type;
};

struct file_lock {
    struct file_lock_core c;
};

struct file_lock___before_6_9 {
    unsigned char fl_type;
};

struct task_struct {
    struct task_struct* group_leader;
    __u64 start_boottime;
};

#pragma clang attribute pop

enum {
    LOCK_UNLOCK = 2, /* F_UNLCK */
    /* SQLite asks again after at most 100 ms (sqliteDefaultBusyCallback in main.c): who did not has given up.
     */
    LONGEST_PAUSE_NS = 500 * 1000 * 1000,
    MOST_WAITS = 1024,
    /* /proc/PID/stat counts in clock ticks, 100 a second on all architectures that there are BPF JITs for. */
    NS_A_TICK = 10 * 1000 * 1000,
};

/* Set by userspace: the program, with its start as /proc/PID/stat has it, and the database as the kernel
 * numbers devices. They stay while nobody is there to follow a program: its number may be another's then. */
__u32 process = 0;
__u64 process_start = 0;
__u32 database_device = 0;
__u64 database_inode = 0;

struct waiting {
    __u64 begin;
    __u64 last_try;
};

/* By thread. What a thread leaves that ends while it waits is the next one's with its number, who begins
 * anew. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, MOST_WAITS);
    __type(key, __u32);
    __type(value, struct waiting);
} lock_waits SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, MOST_WAITS);
    __type(key, __u32);
    __type(value, __u64);
} sync_begins SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct database_wait);
} waits SEC(".maps");

static __always_inline struct database_wait* counts(void) {
    __u32 first = 0;
    return bpf_map_lookup_elem(&waits, &first);
}

static __always_inline bool is_the_process(void) {
    const struct task_struct* task;

    if (!process || bpf_get_current_pid_tgid() >> 32 != process)
        return false;
    task = (const void*)bpf_get_current_task();
    return BPF_CORE_READ(task, group_leader, start_boottime) / NS_A_TICK == process_start;
}

static __always_inline __u8 type_of(struct file_lock* lock) {
    if (bpf_core_field_exists(lock->c))
        return BPF_CORE_READ(lock, c.flc_type);
    return BPF_CORE_READ((struct file_lock___before_6_9*)lock, fl_type);
}

static __always_inline void lock_refused(__u32 thread, __u64 now) {
    struct waiting* known = bpf_map_lookup_elem(&lock_waits, &thread);
    struct waiting begin = {.begin = now, .last_try = now};
    struct database_wait* sum = counts();

    if (known && now - known->last_try < LONGEST_PAUSE_NS) {
        known->last_try = now;
        return;
    }
    if (known && sum) {
        sum->lock_ns += known->last_try - known->begin;
        sum->locks++;
    }
    if (bpf_map_update_elem(&lock_waits, &thread, &begin, BPF_ANY) && sum)
        sum->lost++;
}

static __always_inline void lock_granted(__u32 thread, __u64 now) {
    struct waiting* known = bpf_map_lookup_elem(&lock_waits, &thread);
    struct database_wait* sum = counts();

    if (!known)
        return;
    if (sum) {
        bool gave_up = now - known->last_try >= LONGEST_PAUSE_NS;
        sum->lock_ns += (gave_up ? known->last_try : now) - known->begin;
        sum->locks++;
    }
    bpf_map_delete_elem(&lock_waits, &thread);
}

/* SQLite never sleeps in the kernel for a lock: it asks, is refused, sleeps, and asks again. */
SEC("tp_btf/posix_lock_inode")
int BPF_PROG(lock_answered, struct inode* inode, struct file_lock* lock, int result) {
    __u32 thread = (__u32)bpf_get_current_pid_tgid();
    __u64 now;

    /* The verifier of Linux 6.14 and later takes the lock for one that may be null. */
    if (!is_in_force() || !lock || !is_the_process() || BPF_CORE_READ(inode, i_ino) != database_inode ||
        BPF_CORE_READ(inode, i_sb, s_dev) != database_device)
        return 0;
    now = bpf_ktime_get_ns();
    if (result == -EAGAIN)
        lock_refused(thread, now);
    else if (result == 0 && type_of(lock) != LOCK_UNLOCK)
        lock_granted(thread, now);
    return 0;
}

/* Of the database, its journal, its log and their folder: all that the program has on that device. */
SEC("tp_btf/ext4_sync_file_enter")
int BPF_PROG(sync_begun, struct file* file, int data_only) {
    __u32 thread = (__u32)bpf_get_current_pid_tgid();
    struct database_wait* sum = counts();
    __u64 now = bpf_ktime_get_ns();

    /* The verifier takes what a module's tracepoint hands over for null, maybe (838a10bd2ebf, Linux 6.13). */
    if (!file || !is_in_force() || !is_the_process() ||
        BPF_CORE_READ(file, f_inode, i_sb, s_dev) != database_device)
        return 0;
    if (bpf_map_update_elem(&sync_begins, &thread, &now, BPF_ANY) && sum)
        sum->lost++;
    return 0;
}

SEC("tp_btf/ext4_sync_file_exit")
int BPF_PROG(sync_ended, struct inode* inode, int result) {
    __u32 thread = (__u32)bpf_get_current_pid_tgid();
    struct database_wait* sum = counts();
    __u64* begin;

    if (!is_in_force() || !is_the_process())
        return 0;
    begin = bpf_map_lookup_elem(&sync_begins, &thread);
    if (!begin)
        return 0;
    if (sum) {
        sum->sync_ns += bpf_ktime_get_ns() - *begin;
        sum->syncs++;
    }
    bpf_map_delete_elem(&sync_begins, &thread);
    return 0;
}
