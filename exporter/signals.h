// Ending on SIGINT and SIGTERM.
#pragma once

#include <chrono>

namespace pangolin {

// Blocks both signals in the calling thread and in those that it starts later; make it before any thread.
class TerminationSignals {
  public:
    TerminationSignals();

    // Returns when one of them has come.
    void wait() const;
    // As wait() but for at most `time`; true when a signal has come.
    bool wait_for(std::chrono::milliseconds time) const;
};

}  // namespace pangolin
