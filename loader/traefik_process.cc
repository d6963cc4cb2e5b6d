#include "loader/traefik_process.h"

#include <algorithm>

#include "loader/process_table.h"

namespace pangolin {

std::vector<pid_t> find_traefik_processes() {
    std::vector<pid_t> found = list_processes();
    std::erase_if(found, [](pid_t pid) { return process_name(pid) != "traefik"; });
    return found;
}

std::vector<TraefikProcess> find_dialling_traefiks() {
    std::vector<TraefikProcess> found;
    for (const pid_t pid : find_traefik_processes()) {
        const auto id = network_namespace_of(pid);
        const auto is_same = [&](const TraefikProcess& each) { return each.netns.id == *id; };
        if (!id || std::ranges::any_of(found, is_same))
            continue;
        found.push_back({.pid = pid,
                         .netns = {.id = *id,
                                   .path = link_of_process(pid, "ns/net"),
                                   .name = "pid:" + std::to_string(pid) + " (traefik)"}});
    }
    return found;
}

}  // namespace pangolin
