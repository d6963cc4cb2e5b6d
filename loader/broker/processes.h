// What the broker knows of processes: the only code that uses its privilege.
#pragma once

#include <sys/types.h>

#include <span>

#include "loader/base/unique_fd.h"
#include "loader/broker/protocol.h"

namespace pangolin::broker {

// Every function answers as a system call does: 0 or more, or -1 with errno.
class Processes {
  public:
    // `folder` is /proc, opened with O_PATH.
    explicit Processes(UniqueFd folder) : folder_(std::move(folder)) {}

    int folder() const { return folder_.get(); }
    int open_network_namespace(pid_t pid) const;
    int open_root_folder(pid_t pid) const;
    // The length of the path.
    ssize_t working_directory(pid_t pid, std::span<char> path) const;
    // Fills `entries` with the processes from `first` on and says how many they are; `more` when not all fit.
    // `link` is "ns/net" or "ns/mnt". Processes that end meanwhile are left out.
    ssize_t list_namespaces(const char* link, pid_t first, std::span<NamespaceEntry> entries,
                            bool& more) const;

  private:
    UniqueFd folder_;
};

}  // namespace pangolin::broker
