#include "userspace/host/database_monitor.h"

#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <utility>

#include "loader/cgroup.h"
#include "userspace/host/sqlite_connections.h"

namespace pangolin {
namespace {

WaitCounts counts_of(const database_wait& wait) {
    return {.waited_ns = wait.lock_ns + wait.sync_ns, .full = wait.lost, .encrypted = 0};
}

WaitCounts counts_of(const postgres_wait& wait) {
    return {.waited_ns = wait.wait_ns, .full = wait.lost, .encrypted = wait.encrypted};
}

std::optional<WaitCounts> last_of_sqlite(const PinFolder& pins) {
    return read_last_database_wait(pins).transform([](const database_wait& last) { return counts_of(last); });
}

std::optional<WaitCounts> last_of_postgres(const PinFolder& pins) {
    return read_last_postgres_wait(pins).transform([](const postgres_wait& last) { return counts_of(last); });
}

}  // namespace

DatabaseMonitor::DatabaseMonitor(PangolinDatabase database, FindPangolin find_pangolin)
    : database_(std::move(database)), find_pangolin_(std::move(find_pangolin)) {}

// Without the lock, which save() takes: nobody else is there yet.
void DatabaseMonitor::attach(const MonitorKeeping& keeping) {
    if (!keeping.resumes) {
        sqlite_waits_.forget_pins();
        postgres_waits_.forget_pins();
    }
    pangolin_ = find_pangolin_();
    Result<void> attached;
    if (const auto* sqlite = std::get_if<SqliteDatabase>(&database_))
        attached = attach_sqlite(*sqlite, keeping);
    if (const auto* postgres = std::get_if<PostgresDatabase>(&database_))
        attached = attach_postgres(*postgres, keeping);
    if (!attached)
        spdlog::info("the time that Pangolin waits for its database is not published: {}",
                     attached.error().message());
    if (!sqlite_)
        sqlite_waits_.end(keeping, last_of_sqlite);
    if (!postgres_)
        postgres_waits_.end(keeping, last_of_postgres);
}

Result<void> DatabaseMonitor::attach_sqlite(const SqliteDatabase& database, const MonitorKeeping& keeping) {
    if (!can_time_syncs(database.path))
        return failure(database.path + " is not on ext4");
    const auto load = [&](const std::optional<KeptPins>& pins) {
        auto loaded = DatabaseWaitProgram::load(pins);
        // Before the programs that are replaced, which may have maps of their own, stop.
        if (loaded)
            watch_sqlite(*loaded, database.path);
        return loaded;
    };
    auto program = sqlite_waits_.start<DatabaseWaitProgram>(keeping, load, last_of_sqlite);
    if (!program)
        return std::unexpected(program.error());
    sqlite_.emplace(std::move(*program));
    return {};
}

Result<void> DatabaseMonitor::attach_postgres(const PostgresDatabase& database,
                                              const MonitorKeeping& keeping) {
    const auto load = [&](const std::optional<KeptPins>& pins) {
        auto loaded = PostgresWaitProgram::load(pins);
        if (loaded)
            watch_postgres(*loaded, database.port);
        return loaded;
    };
    auto program = postgres_waits_.start<PostgresWaitProgram>(keeping, load, last_of_postgres);
    if (!program)
        return std::unexpected(program.error());
    postgres_.emplace(std::move(*program));
    // It says whether it could be attached where Pangolin is.
    connecting_.reset();
    watch_postgres(*postgres_, database.port);
    return {};
}

void DatabaseMonitor::follow(const std::optional<PangolinProcess>& pangolin) {
    const std::lock_guard lock(mutex_);
    pangolin_ = pangolin;
    if (sqlite_)
        watch_sqlite(*sqlite_, std::get<SqliteDatabase>(database_).path);
    if (postgres_)
        watch_postgres(*postgres_, std::get<PostgresDatabase>(database_).port);
}

void DatabaseMonitor::watch_sqlite(DatabaseWaitProgram& program, const std::string& path) {
    struct stat database{};
    if (!pangolin_ || ::stat(path.c_str(), &database) != 0)
        return;
    program.watch(pangolin_->pid, pangolin_->start_time, database.st_dev, database.st_ino);
    watched_ = true;
}

void DatabaseMonitor::watch_postgres(PostgresWaitProgram& program, std::uint16_t port) {
    if (!pangolin_ || pangolin_ == connecting_)
        return;
    const auto root = find_cgroup_root();
    const auto watching = root ? program.watch(pangolin_->netns, port, *root + pangolin_->cgroup)
                               : std::unexpected(root.error());
    if (!watching) {
        if (const std::string message = watching.error().message(); message != trouble_)
            spdlog::warn("the time that Pangolin waits for its database cannot be told: {}", message);
        trouble_ = watching.error().message();
        return;
    }
    trouble_.clear();
    connecting_ = pangolin_;
    watched_ = true;
}

void DatabaseMonitor::credit() const {
    if (sqlite_)
        sqlite_waits_.credit(counts_of(sqlite_->read()));
    if (postgres_)
        postgres_waits_.credit(counts_of(postgres_->read()));
}

void DatabaseMonitor::describe(Snapshot& snapshot) const {
    if (std::holds_alternative<std::monostate>(database_))
        return;
    const std::lock_guard lock(mutex_);
    snapshot.add_feature("database_wait", sqlite_ || postgres_);
    if (const auto* sqlite = std::get_if<SqliteDatabase>(&database_); sqlite && pangolin_)
        snapshot.host.sqlite_connections = sqlite_connections(pangolin_->pid, sqlite->path);
    if (!watched_ || (!sqlite_ && !postgres_))
        return;
    credit();
    constexpr double nanoseconds_a_second = 1e9;
    snapshot.host.database_wait_seconds =
        static_cast<double>(sqlite_waits_.total().waited_ns + postgres_waits_.total().waited_ns) /
        nanoseconds_a_second;
    if (sqlite_) {
        snapshot.lost_updates.push_back({"database_waits", "full", sqlite_waits_.total().full});
        snapshot.add_attachments("tracepoint", sqlite_->attachments());
        return;
    }
    const WaitCounts& total = postgres_waits_.total();
    snapshot.lost_updates.push_back({"postgres_connections", "full", total.full});
    snapshot.lost_updates.push_back({"postgres_connections", "encrypted", total.encrypted});
    const std::size_t at_cgroups = postgres_->cgroup_attachments();
    snapshot.add_attachments("tracepoint", postgres_->attachments() - at_cgroups);
    snapshot.add_attachments("cgroup", at_cgroups);
}

void DatabaseMonitor::save(ArchiveWriter& writer) const {
    const std::lock_guard lock(mutex_);
    credit();
    writer(watched_, sqlite_waits_.state(), postgres_waits_.state());
}

void DatabaseMonitor::restore(ArchiveReader& reader) {
    bool watched = false;
    WaitState sqlite;
    WaitState postgres;
    reader(watched, sqlite, postgres);
    if (!reader.ok())
        return;
    const std::lock_guard lock(mutex_);
    watched_ = watched;
    sqlite_waits_.restore(sqlite);
    postgres_waits_.restore(postgres);
}

}  // namespace pangolin
