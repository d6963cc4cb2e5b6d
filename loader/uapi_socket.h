// The UNIX socket over which a userspace WireGuard implementation is asked
// (https://www.wireguard.com/xplatform/).
#pragma once

#include <sys/types.h>

#include <string>

#include "loader/base/error.h"
#include "loader/base/unique_fd.h"

namespace pangolin {

// Connects to the socket at `path`. What follows "/proc/PID/root" is looked up as that process sees it, so
// that a symbolic link in a container leads to the container's files and never to the host's. The descriptor
// does not block. ENOENT or ECONNREFUSED as the error's code: nobody listens there.
Result<UniqueFd> connect_uapi_socket(const std::string& path);

// The process that listens at the other end; 0 when it is not visible from here.
pid_t uapi_socket_owner(const UniqueFd& socket);

}  // namespace pangolin
