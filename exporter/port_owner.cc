#include "exporter/port_owner.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "loader/listening_sockets.h"
#include "loader/open_files.h"
#include "loader/process_table.h"

namespace pangolin {

std::string port_owner(std::uint16_t port) {
    const ListeningSockets listening = listening_sockets(::getpid());
    const auto wanted = listening.find(port);
    if (wanted == listening.end())
        return {};
    for (const pid_t pid : list_processes()) {
        const std::set<ino_t> open = open_sockets(pid);
        if (std::ranges::any_of(wanted->second, [&](ino_t inode) { return open.contains(inode); }))
            return fmt::format("{} (pid {})", process_name(pid), pid);
    }
    return {};
}

}  // namespace pangolin
