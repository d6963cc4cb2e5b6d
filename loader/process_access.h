// Looking into other users' processes, for which the kernel asks CAP_SYS_PTRACE: by this process itself, or,
// where it has no such capability and there is a process broker, by that.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "loader/base/error.h"
#include "loader/base/unique_fd.h"
#include "loader/process_broker.h"

namespace pangolin {

// Null: this process looks itself, with what it is permitted.
ProcessBroker* process_broker();

// Why other users' processes cannot be looked into: there is neither the capability nor a broker. None: they
// can, as far as the broker answers.
std::optional<Error> processes_are_hidden();

// For tests: asks at another socket from now on. Call it before any thread looks into processes.
void use_process_broker_at(const std::string& socket);

// The folder of all processes, as a path: "/proc", or where the broker's is open here. What everybody may
// read of a process is below it, also where /proc hides other users' processes (proc(5), hidepid).
std::string process_folder();

// Of all processes, in their order, with the errno of those that may not be looked into. An error when the
// broker fails: the processes that are seen without it are not all.
Result<std::vector<ProcessNamespace>> network_namespaces_of_processes();
Result<std::vector<ProcessNamespace>> mount_namespaces_of_processes();

// Opened to enter it (O_RDONLY). The error's code is ENOENT or ESRCH when the process is gone.
Result<UniqueFd> open_network_namespace_of(pid_t pid);
// Opened as a place to begin at (O_PATH). It keeps what is mounted there as long as it is open.
Result<UniqueFd> open_root_folder_of(pid_t pid);
// Empty when it cannot be told.
std::string working_directory_of(pid_t pid);

}  // namespace pangolin
