#include "loader/network_namespace.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <iterator>
#include <set>
#include <system_error>
#include <thread>
#include <utility>

#include "loader/base/number.h"
#include "loader/files.h"
#include "loader/process_table.h"

namespace pangolin {
namespace {

constexpr std::array mount_folders{"/run/netns/", "/var/run/netns/", "/run/docker/netns/"};
constexpr std::string_view docker_folder = "/run/docker/netns/";
constexpr const char* privilege_hint =
    "Entering network namespaces needs CAP_SYS_ADMIN, and CAP_SYS_PTRACE for those of other users' "
    "processes: run as root or grant both.";

std::optional<NetworkNamespaceId> id_of_path(const std::string& path) {
    struct stat file{};
    if (stat(path.c_str(), &file) != 0)
        return std::nullopt;
    return NetworkNamespaceId{file.st_dev, file.st_ino};
}

Error gone(const NetworkNamespace& netns) {
    return {"network namespace " + netns.name + " is gone", {}, ENOENT};
}

// A process that ends while the kernel follows the link is "not permitted"; the next time it is not there.
UniqueFd open_file(const std::string& path) {
    constexpr int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
    UniqueFd fd(open(path.c_str(), flags));
    if (!fd && errno == EACCES)
        fd = UniqueFd(open(path.c_str(), flags));
    return fd;
}

// Only nsfs has the ioctl, so that this also tells a namespace from any other file.
bool is_network_namespace(int fd) {
    return ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET;
}

Result<NetworkNamespace> namespace_at(const std::string& path, const std::string& name, std::string hint) {
    const UniqueFd fd = open_file(path);
    if (!fd) {
        const int code = errno == ESRCH ? ENOENT : errno;
        return system_failure(code, "network namespace " + name,
                              code == EACCES || code == EPERM ? privilege_hint : std::move(hint));
    }
    struct stat file{};
    if (!is_network_namespace(fd.get()) || fstat(fd.get(), &file) != 0)
        return failure(path + " is not a network namespace", std::move(hint), EINVAL);
    return NetworkNamespace{{file.st_dev, file.st_ino}, path, name};
}

// Process 1's namespace is the host's also when the exporter itself was started in another one; where it
// may not be looked at, the exporter's own has to do.
Result<NetworkNamespace> host_namespace() {
    for (const char* path : {"/proc/1/ns/net", "/proc/self/ns/net"}) {
        if (const auto id = id_of_path(path))
            return NetworkNamespace{*id, path, "host"};
    }
    return system_failure(errno, "cannot look at /proc/self/ns/net", "Is /proc mounted?");
}

Result<NetworkNamespace> mounted_namespace(const std::string& name) {
    const bool is_name = !name.empty() && !name.contains('/');
    int code = is_name ? ENOENT : EINVAL;
    // /var/run is /run on most systems.
    std::set<std::string> known;
    for (const char* folder : mount_folders) {
        const std::string path = folder + name;
        if (is_name && id_of_path(path))
            return namespace_at(path, name,
                                "Remove the file: 'ip netns' left it behind without a namespace.");
        // Docker's is closed to all but root, and its names are not ones to write down.
        if (is_name && errno == EACCES && folder != docker_folder)
            code = EACCES;
        std::ranges::move(names_in_folder(folder), std::inserter(known, known.end()));
    }
    std::string names;
    for (const std::string& each : known)
        names += (names.empty() ? "; names here: " : ", ") + each;
    return failure("there is no network namespace '" + name + "' under /run/netns",
                   "Give auto, host, a name, a path, container:NAME or pid:N" + names + ".", code);
}

Result<NetworkNamespace> namespace_of_process(std::string_view digits) {
    const auto pid = parse_number<pid_t>(digits);
    if (!pid || *pid <= 0)
        return failure("'pid:" + std::string(digits) + "' names no process", "Write it as pid:1234.", EINVAL);
    return namespace_at(process_path(*pid, "ns/net"),
                        "pid:" + std::to_string(*pid) + " (" + process_name(*pid) + ")",
                        "Is the process running?");
}

// ENOENT when `path` leads nowhere, or to another namespace: the process number in it may belong to somebody
// else by now, and what is left of a mount is an empty file.
Result<UniqueFd> open_namespace(const NetworkNamespace& netns, const std::string& path) {
    if (const auto id = id_of_path(path); id && id != netns.id)
        return std::unexpected(gone(netns));
    UniqueFd fd = open_file(path);
    if (!fd) {
        const int code = errno;
        if (code == EACCES || code == EPERM)
            return system_failure(code, "cannot open " + path, privilege_hint);
        if (code == ENOENT || code == ESRCH)
            return std::unexpected(gone(netns));
        return system_failure(code, "cannot open " + path);
    }
    struct stat file{};
    if (fstat(fd.get(), &file) != 0 || NetworkNamespaceId{file.st_dev, file.st_ino} != netns.id)
        return std::unexpected(gone(netns));
    return fd;
}

// By any process that is in the namespace.
Result<UniqueFd> open_by_process(const NetworkNamespace& netns) {
    for (const pid_t pid : list_processes()) {
        if (network_namespace_of(pid) != netns.id)
            continue;
        if (auto fd = open_namespace(netns, process_path(pid, "ns/net")))
            return fd;
    }
    return std::unexpected(gone(netns));
}

// The calling thread enters `netns`. Being there already needs no privilege.
Result<void> enter(const NetworkNamespace& netns) {
    if (id_of_path("/proc/thread-self/ns/net") == netns.id)
        return {};
    auto fd = open_namespace(netns, netns.path);
    // The process of the path may have ended while others are still in the namespace.
    if (!fd && fd.error().code == ENOENT)
        fd = open_by_process(netns);
    if (!fd)
        return std::unexpected(std::move(fd.error()));
    if (setns(fd->get(), CLONE_NEWNET) != 0)
        return system_failure(errno, "cannot enter network namespace " + netns.name,
                              errno == EPERM ? privilege_hint : "");
    return {};
}

// A thread of its own, because a namespace belongs to a thread and a failed way back would strand the caller.
Result<void> on_new_thread(const std::function<Result<void>()>& work) {
    Result<void> result;
    const auto guarded = [&] {
        try {
            result = work();
        } catch (const std::exception& exception) {
            result = failure(std::string("in a network namespace: ") + exception.what());
        }
    };
    try {
        std::thread(guarded).join();
    } catch (const std::system_error& error) {
        return system_failure(error.code().value(), "cannot start a thread",
                              "Is the limit on tasks too low?");
    }
    return result;
}

}  // namespace

NetworkNamespaceFinder::NetworkNamespaceFinder(std::string selector) : selector_(std::move(selector)) {}

Result<std::vector<NetworkNamespace>> NetworkNamespaceFinder::find() {
    if (selector_ == "auto")
        return find_all();
    const auto find_one = [this]() -> Result<NetworkNamespace> {
        constexpr std::string_view container = "container:";
        constexpr std::string_view process = "pid:";
        if (selector_ == "host")
            return host_namespace();
        if (selector_.starts_with(container))
            return find_container(selector_.substr(container.size()));
        if (selector_.starts_with(process))
            return namespace_of_process(std::string_view(selector_).substr(process.size()));
        if (selector_.starts_with('/'))
            return namespace_at(selector_, selector_,
                                "Name a file like /run/netns/NAME or /proc/PID/ns/net.");
        return mounted_namespace(selector_);
    };
    auto netns = find_one();
    if (!netns)
        return std::unexpected(std::move(netns.error()));
    return std::vector{std::move(*netns)};
}

Result<NetworkNamespace> NetworkNamespaceFinder::find_container(const std::string& name) {
    if (!container_ || !container_->still_running()) {
        auto found = pangolin::find_container(name);
        if (!found) {
            Error error = std::move(found.error());
            // Not running is not there, for a namespace.
            error.code = error.code == ESRCH ? ENOENT : error.code;
            return std::unexpected(std::move(error));
        }
        container_ = *found;
    }
    return namespace_at(process_path(container_->pid, "ns/net"), "container:" + name,
                        "Did the container just end?");
}

void NetworkNamespaceFinder::look_at_processes(std::map<NetworkNamespaceId, Seen>& seen) {
    unreadable_processes_ = 0;
    for (const pid_t pid : list_processes()) {
        const auto id = network_namespace_of(pid);
        if (!id) {
            unreadable_processes_ += errno == EACCES || errno == EPERM;
            continue;
        }
        // The lowest number is most likely the namespace's first process, and stays its face while it lives.
        Seen& netns = seen[*id];
        const auto known = named_.find(*id);
        if (netns.pid == 0 || (known != named_.end() && known->second.pid == pid))
            netns.pid = pid;
    }
}

NetworkNamespace NetworkNamespaceFinder::describe(const NetworkNamespaceId& id, const Seen& seen) const {
    // A mount outlives the processes; these only give it a name.
    const std::string path = seen.mount.empty() ? process_path(seen.pid, "ns/net") : seen.mount;
    const auto known = named_.find(id);
    if (known != named_.end() && known->second.pid == seen.pid && !known->second.name.empty())
        return {id, path, known->second.name};
    const std::string name = seen.pid != 0 ? container_name_of(seen.pid) : std::string();
    if (!name.empty())
        return {id, path, "container:" + name};
    const std::string mounted = std::filesystem::path(seen.mount).filename().string();
    // Docker's file names are drawn anew at each start and tell nothing, where a process can.
    const bool is_sandbox = seen.mount.starts_with(docker_folder);
    if (!mounted.empty() && (!is_sandbox || seen.pid == 0))
        return {id, path, is_sandbox ? "docker:" + mounted : mounted};
    return {id, path, "pid:" + std::to_string(seen.pid) + " (" + process_name(seen.pid) + ")"};
}

Result<std::vector<NetworkNamespace>> NetworkNamespaceFinder::find_all() {
    auto host = host_namespace();
    if (!host)
        return std::unexpected(std::move(host.error()));
    std::map<NetworkNamespaceId, Seen> seen;
    look_at_processes(seen);
    for (const std::string folder : mount_folders) {
        for (const std::string& name : names_in_folder(folder)) {
            // All namespaces are files of one file system; what is on another one is a left-over.
            const auto id = id_of_path(folder + name);
            if (id && id->device == host->id.device && seen[*id].mount.empty())
                seen[*id].mount = folder + name;
        }
    }
    seen.erase(host->id);
    std::vector<NetworkNamespace> namespaces;
    std::map<NetworkNamespaceId, Named> named;
    for (const auto& [id, each] : seen) {
        namespaces.push_back(describe(id, each));
        // A process without a better name may still be about to become another program.
        const std::string& name = namespaces.back().name;
        named[id] = {each.pid, name.starts_with("pid:") ? "" : name};
    }
    named_ = std::move(named);
    std::ranges::sort(namespaces, {},
                      [](const NetworkNamespace& netns) { return std::pair(netns.name, netns.id); });
    namespaces.insert(namespaces.begin(), std::move(*host));
    return namespaces;
}

Result<std::vector<NetworkNamespace>> find_network_namespaces(const std::string& selector) {
    return NetworkNamespaceFinder(selector).find();
}

std::optional<NetworkNamespaceId> network_namespace_of(pid_t pid) {
    return id_of_path(process_path(pid, "ns/net"));
}

Result<void> run_in_network_namespace(const NetworkNamespace& netns,
                                      const std::function<Result<void>()>& work) {
    return on_new_thread([&]() -> Result<void> {
        if (auto entered = enter(netns); !entered)
            return entered;
        return work();
    });
}

Result<void> visit_network_namespaces(const std::vector<NetworkNamespace>& namespaces,
                                      const std::function<Result<void>(const NetworkNamespace&)>& work) {
    return on_new_thread([&]() -> Result<void> {
        for (const NetworkNamespace& netns : namespaces) {
            if (auto entered = enter(netns); !entered) {
                if (entered.error().code == ENOENT)
                    continue;
                return entered;
            }
            if (auto done = work(netns); !done)
                return done;
        }
        return {};
    });
}

}  // namespace pangolin
