// Giving up what this process will not need.
#pragma once

#include <cstdint>

#include "loader/base/error.h"

namespace pangolin {

struct ConfinementOptions {
    // A port below 1024 is listened on later: CAP_NET_BIND_SERVICE stays.
    bool privileged_port = false;
};

// For the rest of the process's life, and that of threads that it starts:
// - of the capabilities that it holds only those stay that loading, attaching and looking into containers
// need
//   (the README lists them with their reasons);
// - no new privileges by execve();
// - system calls are those of an allow-list (seccomp); others fail with EPERM. No program can be started, no
//   module loaded, nothing mounted or traced, no namespace entered but network namespaces.
//
// Call it before any thread is started: capabilities belong to a thread. It raises the limit on locked memory
// first, which kernels before 5.11 charge BPF maps to. After an error the process has some of its privileges
// left and should end. Needs no privilege itself.
Result<void> confine(const ConfinementOptions& options = {});

}  // namespace pangolin
