#include "loader/broker/confinement.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>

namespace pangolin::broker {
namespace {

// By name, since each architecture has some of them.
constexpr std::array calls{
    "accept4",         "close",        "exit",    "exit_group", "fstatat64",  "getdents64",
    "getsockopt",      "newfstatat",   "poll",    "ppoll",      "readlinkat", "recvfrom",
    "restart_syscall", "rt_sigreturn", "sendmsg", "statx"};

const char* limit_capabilities() {
    // Of the header of capset(): 64 bits, in two halves (capget(2)).
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    constexpr std::uint32_t wanted = 1U << CAP_SYS_PTRACE;
    static_assert(CAP_SYS_PTRACE < 32);
    if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 ||
        ::syscall(SYS_capget, &header, sets.data()) != 0)
        return "cannot read the capabilities";
    errno = EPERM;
    if ((sets[0].effective & wanted) == 0)
        return "there is no CAP_SYS_PTRACE";
    // As its unit starts it, it has no more, and no capset() either.
    if (sets[0].permitted == wanted && sets[1].permitted == 0)
        return nullptr;
    sets = {};
    sets[0].permitted = sets[0].effective = wanted;
    return ::syscall(SYS_capset, &header, sets.data()) == 0 ? nullptr : "cannot drop capabilities";
}

int add_rules(scmp_filter_ctx filter) {
    for (const char* name : calls) {
        const int number = seccomp_syscall_resolve_name(name);
        // What this architecture does not know is not called either.
        if (number == __NR_SCMP_ERROR)
            continue;
        if (const int error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0); error != 0)
            return error;
    }
    constexpr unsigned descriptor = 0;
    if (const int error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(write), 1,
                                           SCMP_CMP(descriptor, SCMP_CMP_EQ, STDERR_FILENO));
        error != 0)
        return error;
    constexpr unsigned flags = 2;
    return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
                            SCMP_CMP(flags, SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY));
}

const char* limit_system_calls() {
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int error = filter == nullptr ? -ENOMEM : add_rules(filter);
    if (error == 0)
        error = seccomp_load(filter);
    // It is not released: that would be a call of its own, and memory to give back.
    errno = -error;
    return error == 0 ? nullptr : "cannot load the system call filter";
}

}  // namespace

const char* confine() {
    if (const char* const failed = limit_capabilities())
        return failed;
    if (::prctl(PR_SET_DUMPABLE, 0) != 0 || ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return "cannot set no_new_privs";
    return limit_system_calls();
}

}  // namespace pangolin::broker
