// Giving up what the broker will not need.
#pragma once

namespace pangolin::broker {

// For good: no capability but CAP_SYS_PTRACE, no new privileges by execve(), and of the system calls fewer
// than 20: no socket, no memory, no thread, no file opened to be written. Null, or what failed, with errno.
const char* confine();

}  // namespace pangolin::broker
