// Errors of libbpf and the bpf() system call, with what to do about them.
#pragma once

#include <string_view>

#include "loader/base/error.h"

namespace pangolin {

// Sends libbpf's messages to the log (its warnings as debug lines: the caller reports the error that
// matters). May be called any number of times, from any thread.
void collect_libbpf_messages();

// `code` is a positive errno. The hint names the missing capability, limit or kernel feature.
std::unexpected<Error> bpf_failure(int code, std::string_view what);

}  // namespace pangolin
