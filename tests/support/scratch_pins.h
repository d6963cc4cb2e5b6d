// A root of pins for one test.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <string_view>

#include "loader/pin_root.h"

namespace pangolin {

// Below the BPF filesystem, under a name that no other test has. Nothing is there until somebody makes it; at
// the end all is detached and removed.
class ScratchPins {
  public:
    explicit ScratchPins(std::string_view name)
        : path_("/sys/fs/bpf/pangolin_exporter_test-" + std::string(name) + "-" +
                std::to_string(::getpid())) {}
    ScratchPins(const ScratchPins&) = delete;
    ScratchPins& operator=(const ScratchPins&) = delete;
    ~ScratchPins() {
        if (::geteuid() == 0) {
            EXPECT_TRUE(detach_all(path_));
        }
    }

    const std::string& path() const { return path_; }

  private:
    std::string path_;
};

}  // namespace pangolin
