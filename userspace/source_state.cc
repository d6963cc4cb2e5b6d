#include "userspace/source_state.h"

#include <spdlog/spdlog.h>

namespace pangolin {

void SourceState::succeeded() {
    if (known_ && !up_)
        spdlog::info("{}: working again", name_);
    known_ = true;
    up_ = true;
    error_.clear();
}

void SourceState::failed(const Error& error) {
    if (const std::string message = error.message(); !known_ || up_ || message != error_)
        spdlog::warn("{}: {}", name_, message);
    failed_with(error);
}

void SourceState::failed_with(const Error& error) {
    known_ = true;
    up_ = false;
    error_ = error.message();
}

void SourceState::idle() {
    known_ = false;
    up_ = false;
    error_.clear();
}

}  // namespace pangolin
