// TCP sockets that wait for connections, as /proc tells them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <set>
#include <string_view>

namespace pangolin {

// The inodes of one network namespace's listening sockets, by port. Several sockets may share a port (one for
// each address or family, SO_REUSEPORT).
using ListeningSockets = std::map<std::uint16_t, std::set<ino_t>>;

// Those of the namespace that process `pid` is in; empty when the process is gone or may not be looked at.
ListeningSockets listening_sockets(pid_t pid);

// Adds the listening sockets in the content of a /proc/PID/net/tcp or tcp6. Lines that make no sense are left
// out.
void add_listening_sockets(std::string_view table, ListeningSockets& sockets);

}  // namespace pangolin
