// The time that Pangolin waits for its PostgreSQL database.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>

#include "loader/pangolin_process.h"
#include "loader/postgres_wait_program.h"
#include "userspace/snapshot_part.h"

namespace pangolin {

// Feature "database_wait". Thread-safe.
class PostgresMonitor final : public SnapshotPart {
  public:
    // `port`: of the server, as Pangolin dials it.
    explicit PostgresMonitor(std::uint16_t port) : port_(port) {}

    // Loads the programs; they are attached where Pangolin is found.
    void start() override;
    void describe(Snapshot& snapshot) const override;

    // The process that is Pangolin now; to be told again and again.
    void follow(const std::optional<PangolinProcess>& pangolin);

  private:
    const std::uint16_t port_;
    mutable std::mutex mutex_;
    std::optional<PostgresWaitProgram> program_;
    // Whose connections are watched.
    std::optional<PangolinProcess> pangolin_;
    // Whether there was ever something to watch.
    bool watched_ = false;
    // Of the last attempt, so that it is logged once.
    std::string trouble_;
};

}  // namespace pangolin
