// The program's log: standard error, one line an event.
#pragma once

#include <string_view>

#include "exporter/command_line.h"

namespace pangolin {

// Sets up spdlog's default logger. `logfmt` writes ts=... level=... msg="...", `json` an object a line, as
// Prometheus' own programs do.
void start_logging(LogLevel level, LogFormat format);

// Logs `message` as information, whatever the level that was asked for.
void log_always(std::string_view message);

}  // namespace pangolin
