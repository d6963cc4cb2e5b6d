#include "loader/process_access.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <memory>

#include "loader/process_table.h"

namespace pangolin {
namespace {

std::unique_ptr<ProcessBroker>& broker_of_this_process() {
    static auto broker = std::make_unique<ProcessBroker>(ProcessBroker::usual_socket());
    return broker;
}

bool may_look_itself() {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
    static_assert(CAP_SYS_PTRACE < 32);
    return ::syscall(SYS_capget, &header, sets.data()) == 0 &&
           (sets[0].effective & 1U << CAP_SYS_PTRACE) != 0;
}

// A process that ends while the kernel follows the link is "not permitted"; the next time it is not there.
Result<UniqueFd> open_directly(pid_t pid, const char* link, int flags) {
    const std::string path = link_of_process(pid, link);
    UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC));
    if (!fd && errno == EACCES)
        fd = UniqueFd(::open(path.c_str(), flags | O_CLOEXEC));
    if (!fd)
        return system_failure(errno, "cannot open " + path);
    return fd;
}

std::vector<ProcessNamespace> list_directly(const char* link) {
    std::vector<ProcessNamespace> found;
    for (const pid_t pid : list_processes()) {
        struct stat file{};
        if (::stat(link_of_process(pid, link).c_str(), &file) == 0)
            found.push_back({.pid = pid, .error = 0, .device = file.st_dev, .inode = file.st_ino});
        else if (errno != ENOENT && errno != ESRCH)
            found.push_back({.pid = pid, .error = errno});
    }
    return found;
}

}  // namespace

ProcessBroker* process_broker() {
    if (may_look_itself() || !broker_of_this_process()->present())
        return nullptr;
    return broker_of_this_process().get();
}

std::optional<Error> processes_are_hidden() {
    if (may_look_itself() || broker_of_this_process()->present())
        return std::nullopt;
    return Error{
        "missing CAP_SYS_PTRACE (to find the namespaces of other users' processes), and there is no "
        "process broker at " +
            broker_of_this_process()->socket(),
        "Run as root, or as the shipped systemd units do; what is mounted under /run/netns is found "
        "without it.",
        EACCES};
}

void use_process_broker_at(const std::string& socket) {
    broker_of_this_process() = std::make_unique<ProcessBroker>(socket);
}

std::string process_folder() {
    if (ProcessBroker* const broker = process_broker())
        if (const auto folder = broker->process_folder())
            return "/proc/self/fd/" + std::to_string(*folder);
    return "/proc";
}

Result<std::vector<ProcessNamespace>> network_namespaces_of_processes() {
    ProcessBroker* const broker = process_broker();
    return broker ? broker->network_namespaces() : list_directly("ns/net");
}

Result<std::vector<ProcessNamespace>> mount_namespaces_of_processes() {
    ProcessBroker* const broker = process_broker();
    return broker ? broker->mount_namespaces() : list_directly("ns/mnt");
}

Result<UniqueFd> open_network_namespace_of(pid_t pid) {
    if (ProcessBroker* const broker = process_broker())
        return broker->open_network_namespace(pid);
    return open_directly(pid, "ns/net", O_RDONLY | O_NONBLOCK);
}

Result<UniqueFd> open_root_folder_of(pid_t pid) {
    if (ProcessBroker* const broker = process_broker())
        return broker->open_root_folder(pid);
    return open_directly(pid, "root", O_PATH | O_DIRECTORY);
}

std::string working_directory_of(pid_t pid) {
    if (ProcessBroker* const broker = process_broker())
        return broker->working_directory(pid).value_or("");
    std::array<char, PATH_MAX> target{};
    const ssize_t length = ::readlink(link_of_process(pid, "cwd").c_str(), target.data(), target.size());
    return length < 0 ? std::string() : std::string(target.data(), static_cast<std::size_t>(length));
}

}  // namespace pangolin
