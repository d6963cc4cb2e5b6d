// The time that one process waits for its SQLite database.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "bpf/shared/database_wait.h"
#include "loader/base/error.h"

struct database_wait_bpf;

namespace pangolin {

// Detaches at its end. Not thread-safe.
class DatabaseWaitProgram {
  public:
    // Needs file locks' tracepoint and ext4's (built into the kernel), and nothing is watched yet.
    static Result<DatabaseWaitProgram> attach();
    DatabaseWaitProgram(DatabaseWaitProgram&&) noexcept;
    DatabaseWaitProgram& operator=(DatabaseWaitProgram&&) noexcept;
    ~DatabaseWaitProgram();

    // From now on it is `process` (in the first pid namespace; 0 for none) with the database `device`,
    // `inode`, as stat() gives them. Counts go on.
    void watch(pid_t process, dev_t device, ino_t inode);
    // The sums over its life.
    database_wait read() const;

  private:
    struct SkeletonDeleter {
        void operator()(database_wait_bpf* skeleton) const;
    };
    DatabaseWaitProgram() = default;

    std::unique_ptr<database_wait_bpf, SkeletonDeleter> skeleton_;
};

// Whether the time in fsync() can be told for files there: not for others than ext4.
bool can_time_syncs(const std::string& path);

}  // namespace pangolin
