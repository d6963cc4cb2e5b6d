#include "loader/pangolin_process.h"

#include <algorithm>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "loader/container_lookup.h"
#include "loader/files.h"
#include "loader/listening_sockets.h"
#include "loader/open_files.h"
#include "loader/process_access.h"
#include "loader/process_table.h"

namespace pangolin {
namespace {

std::string name_of_namespace(pid_t pid, const NetworkNamespaceId& id) {
    if (id == network_namespace_of(1))
        return "host";
    const std::string container = container_name_of(pid);
    return container.empty() ? "pid:" + std::to_string(pid) : "container:" + container;
}

// The line "0::PATH" of /proc/PID/cgroup (cgroups(7)).
std::string unified_cgroup(pid_t pid) {
    const std::string content = read_small_file(process_path(pid, "cgroup"));
    std::string_view rest = content;
    constexpr std::string_view unified = "0::";
    while (!rest.empty()) {
        const std::string_view line = rest.substr(0, rest.find('\n'));
        if (line.starts_with(unified))
            return std::string(line.substr(unified.size()));
        rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    }
    return {};
}

bool has_one_of(const std::set<ino_t>& open, const std::set<ino_t>& wanted) {
    return std::ranges::any_of(wanted, [&](ino_t inode) { return open.contains(inode); });
}

std::optional<PangolinProcess> describe(pid_t pid, const NetworkNamespaceId& netns) {
    const auto start_time = process_start_time(pid);
    if (!start_time || network_namespace_of(pid) != netns)
        return std::nullopt;
    return PangolinProcess{
        .pid = pid,
        .start_time = *start_time,
        .netns = {.id = netns, .path = link_of_process(pid, "ns/net"), .name = name_of_namespace(pid, netns)},
        .cgroup = unified_cgroup(pid)};
}

}  // namespace

std::optional<PangolinProcess> PangolinProcessFinder::find() {
    const std::lock_guard lock(mutex_);
    const auto now = std::chrono::steady_clock::now();
    if (found_ && process_start_time(found_->pid) == found_->start_time)
        return found_;
    if (missed_at_ && now - *missed_at_ < patience_)
        return std::nullopt;
    const std::vector<PangolinProcess> all = find_all();
    const auto first = std::ranges::min_element(
        all, {}, [](const PangolinProcess& process) { return std::pair(process.start_time, process.pid); });
    found_ = first == all.end() ? std::nullopt : std::optional(*first);
    missed_at_ = found_ ? std::nullopt : std::optional(now);
    return found_;
}

std::vector<PangolinProcess> PangolinProcessFinder::find_all() const {
    std::map<NetworkNamespaceId, std::vector<pid_t>> by_namespace;
    const auto processes = network_namespaces_of_processes();
    if (!processes)
        return {};
    for (const ProcessNamespace& each : *processes) {
        if (each.error == 0)
            by_namespace[{each.device, each.inode}].push_back(each.pid);
    }
    std::vector<PangolinProcess> found;
    for (const auto& [netns, processes] : by_namespace) {
        const ListeningSockets listening = listening_sockets(processes.front());
        const auto external = listening.find(ports_.external);
        const auto internal = listening.find(ports_.internal);
        if (external == listening.end() || internal == listening.end())
            continue;
        for (const pid_t pid : processes) {
            const std::set<ino_t> open = open_sockets(pid);
            if (!has_one_of(open, external->second) || !has_one_of(open, internal->second))
                continue;
            if (auto process = describe(pid, netns))
                found.push_back(std::move(*process));
        }
    }
    return found;
}

}  // namespace pangolin
