// Finding the processes that are Traefik: those that dial the targets.
#pragma once

#include <sys/types.h>

#include <vector>

#include "loader/network_namespace.h"

namespace pangolin {

// All processes whose program is called Traefik, lowest number first.
std::vector<pid_t> find_traefik_processes();

struct TraefikProcess {
    pid_t pid = 0;
    // Its path is good as long as the process lives.
    NetworkNamespace netns;
};

// One process of each network namespace that has any.
std::vector<TraefikProcess> find_dialling_traefiks();

}  // namespace pangolin
