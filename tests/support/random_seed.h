// The seed of a random test: the same in every run unless PANGOLIN_TEST_SEED says otherwise.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <string>

namespace pangolin::test {

inline std::uint64_t random_seed() {
    const char* const value = std::getenv("PANGOLIN_TEST_SEED");
    return value != nullptr ? std::strtoull(value, nullptr, 0) : 0x70616e676f6c696eULL;
}

}  // namespace pangolin::test

// Puts the seed into the message of every failure in the rest of the scope.
#define PANGOLIN_TRACE_SEED() \
    SCOPED_TRACE("PANGOLIN_TEST_SEED=" + std::to_string(::pangolin::test::random_seed()))
