// Waits for one kind of database in the state file.
#pragma once

#include <cstdint>
#include <string>

#include "userspace/state/archive.h"

namespace pangolin {

struct WaitCounts {
    std::uint64_t waited_ns = 0;
    // What could not be told: what found no room, and connections that are encrypted.
    std::uint64_t full = 0;
    std::uint64_t encrypted = 0;

    bool operator==(const WaitCounts&) const = default;
};

struct WaitState {
    // In the root of pins.
    std::string pins;
    WaitCounts total;
    // How much of what the maps there say is in the total.
    WaitCounts credited;
};

template <class Archive>
void fields(Archive& archive, WaitState& state) {
    archive(state.pins, state.total, state.credited);
}

}  // namespace pangolin
