// Tests that need the kernel's permission.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

namespace pangolin::test {

inline bool continuous_integration() {
    const char* const value = std::getenv("CI");
    return value != nullptr && std::string_view(value) == "true";
}

}  // namespace pangolin::test

// Skips the test on a machine without root; with CI=true that is a failure, because a green run must mean
// that the privileged tests ran.
#define PANGOLIN_REQUIRE_ROOT()                                     \
    do {                                                            \
        if (::geteuid() != 0) {                                     \
            if (pangolin::test::continuous_integration())           \
                FAIL() << "needs root, and CI=true allows no skip"; \
            GTEST_SKIP() << "needs root to load BPF programs";      \
        }                                                           \
    } while (false)
