#include "exporter/signals.h"

#include <csignal>
#include <ctime>

namespace pangolin {
namespace {

bool is_ignored(int signal) {
    struct sigaction action{};
    return ::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

}  // namespace

TerminationSignals::TerminationSignals() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    sigaddset(&signals_, SIGTERM);
    // A blocked signal would be waited for although it is ignored.
    if (!is_ignored(SIGHUP))
        sigaddset(&signals_, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
}

void TerminationSignals::wait() const {
    while (sigwaitinfo(&signals_, nullptr) < 0) {
    }
}

bool TerminationSignals::wait_for(std::chrono::milliseconds time) const {
    const timespec timeout{.tv_sec = time.count() / 1000, .tv_nsec = time.count() % 1000 * 1'000'000};
    return sigtimedwait(&signals_, nullptr, &timeout) > 0;
}

}  // namespace pangolin
