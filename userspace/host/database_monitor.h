// What Pangolin has of its database: the time that it waits for it, and connections to SQLite.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "loader/database_wait_program.h"
#include "loader/pangolin_process.h"
#include "loader/postgres_wait_program.h"
#include "userspace/host/wait_account.h"
#include "userspace/snapshot_part.h"

namespace pangolin {

struct SqliteDatabase {
    std::string path;
};

struct PostgresDatabase {
    // Of the server, as Pangolin dials it.
    std::uint16_t port = 0;
};

// None: it is not known where Pangolin's is.
using PangolinDatabase = std::variant<std::monostate, SqliteDatabase, PostgresDatabase>;

// Feature "database_wait". The time is counted on in the kernel after the end of this process, and is one
// total: of whatever database Pangolin had. Thread-safe.
class DatabaseMonitor final : public SnapshotPart {
  public:
    // As PangolinProcessFinder::find().
    using FindPangolin = std::function<std::optional<PangolinProcess>()>;

    DatabaseMonitor(PangolinDatabase database, FindPangolin find_pangolin);

    // Attaches the programs of this database, where they can tell all of the time, and ends those of another.
    void attach(const MonitorKeeping& keeping) override;
    void start() override {}
    void describe(Snapshot& snapshot) const override;
    std::string_view kept_as() const override { return "database_waits"; }
    void save(ArchiveWriter& writer) const override;
    void restore(ArchiveReader& reader) override;

    // The process that is Pangolin now; to be told again and again, because the database may be replaced.
    // While there is none, or no database, the last ones are watched.
    void follow(const std::optional<PangolinProcess>& pangolin);

  private:
    Result<void> attach_sqlite(const SqliteDatabase& database, const MonitorKeeping& keeping);
    Result<void> attach_postgres(const PostgresDatabase& database, const MonitorKeeping& keeping);
    void watch_sqlite(DatabaseWaitProgram& program, const std::string& path);
    void watch_postgres(PostgresWaitProgram& program, std::uint16_t port);
    void credit() const;

    const PangolinDatabase database_;
    const FindPangolin find_pangolin_;
    mutable std::mutex mutex_;
    // Whoever asks is told what has been counted up to now.
    mutable WaitAccount sqlite_waits_{"sqlite_waits"};
    mutable WaitAccount postgres_waits_{"postgres_waits"};
    // One of the two at most.
    std::optional<DatabaseWaitProgram> sqlite_;
    std::optional<PostgresWaitProgram> postgres_;
    std::optional<PangolinProcess> pangolin_;
    // Whose connections to PostgreSQL are watched.
    std::optional<PangolinProcess> connecting_;
    // Whether there was ever something to watch.
    bool watched_ = false;
    // Of the last attempt, so that it is logged once.
    std::string trouble_;
};

}  // namespace pangolin
