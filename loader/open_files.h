// The files that another process has open.
#pragma once

#include <sys/types.h>

#include <set>
#include <vector>

namespace pangolin {

struct OpenFile {
    // As stat() gives them: of a socket the inode is the one in /proc/net/tcp.
    dev_t device = 0;
    ino_t inode = 0;
    mode_t mode = 0;
};

// One entry for each descriptor of process `pid`; none when it is gone or may not be looked at. Where the
// process is another user's and /proc/PID/fd therefore closed, the kernel's own list is read by a BPF program
// (CAP_BPF and CAP_PERFMON, and this process in the first pid namespace). Thread-safe.
std::vector<OpenFile> open_files(pid_t pid);

// The inodes of all sockets that process `pid` has open.
std::set<ino_t> open_sockets(pid_t pid);

}  // namespace pangolin
