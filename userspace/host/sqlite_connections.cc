#include "userspace/host/sqlite_connections.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <fstream>

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

}  // namespace pangolin
