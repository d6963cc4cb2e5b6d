#include "userspace/site_health.h"

#include <algorithm>
#include <numeric>

namespace pangolin {

void SiteHealth::add_drops(traffic_direction direction, std::string_view reason, std::uint64_t packets) {
    const auto same = std::ranges::find_if(packet_drops, [&](const PacketDrops& drops) {
        return drops.direction == direction && drops.reason == reason;
    });
    if (same != packet_drops.end())
        same->packets += packets;
    else
        packet_drops.push_back({direction, std::string(reason), packets});
}

void observe(latency_histogram& histogram, std::uint64_t microseconds) {
    ++histogram.bucket[latency_bucket(microseconds)];
    histogram.sum_us += microseconds;
}

void add_growth(latency_histogram& sum, const latency_histogram& now, const latency_histogram& before) {
    for (int bucket = 0; bucket < LATENCY_BUCKETS; ++bucket)
        sum.bucket[bucket] += now.bucket[bucket] - before.bucket[bucket];
    sum.sum_us += now.sum_us - before.sum_us;
}

std::uint64_t observations(const latency_histogram& histogram) {
    return std::accumulate(std::begin(histogram.bucket), std::end(histogram.bucket), std::uint64_t{0});
}

}  // namespace pangolin
