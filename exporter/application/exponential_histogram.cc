#include "exporter/application/exponential_histogram.h"

#include <algorithm>
#include <cmath>

namespace pangolin {

namespace {

std::vector<double> powers_of_two(int from, int to, int step) {
    std::vector<double> bounds;
    for (int exponent = from; exponent <= to; exponent += step)
        bounds.push_back(std::ldexp(1.0, exponent));
    return bounds;
}

const std::vector<double>& bounds_of(bool seconds) {
    static const std::vector<double> of_seconds = powers_of_two(-13, 8, 1);
    static const std::vector<double> of_others = powers_of_two(-10, 40, 2);
    return seconds ? of_seconds : of_others;
}

}  // namespace

HistogramValue explicit_histogram(const ExponentialHistogram& histogram, bool seconds) {
    HistogramValue value{.bounds = bounds_of(seconds), .buckets = {}, .sum = histogram.sum};
    value.buckets.resize(value.bounds.size() + 1);
    // Zeros, and what is less than that.
    value.buckets.front() = histogram.zero_count;
    for (const std::uint64_t count : histogram.negative.counts)
        value.buckets.front() += count;
    for (std::size_t i = 0; i < histogram.positive.counts.size(); ++i) {
        const double end = static_cast<double>(histogram.positive.offset) + static_cast<double>(i) + 1;
        const double upper = std::exp2(std::ldexp(end, -std::clamp(histogram.scale, -64, 64)));
        const auto bound = std::ranges::lower_bound(value.bounds, upper);
        value.buckets.at(static_cast<std::size_t>(bound - value.bounds.begin())) +=
            histogram.positive.counts[i];
    }
    return value;
}

}  // namespace pangolin
