// The cgroup-v2 hierarchy, to which programs on sockets are attached.
#pragma once

#include <string>

#include "loader/base/error.h"

namespace pangolin {

// Where it is mounted (/sys/fs/cgroup, or /sys/fs/cgroup/unified beside version 1): the topmost group that
// this process can see, the host's root unless it is in a container.
Result<std::string> find_cgroup_root();

// Whether `folder` is the root of the kernel's hierarchy. In a container it is the container's own group,
// unless the host's is mounted there: programs that are attached to it see no other containers.
bool is_whole_cgroup_hierarchy(const std::string& folder);

}  // namespace pangolin
