// The time that one process waits for its SQLite database.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "bpf/shared/database_wait.h"
#include "loader/base/error.h"
#include "loader/bpf_handles.h"
#include "loader/takeover.h"

struct database_wait_bpf;

namespace pangolin {

// Detaches at its end, but what is pinned. Not thread-safe.
class DatabaseWaitProgram {
  public:
    // start() comes next. Needs file locks' tracepoint and ext4's (of a module: Linux 5.11 and newer).
    // Nothing is watched yet, but what the programs watch that these replace. See Takeover::prepare().
    static Result<DatabaseWaitProgram> load(const std::optional<KeptPins>& pins);
    DatabaseWaitProgram(DatabaseWaitProgram&&) noexcept;
    DatabaseWaitProgram& operator=(DatabaseWaitProgram&&) noexcept;
    ~DatabaseWaitProgram();

    // Attaches, in the place of the programs of before.
    Result<void> start();

    // From now on it is `process` (in the first pid namespace; 0 for none), which started at `start_time` (as
    // process_start_time() tells it), with the database `device`, `inode`, as stat() gives them. Counts go
    // on, and so do waits when it is the same.
    void watch(pid_t process, std::uint64_t start_time, dev_t device, ino_t inode);
    // The sums over the life of its maps; all 0 when they cannot be read.
    database_wait read() const;
    std::size_t attachments() const { return takeover_.attachments(); }

  private:
    DatabaseWaitProgram() = default;

    BpfSkeleton<database_wait_bpf> skeleton_;
    Takeover takeover_;
};

// Of maps that are pinned there; none when there are none.
std::optional<database_wait> read_last_database_wait(const PinFolder& pins);

// Whether the time in fsync() can be told for files there: not for others than ext4.
bool can_time_syncs(const std::string& path);

}  // namespace pangolin
