// Finding network namespaces and working inside one.
#pragma once

#include <sys/types.h>

#include <compare>
#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "loader/base/error.h"
#include "loader/base/unique_fd.h"
#include "loader/container_lookup.h"

namespace pangolin {

// What makes a namespace the same one: device and inode of its nsfs file. Inodes are reused after a
// namespace is gone, so an identity is good only while something (process, mount, descriptor) holds it.
struct NetworkNamespaceId {
    dev_t device = 0;
    ino_t inode = 0;
    auto operator<=>(const NetworkNamespaceId&) const = default;
};

// A namespace that existed when it was listed. `path` can be opened to enter it (a mount like "/run/netns/x"
// if there is one, else "/proc/42/ns/net", which the process broker may have to open); no descriptor is kept,
// because an open one would keep a dead container's namespace alive.
struct NetworkNamespace {
    NetworkNamespaceId id;
    std::string path;
    // For people and labels: "host", "container:gerbil", the name under /run/netns, or "pid:42 (gerbil)".
    std::string name;
};

// Lists the namespaces that a selector means, again and again: what it remembers between two calls makes them
// cheap and keeps a namespace's name the same for as long as one of its processes lives. Not thread-safe.
class NetworkNamespaceFinder {
  public:
    // metrics.wireguard.netns as the operator wrote it: auto | host | NAME | PATH | container:NAME | pid:N.
    explicit NetworkNamespaceFinder(std::string selector);

    // `auto` lists every namespace that a process is in or that is mounted under /run/netns (also
    // /var/run/netns and Docker's /run/docker/netns), the host's first, the others by name; the other
    // selectors list one. "container:NAME" finds a container by its name as Docker and Podman write it on
    // disk and in cgroups; a container that is not running is an error whose hint says so.
    // ENOENT as the error's code means that what a selector of one namespace names is not there now.
    Result<std::vector<NetworkNamespace>> find();
    // Whether the last `auto` call could look into all processes. As long as none could, the namespaces are
    // the host's, those of mounts and of the processes that can be seen; afterwards such a call fails.
    const Result<void>& looked_into_processes() const { return looked_; }

  private:
    // What one pass over processes and mounts says of a namespace.
    struct Seen {
        pid_t pid = 0;
        std::string mount;
    };
    // The process that stands for a namespace and the name that was made from it.
    struct Named {
        pid_t pid = 0;
        std::string name;
    };

    Result<std::vector<NetworkNamespace>> find_all();
    Result<NetworkNamespace> find_container(const std::string& name);
    Result<void> look_at_processes(std::map<NetworkNamespaceId, Seen>& seen);
    NetworkNamespace describe(const NetworkNamespaceId& id, const Seen& seen) const;

    std::string selector_;
    std::map<NetworkNamespaceId, Named> named_;
    std::optional<RunningContainer> container_;
    Result<void> looked_;
    bool looked_before_ = false;
};

// NetworkNamespaceFinder for those who ask once.
Result<std::vector<NetworkNamespace>> find_network_namespaces(const std::string& selector);

// The namespace in which process `pid` is; none when there is no such process or it may not be looked at.
std::optional<NetworkNamespaceId> network_namespace_of(pid_t pid);

// Runs `work` on a new thread inside `netns`, waits for it and passes on its result; the calling thread's
// namespace never changes. Sockets that `work` opens stay in that namespace for life. ENOENT as the error's
// code means that the namespace is gone: its path leads nowhere or elsewhere by now, and no process is in it.
Result<void> run_in_network_namespace(const NetworkNamespace& netns,
                                      const std::function<Result<void>()>& work);

// As run_in_network_namespace() for each of `namespaces` in turn, on one thread. A namespace that is gone is
// skipped; the first error of `work`, or of entering, ends the visit.
Result<void> visit_network_namespaces(const std::vector<NetworkNamespace>& namespaces,
                                      const std::function<Result<void>(const NetworkNamespace&)>& work);

}  // namespace pangolin
