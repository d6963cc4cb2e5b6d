// The system calls of a confined process.
#pragma once

#include "loader/base/error.h"

namespace pangolin {

// Loads the filter for all threads of this process, and those to come, for good. Needs no_new_privs or
// CAP_SYS_ADMIN. Other system calls than those in the list fail with EPERM, and not by a signal: a library
// that tries something unusual gets an answer that it can deal with.
Result<void> load_system_call_filter();

}  // namespace pangolin
