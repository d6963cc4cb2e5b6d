#include "loader/confinement.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <initializer_list>

#include "loader/system_call_filter.h"

namespace pangolin {
namespace {

// Of the header of capset(): 64 bits, in two halves (capget(2)).
constexpr std::size_t halves = _LINUX_CAPABILITY_U32S_3;

constexpr std::uint64_t bit(int capability) {
    return std::uint64_t{1} << capability;
}

// What is needed at any time: containers restart.
constexpr std::uint64_t lasting_capabilities = [] {
    std::uint64_t set = 0;
    for (const int capability : {CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_SYS_PTRACE,
                                 CAP_SYSLOG, CAP_DAC_READ_SEARCH})
        set |= bit(capability);
    return set;
}();

void raise_memory_limit() {
    constexpr rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
    // Without the privilege the limit that there is has to do.
    ::setrlimit(RLIMIT_MEMLOCK, &unlimited);
}

Result<void> limit_bounding_set(std::uint64_t kept) {
    for (int capability = 0; ::prctl(PR_CAPBSET_READ, capability) >= 0; ++capability) {
        if ((kept & bit(capability)) != 0 || ::prctl(PR_CAPBSET_DROP, capability) == 0)
            continue;
        // The set matters to programs that are started, and none will be: it may stay where CAP_SETPCAP is
        // missing.
        if (errno != EPERM)
            return system_failure(errno, "cannot drop a capability from the bounding set");
    }
    return {};
}

Result<void> limit_capabilities(std::uint64_t kept) {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, halves> sets{};
    if (::syscall(SYS_capget, &header, sets.data()) != 0)
        return system_failure(errno, "cannot read this process's capabilities");
    for (std::size_t half = 0; half < halves; ++half) {
        const auto wanted = static_cast<std::uint32_t>(kept >> 32 * half);
        sets[half].permitted &= wanted;
        sets[half].effective = sets[half].permitted;
        sets[half].inheritable = 0;
    }
    if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0)
        return system_failure(errno, "cannot clear the ambient capabilities");
    if (::syscall(SYS_capset, &header, sets.data()) != 0)
        return system_failure(errno, "cannot drop capabilities");
    return {};
}

}  // namespace

Result<void> confine(const ConfinementOptions& options) {
    raise_memory_limit();
    std::uint64_t kept = lasting_capabilities;
    if (options.privileged_port)
        kept |= bit(CAP_NET_BIND_SERVICE);
    if (auto limited = limit_bounding_set(kept); !limited)
        return limited;
    if (auto limited = limit_capabilities(kept); !limited)
        return limited;
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return system_failure(errno, "cannot set no_new_privs");
    return load_system_call_filter();
}

}  // namespace pangolin
