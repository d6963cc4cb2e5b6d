// Files as another process sees them, without leaving that process's root.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "loader/base/unique_fd.h"

namespace pangolin {

// The root and the working directory of a process, which may be a container's.
class ProcessFiles {
  public:
    explicit ProcessFiles(pid_t pid);

    // `path` is absolute, or relative to the process's working directory. Symbolic links, also absolute ones
    // and "..", stay below the process's root: what a container links to is its own file or none
    // (openat2(2), RESOLVE_IN_ROOT; Linux 5.6). Empty or false when there is no such file.
    std::string read(const std::string& path, std::size_t limit) const;
    bool exists(const std::string& path) const;
    // The names in a folder, in no order; `found` tells an empty one from none.
    std::vector<std::string> list(const std::string& path, bool& found) const;

  private:
    UniqueFd open(const std::string& path, int flags) const;

    UniqueFd root_;
    std::string working_directory_;
};

}  // namespace pangolin
