// The program's log: standard error, one line an event.
#pragma once

#include "exporter/command_line.h"

namespace pangolin {

// Sets up spdlog's default logger. `logfmt` writes ts=... level=... msg="...", `json` an object a line, as
// Prometheus' own programs do.
void start_logging(LogLevel level, LogFormat format);

}  // namespace pangolin
