#include "exporter/port_owner.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string_view>
#include <system_error>
#include <vector>

#include "loader/process_table.h"

namespace pangolin {

namespace {

namespace fs = std::filesystem;

// "socket:[INODE]" of the listening sockets on `port` in one of /proc/net's tables: after the heading, lines
// of "sl local:port remote:port state queues timer retransmits uid timeout inode ...", numbers in
// hexadecimal.
void find_listeners(const char* table, std::uint16_t port, std::vector<std::string>& links) {
    std::ifstream file(table);
    std::string line;
    std::getline(file, line);
    while (std::getline(file, line)) {
        std::istringstream fields(line);
        std::string slot, local, remote, state, queues, timer, retransmits, user, timeout, inode;
        fields >> slot >> local >> remote >> state >> queues >> timer >> retransmits >> user >> timeout >>
            inode;
        constexpr std::string_view listening = "0A";
        const std::size_t colon = local.rfind(':');
        if (!fields || state != listening || colon == std::string::npos)
            continue;
        unsigned value = 0;
        std::from_chars(local.data() + colon + 1, local.data() + local.size(), value, 16);
        if (value == port)
            links.push_back(fmt::format("socket:[{}]", inode));
    }
}

bool holds_one_of(pid_t pid, const std::vector<std::string>& links) {
    std::error_code error;
    for (fs::directory_iterator entry(process_path(pid, "fd"), error), end; !error && entry != end;
         entry.increment(error)) {
        std::error_code gone;
        const fs::path target = fs::read_symlink(entry->path(), gone);
        if (!gone && std::ranges::find(links, target.native()) != links.end())
            return true;
    }
    return false;
}

}  // namespace

std::string port_owner(std::uint16_t port) {
    std::vector<std::string> links;
    find_listeners("/proc/net/tcp", port, links);
    find_listeners("/proc/net/tcp6", port, links);
    if (links.empty())
        return {};
    for (const pid_t pid : list_processes()) {
        if (holds_one_of(pid, links))
            return fmt::format("{} (pid {})", process_name(pid), pid);
    }
    return {};
}

}  // namespace pangolin
