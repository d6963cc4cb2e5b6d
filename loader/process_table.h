// The few things that /proc says of processes and that the loader needs.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pangolin {

// All processes, lowest number first; empty when /proc is not mounted.
std::vector<pid_t> list_processes();

// Where this process can read the file NAME of a process, if everybody may: "/proc/PID/NAME", or the same
// below the process broker's folder (loader/process_access.h).
std::string process_path(pid_t pid, const char* name);

// "/proc/PID/NAME", as people and the state file know it.
std::string link_of_process(pid_t pid, const char* name);

// What such a link consists of; none of another path.
struct ProcessLink {
    pid_t pid = 0;
    // "ns/net", "root/etc/hosts"
    std::string name;
};
std::optional<ProcessLink> parse_process_link(std::string_view path);

// The program's short name, empty when the process is gone.
std::string process_name(pid_t pid);

// Clock ticks from boot to the start of the process. With it a pid is the same process, or is not.
std::optional<std::uint64_t> process_start_time(pid_t pid);

}  // namespace pangolin
