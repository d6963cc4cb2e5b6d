// Running a BPF iterator program.
#pragma once

#include <string_view>

#include "loader/base/error.h"

namespace pangolin {

// Runs the program of the link for everything that there is to iterate over, for sockets in the network
// namespace of the calling thread. `what` names that for errors.
Result<void> run_iterator(int link_fd, std::string_view what);

}  // namespace pangolin
