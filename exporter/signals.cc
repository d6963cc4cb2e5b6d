#include "exporter/signals.h"

#include <csignal>
#include <ctime>

namespace pangolin {
namespace {

sigset_t termination_signals() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    return signals;
}

}  // namespace

TerminationSignals::TerminationSignals() {
    const sigset_t signals = termination_signals();
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

void TerminationSignals::wait() const {
    const sigset_t signals = termination_signals();
    while (sigwaitinfo(&signals, nullptr) < 0) {
    }
}

bool TerminationSignals::wait_for(std::chrono::milliseconds time) const {
    const sigset_t signals = termination_signals();
    const timespec timeout{.tv_sec = time.count() / 1000, .tv_nsec = time.count() % 1000 * 1'000'000};
    return sigtimedwait(&signals, nullptr, &timeout) > 0;
}

}  // namespace pangolin
