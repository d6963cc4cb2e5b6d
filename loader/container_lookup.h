// Containers of Docker and Podman, as their engines leave them on disk: no engine is asked.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "loader/base/error.h"

namespace pangolin {

// A container's first process. `start_time` tells it from another process that got its number later.
struct RunningContainer {
    pid_t pid = 0;
    std::uint64_t start_time = 0;
    bool still_running() const;
};

// Where the engines (run by root) keep what they know.
struct ContainerFolders {
    // Folders of Docker's data root, the first one that has containers counts.
    std::vector<std::string> docker;
    // Podman's storage, which names containers, and its run-time folder, which knows their processes.
    std::string podman_storage;
    std::string podman_run;

    // The engines' defaults, and Docker's "data-root" where its daemon.json moves it.
    static ContainerFolders defaults();
};

// Finds a running container by its name. Errors say whether it is unknown or not running.
Result<RunningContainer> find_container(std::string_view name,
                                        const ContainerFolders& folders = ContainerFolders::defaults());

// The name of the container that process `pid` is in; empty when it is in none that is known.
std::string container_name_of(pid_t pid, const ContainerFolders& folders = ContainerFolders::defaults());

// The container's identifier (64 hexadecimal digits) in what /proc/PID/cgroup holds; empty when there is
// none.
std::string container_id_in_cgroup(std::string_view cgroup);

}  // namespace pangolin
