// What carries totals over restarts: the state file and the pinned maps that it explains (loader/README.md,
// "What outlives the process").
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "loader/base/error.h"
#include "loader/pin_root.h"
#include "userspace/state/archive.h"
#include "userspace/state/state_file.h"

namespace pangolin {

struct PersistenceOptions {
    // metrics.state_dir and metrics.pin_dir; an empty pin_dir: nothing outlives the process but totals.
    std::string state_dir;
    std::string pin_dir;
};

enum class WriteReason : std::uint8_t {
    // Totals are to be published.
    publishing,
    // Something comes into use or is destroyed: without this state the pinned maps cannot be understood.
    change,
    // The process ends.
    end,
};

// Holds both folders locked against other exporters. Not thread-safe.
class Persistence {
  public:
    // Fails when another exporter uses one of the folders. What else is not possible is logged and left out:
    // without a state file nothing is pinned.
    static Result<std::unique_ptr<Persistence>> open(const PersistenceOptions& options);

    // As it was configured; empty: nothing is pinned.
    const std::string& pin_dir() const { return pin_dir_; }

    // What was written last; none when there is nothing. To be called once, before write().
    std::optional<std::vector<std::uint8_t>> read();
    // Whether the pinned maps are those of what read() returned.
    bool pins_understood() const { return pins_understood_; }
    // What read() returned says that its pins are in `root`: where that is another one than now, they are
    // detached, for nobody will come back to them.
    void leave(const std::string& root) const;

    // Null: nothing is pinned.
    const PinRoot* pins() const { return pins_ ? &*pins_ : nullptr; }

    // Once a minute, and at the end, the disk is waited for. A failure is logged when it begins.
    void write(const ArchiveWriter& state, WriteReason reason);
    // Time for another one although nothing happens.
    bool due() const;

  private:
    Persistence() = default;

    std::string pin_dir_;
    std::optional<StateFile> file_;
    std::optional<PinRoot> pins_;
    bool pins_understood_ = false;
    std::array<std::uint8_t, 16> instance_{};
    std::uint64_t sequence_ = 0;
    std::optional<std::chrono::steady_clock::time_point> on_disk_;
    std::string trouble_;
};

}  // namespace pangolin
