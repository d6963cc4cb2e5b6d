// Whether a source of data works.
#pragma once

#include <string>
#include <string_view>

#include "loader/base/error.h"
#include "userspace/snapshot.h"

namespace pangolin {

// Remembers the last outcome and logs each change once, not each repetition. Not thread-safe.
class SourceState {
  public:
    explicit SourceState(std::string_view name) : name_(name) {}

    void succeeded();
    void failed(const Error& error);
    // Because another source failed, which has logged why.
    void failed_with(const Error& error);
    // There is nothing to work on: down, but not wrong.
    void idle();

    bool up() const { return up_; }
    const std::string& error() const { return error_; }
    std::string_view name() const { return name_; }
    SourceStatus status() const { return {.name = name_, .up = up_, .error = error_}; }

  private:
    std::string_view name_;
    bool up_ = false;
    bool known_ = false;
    std::string error_;
};

}  // namespace pangolin
