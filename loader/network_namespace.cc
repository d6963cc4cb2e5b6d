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
#include "loader/process_access.h"
#include "loader/process_table.h"

namespace pangolin {
namespace {

constexpr std::array mount_folders{"/run/netns/", "/var/run/netns/", "/run/docker/netns/"};
constexpr std::string_view docker_folder = "/run/docker/netns/";
constexpr const char* privilege_hint =
    "Entering network namespaces needs CAP_SYS_ADMIN, and for those of other users' processes CAP_SYS_PTRACE "
    "or pangolin_process_broker: run as root, or as the shipped units do.";
constexpr const char* own_network_namespace = "ns/net";

NetworkNamespaceId id_of_file(const struct stat& file) {
    return {file.st_dev, file.st_ino};
}

std::optional<NetworkNamespaceId> id_of_path(const std::string& path) {
    struct stat file{};
    if (stat(path.c_str(), &file) != 0)
        return std::nullopt;
    return id_of_file(file);
}

Error gone(const NetworkNamespace& netns) {
    return {"network namespace " + netns.name + " is gone", {}, ENOENT};
}

Result<UniqueFd> open_file(const std::string& path) {
    if (const auto link = parse_process_link(path); link && link->name == own_network_namespace)
        return open_network_namespace_of(link->pid);
    UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!fd)
        return system_failure(errno, "cannot open " + path);
    return fd;
}

// Only nsfs has the ioctl, so that this also tells a namespace from any other file.
bool is_network_namespace(int fd) {
    return ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET;
}

Result<NetworkNamespace> namespace_at(const std::string& path, const std::string& name, std::string hint) {
    const auto fd = open_file(path);
    if (!fd) {
        const int code = fd.error().code == ESRCH ? ENOENT : fd.error().code;
        // The process broker's error says what to do about it.
        if (!fd.error().hint.empty())
            hint = fd.error().hint;
        else if (code == EACCES || code == EPERM)
            hint = privilege_hint;
        return system_failure(code, "network namespace " + name, std::move(hint));
    }
    struct stat file{};
    if (!is_network_namespace(fd->get()) || fstat(fd->get(), &file) != 0)
        return failure(path + " is not a network namespace", std::move(hint), EINVAL);
    return NetworkNamespace{id_of_file(file), path, name};
}

// Process 1's namespace is the host's also when the exporter itself was started in another one; where it
// may not be looked at, the exporter's own has to do.
Result<NetworkNamespace> host_namespace() {
    if (const auto id = network_namespace_of(1))
        return NetworkNamespace{*id, link_of_process(1, own_network_namespace), "host"};
    constexpr const char* path = "/proc/self/ns/net";
    if (const auto id = id_of_path(path))
        return NetworkNamespace{*id, path, "host"};
    return system_failure(errno, std::string("cannot look at ") + path, "Is /proc mounted?");
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
    return namespace_at(link_of_process(*pid, own_network_namespace),
                        "pid:" + std::to_string(*pid) + " (" + process_name(*pid) + ")",
                        "Is the process running?");
}

// ENOENT when `path` leads nowhere, or to another namespace: the process number in it may belong to somebody
// else by now, and what is left of a mount is an empty file.
Result<UniqueFd> open_namespace(const NetworkNamespace& netns, const std::string& path) {
    auto fd = open_file(path);
    if (!fd) {
        Error& error = fd.error();
        if (error.code == ENOENT || error.code == ESRCH)
            return std::unexpected(gone(netns));
        if (error.hint.empty() && (error.code == EACCES || error.code == EPERM))
            error.hint = privilege_hint;
        return fd;
    }
    struct stat file{};
    if (fstat(fd->get(), &file) != 0 || id_of_file(file) != netns.id)
        return std::unexpected(gone(netns));
    return fd;
}

// By any process that is in the namespace.
Result<UniqueFd> open_by_process(const NetworkNamespace& netns) {
    const auto processes = network_namespaces_of_processes();
    if (!processes)
        return std::unexpected(processes.error());
    for (const ProcessNamespace& each : *processes) {
        if (NetworkNamespaceId{each.device, each.inode} != netns.id)
            continue;
        if (auto fd = open_namespace(netns, link_of_process(each.pid, own_network_namespace)))
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
    return namespace_at(link_of_process(container_->pid, own_network_namespace), "container:" + name,
                        "Did the container just end?");
}

Result<void> NetworkNamespaceFinder::look_at_processes(std::map<NetworkNamespaceId, Seen>& seen) {
    const auto processes = network_namespaces_of_processes();
    if (!processes)
        return std::unexpected(processes.error());
    for (const ProcessNamespace& each : *processes) {
        if (each.error != 0)
            continue;
        const NetworkNamespaceId id{each.device, each.inode};
        // The lowest number is most likely the namespace's first process, and stays its face while it lives.
        Seen& netns = seen[id];
        const auto known = named_.find(id);
        if (netns.pid == 0 || (known != named_.end() && known->second.pid == each.pid))
            netns.pid = each.pid;
    }
    return {};
}

NetworkNamespace NetworkNamespaceFinder::describe(const NetworkNamespaceId& id, const Seen& seen) const {
    // A mount outlives the processes; these only give it a name.
    const std::string path =
        seen.mount.empty() ? link_of_process(seen.pid, own_network_namespace) : seen.mount;
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
    looked_ = look_at_processes(seen);
    // What was found before is not gone because nobody can look.
    if (!looked_ && looked_before_)
        return std::unexpected(looked_.error());
    // Some are seen all the same: those of the same user.
    if (auto hidden = processes_are_hidden(); looked_ && hidden)
        looked_ = std::unexpected(std::move(*hidden));
    looked_before_ |= looked_.has_value();
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
    const auto fd = open_network_namespace_of(pid);
    struct stat file{};
    if (!fd || fstat(fd->get(), &file) != 0)
        return std::nullopt;
    return id_of_file(file);
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
