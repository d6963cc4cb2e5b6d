#include "loader/uapi_socket_search.h"

#include <net/if.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <map>
#include <set>
#include <utility>

#include "loader/process_access.h"
#include "loader/process_table.h"
#include "loader/uapi_socket.h"

namespace pangolin {
namespace {

constexpr std::array socket_folders{"/run/wireguard/", "/var/run/wireguard/"};

enum class Answer : std::uint8_t { none, forbidden, from_elsewhere, from_same_namespace };

// Whether the namespace of process `pid` has a link of that name.
bool has_link(pid_t pid, const NetworkNamespaceId& netns, const std::string& name) {
    bool found = false;
    const auto look = [&]() -> Result<void> {
        found = if_nametoindex(name.c_str()) != 0;
        return {};
    };
    const auto looked = run_in_network_namespace({netns, link_of_process(pid, "ns/net"), name}, look);
    return looked && found;
}

// A socket file that nobody listens on any more is as good as none.
Answer ask(const std::string& path, const TunLink& link, Error* error = nullptr) {
    const auto socket = connect_uapi_socket(path);
    if (!socket) {
        if (socket.error().code != EACCES && socket.error().code != EPERM)
            return Answer::none;
        if (error)
            *error = socket.error();
        return Answer::forbidden;
    }
    const pid_t owner = uapi_socket_owner(*socket);
    const auto netns = network_namespace_of(owner);
    // An owner with a link of that name at home answers for that one.
    const bool answers_at_home = netns && has_link(owner, *netns, link.name);
    // It may be gone, or its number somebody else's.
    if (netns == link.netns.id || (!answers_at_home && listens_in(link.netns, path)))
        return Answer::from_same_namespace;
    if (!link.name_is_unique || answers_at_home)
        return Answer::none;
    return Answer::from_elsewhere;
}

// Of a process of each pair of namespaces, of network and mounts, other than this process's mounts.
std::map<NetworkNamespaceId, std::vector<pid_t>> processes_with_own_mounts() {
    std::map<NetworkNamespaceId, std::vector<pid_t>> found;
    struct stat own{};
    const auto networks = network_namespaces_of_processes();
    const auto mounts = mount_namespaces_of_processes();
    if (!networks || !mounts || stat("/proc/self/ns/mnt", &own) != 0)
        return found;
    std::map<pid_t, NetworkNamespaceId> network_of;
    for (const ProcessNamespace& each : *networks)
        if (each.error == 0)
            network_of[each.pid] = {each.device, each.inode};
    std::set<std::pair<NetworkNamespaceId, ino_t>> seen;
    for (const ProcessNamespace& each : *mounts) {
        const auto network = network_of.find(each.pid);
        if (each.error == 0 && network != network_of.end() && each.inode != own.st_ino &&
            seen.emplace(network->second, each.inode).second)
            found[network->second].push_back(each.pid);
    }
    return found;
}

}  // namespace

Result<std::string> UapiSocketSearch::find(const TunLink& link) {
    std::string elsewhere;
    Error forbidden;
    const auto try_below = [&](const std::string& root) {
        for (const char* folder : socket_folders) {
            std::string path = root + folder + link.name + ".sock";
            const Answer answer = ask(path, link, &forbidden);
            if (answer == Answer::from_same_namespace)
                return path;
            if (answer == Answer::from_elsewhere && elsewhere.empty())
                elsewhere = std::move(path);
        }
        return std::string();
    };
    if (std::string path = try_below(""); !path.empty())
        return path;
    for (const pid_t pid : mount_namespaces_in(link.netns.id)) {
        if (std::string path = try_below(link_of_process(pid, "root")); !path.empty())
            return path;
    }
    if (elsewhere.empty() && forbidden.code != 0)
        return std::unexpected(std::move(forbidden));
    return elsewhere;
}

bool UapiSocketSearch::still_answers(const std::string& path, const TunLink& link) {
    return ask(path, link) >= Answer::from_elsewhere;
}

const std::vector<pid_t>& UapiSocketSearch::mount_namespaces_in(const NetworkNamespaceId& netns) {
    if (!std::exchange(looked_at_processes_, true))
        processes_ = processes_with_own_mounts();
    return processes_[netns];
}

}  // namespace pangolin
