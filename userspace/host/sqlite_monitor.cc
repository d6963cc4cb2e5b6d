#include "userspace/host/sqlite_monitor.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <fstream>
#include <utility>

#include "loader/open_files.h"
#include "loader/process_table.h"

namespace pangolin {
namespace {

// A line of /proc/locks (proc(5)): "1: POSIX  ADVISORY  WRITE 1234 fd:00:12345 1073741826 1073742335". One
// that waits has "->" behind its number.
bool holds_lock(pid_t pid, const struct stat& database) {
    const std::string process = fmt::format(" {} ", pid);
    const std::string file = fmt::format(" {:02x}:{:02x}:{} ", major(database.st_dev), minor(database.st_dev),
                                         static_cast<std::uint64_t>(database.st_ino));
    std::ifstream locks("/proc/locks");
    for (std::string line; std::getline(locks, line);)
        if (line.find(file) != std::string::npos && line.find(process) != std::string::npos &&
            line.find("->") == std::string::npos)
            return true;
    return false;
}

}  // namespace

std::optional<DatabaseConnections> sqlite_connections(pid_t pid, const std::string& path) {
    struct stat database{};
    if (!process_start_time(pid) || ::stat(path.c_str(), &database) != 0)
        return std::nullopt;
    const auto open =
        static_cast<std::uint64_t>(std::ranges::count_if(open_files(pid), [&](const OpenFile& file) {
            return file.device == database.st_dev && file.inode == database.st_ino;
        }));
    DatabaseConnections connections;
    connections.active = open > 0 && holds_lock(pid, database) ? 1 : 0;
    connections.idle = open - connections.active;
    return connections;
}

SqliteMonitor::SqliteMonitor(std::string path) : path_(std::move(path)) {}

void SqliteMonitor::start() {
    if (!can_time_syncs(path_)) {
        spdlog::info("the time that Pangolin waits for its database is not published: {} is not on ext4",
                     path_);
        return;
    }
    auto program = DatabaseWaitProgram::attach();
    if (!program) {
        spdlog::info("the time that Pangolin waits for its database is not published: {}",
                     program.error().message());
        return;
    }
    const std::lock_guard lock(mutex_);
    program_.emplace(std::move(*program));
}

void SqliteMonitor::follow(const std::optional<ProcessIdentity>& pangolin) {
    struct stat database{};
    const bool there = pangolin && ::stat(path_.c_str(), &database) == 0;
    const std::lock_guard lock(mutex_);
    pangolin_ = pangolin;
    watched_ |= there;
    if (program_)
        program_->watch(there ? pangolin->pid : 0, database.st_dev, database.st_ino);
}

void SqliteMonitor::describe(Snapshot& snapshot) const {
    const std::lock_guard lock(mutex_);
    snapshot.add_feature("database_wait", program_.has_value());
    if (pangolin_)
        snapshot.host.sqlite_connections = sqlite_connections(pangolin_->pid, path_);
    if (!program_ || !watched_)
        return;
    constexpr double nanoseconds_a_second = 1e9;
    snapshot.host.database_wait_seconds = static_cast<double>(waited()) / nanoseconds_a_second;
    snapshot.lost_updates.push_back({"database_waits", "full", program_->read().lost});
    snapshot.add_attachments("tracepoint", 3);
}

std::uint64_t SqliteMonitor::waited() const {
    const database_wait wait = program_ ? program_->read() : database_wait{};
    return waited_before_ + wait.lock_ns + wait.sync_ns;
}

void SqliteMonitor::save(ArchiveWriter& writer) const {
    const std::lock_guard lock(mutex_);
    writer(waited());
}

void SqliteMonitor::restore(ArchiveReader& reader) {
    const std::lock_guard lock(mutex_);
    reader(waited_before_);
}

}  // namespace pangolin
