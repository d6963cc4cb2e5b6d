#include "userspace/latency.h"

#include <algorithm>
#include <iterator>
#include <numeric>

namespace pangolin {

latency_histogram& Latency::mutable_histogram() {
    if (!histogram_)
        histogram_ = std::make_unique<latency_histogram>();
    return *histogram_;
}

void Latency::observe(std::uint64_t microseconds) {
    latency_histogram& histogram = mutable_histogram();
    ++histogram.bucket[latency_bucket(microseconds)];
    histogram.sum_us += microseconds;
}

void Latency::add_growth(const latency_histogram& now, const latency_histogram& before) {
    // The kernel adds to a bucket and then to the sum: a reading may fall between the two.
    if (now.sum_us == before.sum_us && std::ranges::equal(now.bucket, before.bucket))
        return;
    latency_histogram& histogram = mutable_histogram();
    for (int bucket = 0; bucket < LATENCY_BUCKETS; ++bucket)
        histogram.bucket[bucket] += now.bucket[bucket] - before.bucket[bucket];
    histogram.sum_us += now.sum_us - before.sum_us;
}

std::uint64_t Latency::count() const {
    if (empty())
        return 0;
    return std::accumulate(std::begin(histogram_->bucket), std::end(histogram_->bucket), std::uint64_t{0});
}

}  // namespace pangolin
