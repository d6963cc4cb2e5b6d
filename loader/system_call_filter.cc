#include "loader/system_call_filter.h"

#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <initializer_list>
#include <memory>
#include <type_traits>

namespace pangolin {
namespace {

// By name, since each architecture has some of them: openat is everywhere, open is not.
constexpr std::array file_calls{
    "access",
    "close",
    "close_range",
    "copy_file_range",
    "dup",
    "dup2",
    "dup3",
    "faccessat",
    "faccessat2",
    "fadvise64",
    "fallocate",
    "fchmod",
    "fcntl",
    "fdatasync",
    "flock",
    "fstat",
    "fstatfs",
    "fsync",
    "ftruncate",
    "getcwd",
    "getdents",
    "getdents64",
    "inotify_add_watch",
    "inotify_init1",
    "ioctl",
    "inotify_rm_watch",
    "lseek",
    "lstat",
    "mkdir",
    "mkdirat",
    "newfstatat",
    "open",
    "openat",
    "openat2",
    "pipe2",
    "pread64",
    "preadv",
    "pwrite64",
    "pwritev",
    "read",
    "readlink",
    "readlinkat",
    "readv",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "sendfile",
    "stat",
    "statfs",
    "statx",
    "umask",
    "unlink",
    "unlinkat",
    "write",
    "writev",
};
constexpr std::array memory_calls{"brk", "madvise", "membarrier", "memfd_create", "mremap", "munmap"};
constexpr std::array thread_calls{
    "arch_prctl",
    "exit",
    "exit_group",
    "futex",
    "get_robust_list",
    "getcpu",
    "getpid",
    "getppid",
    "gettid",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigreturn",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "sched_getaffinity",
    "sched_yield",
    "set_robust_list",
    "set_tid_address",
    "sigaltstack",
};
constexpr std::array time_calls{
    "clock_getres", "clock_gettime",  "clock_nanosleep", "gettimeofday",    "nanosleep",
    "time",         "timerfd_create", "timerfd_gettime", "timerfd_settime",
};
constexpr std::array network_calls{
    "accept",       "accept4",    "bind",     "connect",     "epoll_create1", "epoll_ctl",  "epoll_pwait",
    "epoll_pwait2", "epoll_wait", "eventfd2", "getpeername", "getsockname",   "getsockopt", "listen",
    "poll",         "ppoll",      "pselect6", "recvfrom",    "recvmmsg",      "recvmsg",    "select",
    "sendmmsg",     "sendmsg",    "sendto",   "setsockopt",  "shutdown",
};
constexpr std::array identity_calls{
    "capget",    "getegid",   "geteuid", "getgid",  "getrandom", "getresgid", "getresuid",
    "getrlimit", "getrusage", "getuid",  "sysinfo", "times",     "uname",
};
constexpr std::array kernel_calls{"bpf"};

struct Release {
    void operator()(std::remove_pointer_t<scmp_filter_ctx>* filter) const { seccomp_release(filter); }
};
using Filter = std::unique_ptr<std::remove_pointer_t<scmp_filter_ctx>, Release>;

// Keeps the first error (a negative errno), so that a list of rules needs one look.
class Rules {
  public:
    explicit Rules(scmp_filter_ctx filter) : filter_(filter) {}

    void add(std::uint32_t action, const char* name, std::initializer_list<scmp_arg_cmp> conditions = {}) {
        const int number = seccomp_syscall_resolve_name(name);
        // What this architecture or libseccomp does not know is not called either.
        if (number == __NR_SCMP_ERROR || error_ != 0)
            return;
        error_ = seccomp_rule_add_array(filter_, action, number, static_cast<unsigned>(conditions.size()),
                                        std::data(conditions));
    }
    void allow(const char* name, std::initializer_list<scmp_arg_cmp> conditions = {}) {
        add(SCMP_ACT_ALLOW, name, conditions);
    }
    template <std::size_t N>
    void allow_all(const std::array<const char*, N>& names) {
        for (const char* name : names)
            allow(name);
    }
    int error() const { return error_; }

  private:
    scmp_filter_ctx filter_;
    int error_ = 0;
};

constexpr scmp_arg_cmp equals(unsigned argument, std::uint64_t value) {
    return {argument, SCMP_CMP_EQ, value, 0};
}
// Of the bits in `mask` exactly those of `value` are set.
constexpr scmp_arg_cmp has_bits(unsigned argument, std::uint64_t mask, std::uint64_t value) {
    return {argument, SCMP_CMP_MASKED_EQ, mask, value};
}

void allow_threads(Rules& rules) {
#ifdef __s390__
    constexpr unsigned clone_flags = 1;
#else
    constexpr unsigned clone_flags = 0;
#endif
    constexpr std::uint64_t namespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                                         CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
    rules.allow("clone", {has_bits(clone_flags, CLONE_THREAD | namespaces, CLONE_THREAD)});
    // Its flags are in memory, where a filter cannot look; libraries fall back to clone().
    rules.add(SCMP_ACT_ERRNO(ENOSYS), "clone3");
    const auto self = static_cast<std::uint64_t>(::getpid());
    // abort() and its like.
    rules.allow("tgkill", {equals(0, self)});
    // Whether a process is there.
    rules.allow("kill", {equals(1, 0)});
    rules.allow("prctl", {equals(0, PR_SET_NAME)});
    // The calling thread's own, with which programs are taken over (loader/takeover.h).
    rules.allow("sched_setaffinity", {equals(0, 0)});
    // Limits of this process.
    rules.allow("prlimit64", {equals(0, 0)});
    rules.allow("prlimit64", {equals(0, self)});
}

void allow_memory(Rules& rules) {
    constexpr unsigned protection = 2;
    // Code comes from files (libraries that libc loads on demand), not from what was written to memory.
    for (const std::uint64_t kind : {PROT_NONE, PROT_WRITE, PROT_EXEC})
        rules.allow("mmap", {has_bits(protection, PROT_WRITE | PROT_EXEC, kind)});
    rules.allow("mprotect", {has_bits(protection, PROT_EXEC, 0)});
}

void allow_sockets(Rules& rules) {
    for (const std::uint64_t family : {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK})
        rules.allow("socket", {equals(0, family)});
    rules.allow("socketpair", {equals(0, AF_UNIX)});
    rules.allow("setns", {equals(1, CLONE_NEWNET)});
}

}  // namespace

Result<void> load_system_call_filter() {
    const Filter filter(seccomp_init(SCMP_ACT_ERRNO(EPERM)));
    if (!filter)
        return system_failure(ENOMEM, "cannot make a system call filter");
    Rules rules(filter.get());
    rules.allow_all(file_calls);
    rules.allow_all(memory_calls);
    rules.allow_all(thread_calls);
    rules.allow_all(time_calls);
    rules.allow_all(network_calls);
    rules.allow_all(identity_calls);
    rules.allow_all(kernel_calls);
    allow_threads(rules);
    allow_memory(rules);
    allow_sockets(rules);
    int error = rules.error();
    if (error == 0)
        error = seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_TSYNC, 1);
    if (error == 0)
        error = seccomp_load(filter.get());
    if (error != 0)
        return system_failure(
            -error, "cannot load the system call filter",
            "Is the kernel built with CONFIG_SECCOMP_FILTER? 'confine: false' goes without.");
    return {};
}

}  // namespace pangolin
