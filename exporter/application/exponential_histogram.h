// OpenTelemetry's exponential histograms with explicit bounds.
#pragma once

#include <cstdint>
#include <span>

#include "exporter/application/application_series.h"

namespace pangolin {

// Buckets of an exponential histogram, by index from `offset` on. Index i is of what is greater than
// base^i and at most base^(i+1), base being 2^(2^-scale) (OpenTelemetry data model, "ExponentialHistogram").
struct ExponentialBuckets {
    std::int32_t offset = 0;
    std::span<const std::uint64_t> counts;
};

struct ExponentialHistogram {
    std::int32_t scale = 0;
    std::uint64_t zero_count = 0;
    ExponentialBuckets positive;
    ExponentialBuckets negative;
    double sum = 0;
};

// The bounds do not depend on the scale, which changes with the data: they are powers of two, where buckets
// of every scale from 0 on end, so that nothing is interpolated. A bucket of a lower scale that holds a bound
// is counted above it. `seconds`: from 0.1 ms to 4 min; others from 2^-10 to 2^40.
HistogramValue explicit_histogram(const ExponentialHistogram& histogram, bool seconds);

}  // namespace pangolin
