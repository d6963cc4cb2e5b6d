// What Pangolin has of its SQLite database: connections, and time that it waits.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

#include "loader/database_wait_program.h"
#include "userspace/accounts/account_snapshot.h"
#include "userspace/host/host_monitor.h"
#include "userspace/snapshot_part.h"

namespace pangolin {

// The connections of process `pid` to the database at `path`: its descriptors of that file, one of which is
// in use when it holds a lock on it now (/proc/locks, in the pid namespace of both). None when there is no
// such process, or no such file.
std::optional<DatabaseConnections> sqlite_connections(pid_t pid, const std::string& path);

// Feature "database_wait". Thread-safe.
class SqliteMonitor final : public SnapshotPart {
  public:
    explicit SqliteMonitor(std::string path);

    // Attaches the program, where it can tell all of the time.
    void start() override;
    void describe(Snapshot& snapshot) const override;
    std::string_view kept_as() const override { return "sqlite"; }
    void save(ArchiveWriter& writer) const override;
    void restore(ArchiveReader& reader) override;

    // The process that is Pangolin now, as HostMonitor finds it; to be told again and again, because the
    // database may be replaced.
    void follow(const std::optional<ProcessIdentity>& pangolin);

  private:
    const std::string path_;
    // Nanoseconds, of processes before this one as well.
    std::uint64_t waited() const;

    mutable std::mutex mutex_;
    std::uint64_t waited_before_ = 0;
    std::optional<DatabaseWaitProgram> program_;
    std::optional<ProcessIdentity> pangolin_;
    // Whether there was ever something to watch.
    bool watched_ = false;
};

}  // namespace pangolin
