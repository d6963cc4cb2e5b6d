#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <cstdio>

#include "exporter/commands.h"
#include "loader/pin_root.h"

namespace pangolin {

int detach(const Configuration& configuration) {
    if (configuration.pin_dir.empty()) {
        fmt::print("nothing to detach: metrics.pin_dir is empty\n");
        return exit_success;
    }
    const auto detached = detach_all(configuration.pin_dir);
    if (!detached) {
        spdlog::error("{}", detached.error().message());
        return exit_failure;
    }
    fmt::print("detached {} sets of programs\n", *detached);
    return exit_success;
}

}  // namespace pangolin
