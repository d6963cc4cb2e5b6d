// Ending on SIGINT, SIGTERM and SIGHUP (a terminal that was closed).
#pragma once

#include <chrono>
#include <csignal>

namespace pangolin {

// Blocks the signals in the calling thread and in those that it starts later; make it before any thread.
// Where SIGHUP is ignored, as by nohup, it stays so.
class TerminationSignals {
  public:
    TerminationSignals();

    // Returns when one of them has come.
    void wait() const;
    // As wait() but for at most `time`; true when a signal has come.
    bool wait_for(std::chrono::milliseconds time) const;

  private:
    sigset_t signals_{};
};

}  // namespace pangolin
