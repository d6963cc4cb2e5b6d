// Compressed bodies of requests.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "loader/base/error.h"

namespace pangolin {

// Unpacks gzip (RFC 1952, several members included). Fails with the code E2BIG as soon as the result would be
// longer than `limit`, whatever is left of the input.
Result<std::string> gunzip(std::string_view packed, std::size_t limit);

}  // namespace pangolin
