#include "loader/bpf_error.h"

#include <bpf/libbpf.h>
#include <spdlog/spdlog.h>

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <string>

namespace pangolin {
namespace {

int log_libbpf(libbpf_print_level level, const char* format, va_list arguments) {
    if (level == LIBBPF_DEBUG)
        return 0;
    std::array<char, 4096> buffer{};
    const int length = std::vsnprintf(buffer.data(), buffer.size(), format, arguments);
    std::string_view line(buffer.data());
    while (line.ends_with('\n'))
        line.remove_suffix(1);
    spdlog::debug("{}", line);
    return length;
}

std::string hint_for(int code) {
    switch (code) {
        case EPERM:
        case EACCES:
            return "Run as root; \"pangolin_exporter check\" names the capability that is missing.";
        case ENOSYS:
            return "The kernel has no BPF; Linux 5.10 or newer with CONFIG_BPF_SYSCALL is needed.";
        case EINVAL:
        case EOPNOTSUPP:
            return "The kernel may be too old; Linux 5.10 or newer is needed. --log.level=debug shows its "
                   "messages.";
        case ENOMEM:
        case E2BIG:
            return "Free memory, or lower metrics.limits.max_peers.";
        case ENODEV:
            return "The interface is gone.";
        default:
            return "Run with --log.level=debug to see the kernel's own messages.";
    }
}

}  // namespace

void collect_libbpf_messages() {
    libbpf_set_print(log_libbpf);
}

std::unexpected<Error> bpf_failure(int code, std::string_view what) {
    return system_failure(code, what, hint_for(code));
}

}  // namespace pangolin
