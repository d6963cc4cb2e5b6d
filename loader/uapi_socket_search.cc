#include "loader/uapi_socket_search.h"

#include <net/if.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <set>
#include <utility>

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
    const auto looked = run_in_network_namespace({netns, process_path(pid, "ns/net"), name}, look);
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

std::optional<ino_t> mount_namespace(const std::string& path) {
    struct stat file{};
    if (stat(path.c_str(), &file) != 0)
        return std::nullopt;
    return file.st_ino;
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
        if (std::string path = try_below(process_path(pid, "root")); !path.empty())
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
    if (std::exchange(looked_at_processes_, true))
        return processes_[netns];
    const auto own = mount_namespace("/proc/self/ns/mnt");
    std::set<std::pair<NetworkNamespaceId, ino_t>> seen;
    for (const pid_t pid : list_processes()) {
        const auto network = network_namespace_of(pid);
        const auto mount = mount_namespace(process_path(pid, "ns/mnt"));
        if (network && mount && mount != own && seen.emplace(*network, *mount).second)
            processes_[*network].push_back(pid);
    }
    return processes_[netns];
}

}  // namespace pangolin
