#include "userspace/site_ledger.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace pangolin {
namespace {

using namespace std::chrono_literals;
using TimePoint = std::chrono::steady_clock::time_point;

void poll(SiteLedger& ledger, TimePoint now, bool up) {
    ledger.begin_poll();
    ledger.of("a")->up = up;
    ledger.end_poll(now);
}

TEST(SiteLedger, CountsTimeBetweenTwoPollsThatBothSawTheSiteUp) {
    SiteLedger ledger;
    const TimePoint start{1000s};
    poll(ledger, start, true);
    EXPECT_EQ(ledger.of("a")->uptime_seconds, 0.0) << "nothing is known of the time before";
    poll(ledger, start + 5s, true);
    EXPECT_EQ(ledger.of("a")->uptime_seconds, 5.0);
    poll(ledger, start + 6s, false);
    poll(ledger, start + 16s, true);
    EXPECT_EQ(ledger.of("a")->uptime_seconds, 5.0);
    poll(ledger, start + 18s, true);
    EXPECT_EQ(ledger.of("a")->uptime_seconds, 7.0);
}

TEST(SiteLedger, ASiteThatNoPeerMentionsIsDown) {
    SiteLedger ledger;
    poll(ledger, TimePoint{1s}, true);
    ledger.begin_poll();
    ledger.end_poll(TimePoint{2s});
    EXPECT_FALSE(ledger.of("a")->up);
    EXPECT_EQ(ledger.of("a")->uptime_seconds, 0.0);
}

WireGuardKey key(std::uint8_t number) {
    WireGuardKey result;
    result.bytes.fill(number);
    return result;
}

// One second after the one before; the keys are those of the site's peers that are up.
void poll_with(SiteLedger& ledger, const std::vector<std::uint8_t>& up) {
    static TimePoint now{1s};
    ledger.begin_poll();
    for (const std::uint8_t number : up)
        ledger.of("a")->saw_up(key(number));
    ledger.end_poll(now += 1s);
}

std::array<std::uint64_t, reconnect_reasons> reconnects(SiteLedger& ledger) {
    return ledger.of("a")->health().reconnects;
}

constexpr std::array<std::uint64_t, reconnect_reasons> none{};
constexpr std::array<std::uint64_t, reconnect_reasons> one_key_change{1, 0, 0};
constexpr std::array<std::uint64_t, reconnect_reasons> one_timeout{0, 0, 1};

TEST(SiteLedger, TheFirstConnectionIsNoReconnect) {
    SiteLedger ledger;
    poll_with(ledger, {});
    poll_with(ledger, {1});
    poll_with(ledger, {1});
    EXPECT_EQ(reconnects(ledger), none);
    EXPECT_EQ(ledger.of("a")->health().connection_drops, 0U);
}

TEST(SiteLedger, ComesBackWithTheSameKeyAfterATimeout) {
    SiteLedger ledger;
    poll_with(ledger, {1});
    poll_with(ledger, {});
    EXPECT_EQ(ledger.of("a")->health().connection_drops, 1U);
    poll_with(ledger, {});
    EXPECT_EQ(ledger.of("a")->health().connection_drops, 1U);
    poll_with(ledger, {1});
    EXPECT_EQ(reconnects(ledger), one_timeout);
}

TEST(SiteLedger, AnotherKeyIsAKeyChangeWithOrWithoutAGap) {
    SiteLedger ledger;
    ledger.of("a");
    poll_with(ledger, {1});
    poll_with(ledger, {2});
    EXPECT_EQ(reconnects(ledger), one_key_change);
    EXPECT_EQ(ledger.of("a")->health().connection_drops, 0U);
    poll_with(ledger, {2});
    EXPECT_EQ(reconnects(ledger), one_key_change);
    poll_with(ledger, {});
    poll_with(ledger, {3});
    EXPECT_EQ(reconnects(ledger)[0], 2U);
    EXPECT_EQ(reconnects(ledger)[2], 0U);
}

TEST(SiteLedger, TwoPeersOfASiteAreNoChange) {
    SiteLedger ledger;
    ledger.of("a");
    poll_with(ledger, {1});
    poll_with(ledger, {1, 2});
    poll_with(ledger, {2, 1});
    EXPECT_EQ(reconnects(ledger), none);
}

TEST(SiteLedger, WhatCannotBeReadHasNotGoneDown) {
    SiteLedger ledger;
    ledger.of("a");
    poll_with(ledger, {1});
    ledger.begin_poll();
    ledger.of("a")->unknown = true;
    ledger.end_poll(TimePoint{1000s});
    poll_with(ledger, {1});
    EXPECT_EQ(ledger.of("a")->health().connection_drops, 0U);
    EXPECT_EQ(reconnects(ledger), none);
}

TEST(SiteLedger, SharedHealthDoesNotChangeAnyMore) {
    SiteLedger ledger;
    EXPECT_EQ(ledger.of("a")->share_health(), nullptr);
    ledger.of("a")->health().tcp_retransmits = 1;
    const auto shared = ledger.of("a")->share_health();
    ledger.of("a")->health().tcp_retransmits = 2;
    EXPECT_EQ(shared->tcp_retransmits, 1U);
    EXPECT_EQ(ledger.of("a")->share_health()->tcp_retransmits, 2U);
}

TEST(SiteLedger, KeepsAReadingUntilItIsTaken) {
    SiteLedger ledger;
    WireGuardKey key;
    key.bytes.fill(7);
    EXPECT_FALSE(ledger.take_reading(key));
    ledger.keep_reading(key, {.receive_bytes = 5, .transmit_bytes = 6});
    const auto reading = ledger.take_reading(key);
    ASSERT_TRUE(reading);
    EXPECT_EQ(reading->receive_bytes, 5U);
    EXPECT_EQ(reading->transmit_bytes, 6U);
    EXPECT_FALSE(ledger.take_reading(key)) << "credited twice otherwise";
}

}  // namespace
}  // namespace pangolin
