// Connections of a process to a SQLite database.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "userspace/accounts/account_snapshot.h"

namespace pangolin {

// The connections of process `pid` to the database at `path`: its descriptors of that file, one of which is
// in use when it holds a lock on it now (/proc/locks, in the pid namespace of both). None when there is no
// such process, or no such file.
std::optional<DatabaseConnections> sqlite_connections(pid_t pid, const std::string& path);

}  // namespace pangolin
