// How long one kind of database was waited for, over the ends of processes and maps.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "userspace/keeping.h"
#include "userspace/state/wait_state.h"

namespace pangolin {

// Not thread-safe.
class WaitAccount {
  public:
    // `programs`: the name of their pins.
    explicit WaitAccount(std::string programs) : kept_(std::move(programs)) {}

    // What another process has written down; before start() or end().
    void restore(const WaitState& state);
    // The maps that it counted in are gone, or cannot be understood: the total goes on without them.
    void forget_pins();
    // To be written down at any moment between two calls of this class, and in write_state().
    WaitState state() const;

    // As KeptPrograms has them; `read_last(const PinFolder&)` gives the WaitCounts of maps that are pinned
    // there, if there are any.
    template <class Program, class Load, class ReadLast>
    Result<Program> start(const MonitorKeeping& keeping, Load load, ReadLast read_last) {
        return kept_.start<Program>(
            keeping, load, [&](const PinFolder& pins) { credit_last(read_last(pins)); },
            [this] { restart(); });
    }
    template <class ReadLast>
    void end(const MonitorKeeping& keeping, ReadLast read_last) {
        kept_.end(
            keeping, [&](const PinFolder& pins) { credit_last(read_last(pins)); }, [this] { restart(); });
    }

    // Adds what the kernel's counts have grown by since the last time. Those that are less could not be read.
    void credit(const WaitCounts& now);
    // The kernel's counts begin anew at zero.
    void restart() { credited_ = {}; }
    const WaitCounts& total() const { return total_; }

  private:
    void credit_last(const std::optional<WaitCounts>& last);

    KeptPrograms kept_;
    WaitCounts total_;
    WaitCounts credited_;
};

}  // namespace pangolin
