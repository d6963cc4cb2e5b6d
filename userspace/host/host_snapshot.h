// What a snapshot says of processes on this host.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "userspace/accounts/account_snapshot.h"

namespace pangolin {

// What Traefik's starts made of one of its plugins, since the exporter's start.
struct PluginFetches {
    std::uint64_t succeeded = 0;
    std::uint64_t failed = 0;
};

struct HostSnapshot {
    // Starts of Pangolin after the first one seen; none while it was never seen.
    std::optional<std::uint64_t> pangolin_restarts;
    // By the name that Traefik's configuration gives a plugin.
    std::map<std::string, PluginFetches> plugins;
    // Pangolin's to its SQLite database; none while one of them is not found.
    std::optional<DatabaseConnections> sqlite_connections;
    // Time that Pangolin waited for its database (SQLite: for locks, and for the disk; PostgreSQL: from what
    // it sent to the answer's end); none where it cannot be told.
    std::optional<double> database_wait_seconds;
};

}  // namespace pangolin
