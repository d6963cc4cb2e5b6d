// Finding the process that is Pangolin: the one that listens on Pangolin's ports.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "loader/network_namespace.h"

namespace pangolin {

// Pangolin's own settings `server.*_port`, with the defaults of its server/lib/readConfigFile.ts (1.22.0).
struct PangolinPorts {
    // Dashboard API and WebSockets.
    std::uint16_t external = 3000;
    // For Traefik, badger and gerbil.
    std::uint16_t internal = 3001;
    // The dashboard's pages.
    std::uint16_t next = 3002;
    // Only open with flags.enable_integration_api.
    std::uint16_t integration = 3003;

    bool operator==(const PangolinPorts&) const = default;
};

struct PangolinProcess {
    pid_t pid = 0;
    // Clock ticks from boot; with it the pid is this process and no later one.
    std::uint64_t start_time = 0;
    // Its path is good as long as the process lives, its name is "host", "container:NAME" or "pid:N".
    NetworkNamespace netns;
    // Path below the cgroup-v2 root, as this process sees it ("/system.slice/docker-abc.scope"); empty where
    // cgroup v2 is not mounted.
    std::string cgroup;

    bool operator==(const PangolinProcess& other) const {
        return pid == other.pid && start_time == other.start_time;
    }
};

// Finds Pangolin by what it does: a program that listens on the external and on the internal port, in any
// network namespace (its container's own, or a pod's that it shares with gerbil and Traefik). Neither its
// name nor its container's is known for sure: Node may rename its main thread, and operators rename
// containers. Thread-safe: whoever needs Pangolin asks the same one.
class PangolinProcessFinder {
  public:
    explicit PangolinProcessFinder(const PangolinPorts& ports,
                                   std::chrono::milliseconds patience = std::chrono::seconds(1))
        : ports_(ports), patience_(patience) {}

    // The process that is Pangolin now; none while there is none. Where several are alike the one that was
    // found before stays, else it is the one that started first. As long as that one lives a call costs next
    // to nothing; else it reads the socket tables of all namespaces, unless it did so within `patience`.
    std::optional<PangolinProcess> find();

    const PangolinPorts& ports() const { return ports_; }

  private:
    std::vector<PangolinProcess> find_all() const;

    const PangolinPorts ports_;
    const std::chrono::milliseconds patience_;
    std::mutex mutex_;
    std::optional<PangolinProcess> found_;
    // When it was looked for in vain; none while it is found.
    std::optional<std::chrono::steady_clock::time_point> missed_at_;
};

}  // namespace pangolin
