#include "userspace/site_health.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace pangolin {
namespace {

TEST(LatencyBuckets, AreFoundAsALinearSearchFindsThem) {
    const auto by_search = [](std::uint64_t microseconds) {
        const auto* const bound = std::ranges::find_if(
            latency_bounds_us, [&](std::uint64_t upper) { return microseconds <= upper; });
        return static_cast<std::uint32_t>(bound - std::begin(latency_bounds_us));
    };
    for (const std::uint64_t bound : latency_bounds_us) {
        for (const std::uint64_t value : {bound - 1, bound, bound + 1})
            EXPECT_EQ(latency_bucket(value), by_search(value)) << value;
    }
    for (const std::uint64_t value : {std::uint64_t{0}, std::uint64_t{1}, ~std::uint64_t{0}})
        EXPECT_EQ(latency_bucket(value), by_search(value)) << value;
}

TEST(LatencyBuckets, TheirMiddleIsNearWhateverFellIntoThem) {
    for (std::uint64_t value = 1'001; value <= 1'000'000; value += 97) {
        const std::uint32_t bucket = latency_bucket(value);
        const double low = bucket == 0 ? 0 : latency_bounds_us[bucket - 1];
        const double middle = (low + latency_bounds_us[bucket]) / 2;
        EXPECT_NEAR(middle, static_cast<double>(value), 0.1 * static_cast<double>(value) + 1) << value;
    }
}

TEST(Latency, AddsObservationsAndGrowth) {
    Latency before;
    EXPECT_TRUE(before.empty());
    before.observe(300);
    Latency now = before;
    now.observe(300);
    now.observe(70'000'000);
    EXPECT_EQ(before.count(), 1U) << "a copy is another one";
    Latency sum;
    sum.add_growth(now.histogram(), now.histogram());
    EXPECT_TRUE(sum.empty());
    sum.add_growth(now.histogram(), before.histogram());
    EXPECT_EQ(sum.count(), 2U);
    EXPECT_EQ(sum.histogram().bucket[latency_bucket(300)], 1U);
    EXPECT_EQ(sum.histogram().bucket[LATENCY_BUCKETS - 1], 1U);
    EXPECT_EQ(sum.histogram().sum_us, 70'000'300U);
    latency_histogram later = now.histogram();
    later.sum_us += 5;
    sum.add_growth(later, now.histogram());
    EXPECT_EQ(sum.histogram().sum_us, 70'000'305U) << "the sum came after the bucket";
}

TEST(SiteHealth, KeepsDropsByDirectionAndReason) {
    SiteHealth health;
    health.add_drops(TRAFFIC_EGRESS, "netfilter_drop", 3);
    health.add_drops(TRAFFIC_INGRESS, "netfilter_drop", 1);
    health.add_drops(TRAFFIC_EGRESS, "netfilter_drop", 4);
    ASSERT_EQ(health.packet_drops.size(), 2U);
    EXPECT_EQ(health.packet_drops[0].packets, 7U);
    EXPECT_EQ(health.packet_drops[1].packets, 1U);
}

}  // namespace
}  // namespace pangolin
