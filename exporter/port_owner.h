// Who listens on a port, for an error message that helps.
#pragma once

#include <cstdint>
#include <string>

namespace pangolin {

// "docker-proxy (pid 812)": the process of this network namespace that listens on the TCP port. Empty when it
// cannot be seen (another user's process, without root).
std::string port_owner(std::uint16_t port);

}  // namespace pangolin
