// The UNIX socket over which a userspace WireGuard implementation is asked
// (https://www.wireguard.com/xplatform/).
#pragma once

#include <sys/types.h>

#include <string>

#include "loader/base/error.h"
#include "loader/base/unique_fd.h"
#include "loader/network_namespace.h"

namespace pangolin {

// Connects to the socket at `path`. What follows "/proc/PID/root" is looked up as that process sees it, so
// that a symbolic link in a container leads to the container's files and never to the host's. The descriptor
// does not block. ENOENT or ECONNREFUSED as the error's code: nobody listens there.
Result<UniqueFd> connect_uapi_socket(const std::string& path);

// The process that began to listen at the other end; 0 when it is not visible from here. It may be gone: a
// daemon inherits its socket from a process that has ended.
pid_t uapi_socket_owner(const UniqueFd& socket);

// Whether a socket of the network namespace listens at the file at `path`, which is looked up as by
// connect_uapi_socket(). False where the kernel does not tell (it has no unix_diag).
bool listens_in(const NetworkNamespace& netns, const std::string& path);

}  // namespace pangolin
