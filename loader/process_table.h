// The few things that /proc says of processes and that the loader needs.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace pangolin {

// All processes, lowest number first; empty when /proc is not mounted.
std::vector<pid_t> list_processes();

// "/proc/PID/NAME".
std::string process_path(pid_t pid, const char* name);

// The program's short name, empty when the process is gone.
std::string process_name(pid_t pid);

// Clock ticks from boot to the start of the process. With it a pid is the same process, or is not.
std::optional<std::uint64_t> process_start_time(pid_t pid);

}  // namespace pangolin
