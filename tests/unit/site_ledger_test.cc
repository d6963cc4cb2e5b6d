#include "userspace/site_ledger.h"

#include <gtest/gtest.h>

namespace pangolin {
namespace {

using namespace std::chrono_literals;
using TimePoint = std::chrono::steady_clock::time_point;

void poll(SiteLedger& ledger, TimePoint now, bool up) {
    ledger.begin_poll();
    ledger.of("a").up = up;
    ledger.end_poll(now);
}

TEST(SiteLedger, CountsTimeBetweenTwoPollsThatBothSawTheSiteUp) {
    SiteLedger ledger;
    const TimePoint start{1000s};
    poll(ledger, start, true);
    EXPECT_EQ(ledger.of("a").uptime_seconds, 0.0) << "nothing is known of the time before";
    poll(ledger, start + 5s, true);
    EXPECT_EQ(ledger.of("a").uptime_seconds, 5.0);
    poll(ledger, start + 6s, false);
    poll(ledger, start + 16s, true);
    EXPECT_EQ(ledger.of("a").uptime_seconds, 5.0);
    poll(ledger, start + 18s, true);
    EXPECT_EQ(ledger.of("a").uptime_seconds, 7.0);
}

TEST(SiteLedger, ASiteThatNoPeerMentionsIsDown) {
    SiteLedger ledger;
    poll(ledger, TimePoint{1s}, true);
    ledger.begin_poll();
    ledger.end_poll(TimePoint{2s});
    EXPECT_FALSE(ledger.of("a").up);
    EXPECT_EQ(ledger.of("a").uptime_seconds, 0.0);
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

TEST(SiteLedger, ReferencesStayValid) {
    SiteLedger ledger;
    SiteAccount& first = ledger.of("a");
    for (int i = 0; i < 1000; ++i)
        ledger.of("site-" + std::to_string(i));
    EXPECT_EQ(&ledger.of("a"), &first);
}

}  // namespace
}  // namespace pangolin
