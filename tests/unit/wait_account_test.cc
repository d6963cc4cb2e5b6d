#include "userspace/host/wait_account.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/support/random_seed.h"

namespace pangolin {
namespace {

WaitCounts counts(std::uint64_t waited, std::uint64_t full = 0, std::uint64_t encrypted = 0) {
    return {.waited_ns = waited, .full = full, .encrypted = encrypted};
}

TEST(WaitAccount, AddsWhatGrew) {
    WaitAccount account("waits");
    account.credit(counts(100, 1, 2));
    account.credit(counts(100, 1, 2));
    account.credit(counts(150, 4, 2));
    EXPECT_EQ(account.total(), counts(150, 4, 2));
}

TEST(WaitAccount, WhatCannotBeReadTakesNothingAway) {
    WaitAccount account("waits");
    account.credit(counts(100, 5, 5));
    account.credit({});
    EXPECT_EQ(account.total(), counts(100, 5, 5));
    account.credit(counts(110, 5, 6));
    EXPECT_EQ(account.total(), counts(110, 5, 6));
}

TEST(WaitAccount, GoesOnInOtherMaps) {
    WaitAccount account("waits");
    account.credit(counts(100, 1, 1));
    account.restart();
    account.credit(counts(30, 1, 0));
    EXPECT_EQ(account.total(), counts(130, 2, 1));
}

// The maps are gone, their counts are in the total as far as they were written down.
TEST(WaitAccount, GoesOnAfterTheMachineWasRestarted) {
    WaitAccount before("waits");
    before.credit(counts(100, 1, 1));
    WaitAccount after("waits");
    after.restore(before.state());
    after.forget_pins();
    EXPECT_EQ(after.state().pins, "");
    after.credit(counts(7, 0, 1));
    EXPECT_EQ(after.total(), counts(107, 1, 2));
}

// The kernel counts all the time; a process reads, publishes what it has written down, and is killed anywhere
// in between.
TEST(WaitAccount, CountsOnceWhereverTheProcessIsKilled) {
    PANGOLIN_TRACE_SEED();
    std::mt19937_64 random(test::random_seed());
    for (int round = 0; round < 200; ++round) {
        WaitCounts kernel;
        WaitState file;
        std::uint64_t published = 0;
        WaitAccount account("waits");
        for (int step = 0; step < 200; ++step) {
            switch (random() % 5) {
                case 0:
                    kernel.waited_ns += random() % 1000;
                    ++kernel.full;
                    break;
                case 1:
                    account.credit(kernel);
                    break;
                case 2:
                    file = account.state();
                    break;
                case 3:
                    account.credit(kernel);
                    file = account.state();
                    EXPECT_GE(account.total().waited_ns, published);
                    published = account.total().waited_ns;
                    break;
                default:
                    account = WaitAccount("waits");
                    account.restore(file);
            }
        }
        account.credit(kernel);
        EXPECT_EQ(account.total(), kernel);
    }
}

}  // namespace
}  // namespace pangolin
