// Finding network namespaces and working inside one.
#pragma once

#include <sys/types.h>

#include <compare>
#include <functional>
#include <string>
#include <vector>

#include "loader/base/error.h"
#include "loader/base/unique_fd.h"

namespace pangolin {

// What makes a namespace the same one: device and inode of its nsfs file. Inodes are reused after a
// namespace is gone, so an identity is good only while something (process, mount, descriptor) holds it.
struct NetworkNamespaceId {
    dev_t device = 0;
    ino_t inode = 0;
    auto operator<=>(const NetworkNamespaceId&) const = default;
};

// A namespace that existed when it was listed. `path` can be opened to enter it ("/proc/42/ns/net",
// "/run/netns/x"); no descriptor is kept, because an open one would keep a dead container's namespace alive.
struct NetworkNamespace {
    NetworkNamespaceId id;
    std::string path;
    // For people: "host", the name under /run/netns, or "pid:42 (gerbil)".
    std::string name;
};

// metrics.wireguard.netns as the operator wrote it: auto | host | NAME | PATH | container:NAME | pid:N.
// `auto` lists every namespace that a process is in or that is mounted under /run/netns (also /var/run/netns
// and Docker's /run/docker/netns); the others list one. "container:NAME" finds a container by its name as
// Docker and Podman write it on disk and in cgroups; a container that is not running is an error whose hint
// says so.
Result<std::vector<NetworkNamespace>> find_network_namespaces(const std::string& selector);

// Runs `work` on a new thread inside `netns`, waits for it and passes on its result; the calling thread's
// namespace never changes. Sockets that `work` opens stay in that namespace for life.
Result<void> run_in_network_namespace(const NetworkNamespace& netns,
                                      const std::function<Result<void>()>& work);

}  // namespace pangolin
