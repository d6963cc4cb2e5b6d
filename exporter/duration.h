// Durations as people write them in configuration files and on command lines.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "loader/base/error.h"

namespace pangolin {

// "500ms", "10s", "1m", "1h", and sums as in "1m30s". The unit is never left out.
Result<std::chrono::milliseconds> parse_duration(std::string_view text);

// As parse_duration(), with an error outside `least` and `greatest`.
Result<std::chrono::milliseconds> parse_duration(std::string_view text, std::chrono::milliseconds least,
                                                 std::chrono::milliseconds greatest);

// The shortest text that parse_duration() reads as `duration`: "90s" is "1m30s".
std::string format_duration(std::chrono::milliseconds duration);

}  // namespace pangolin
