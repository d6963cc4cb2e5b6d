// Observed latencies, by the buckets that the kernel side fills as well.
#pragma once

#include <cstdint>
#include <memory>

#include "bpf/shared/latency.h"

namespace pangolin {

// Takes memory with the first observation only: of thousands of sites, few have all that could be observed.
class Latency {
  public:
    Latency() = default;
    Latency(const Latency& other)
        : histogram_(other.empty() ? nullptr : std::make_unique<latency_histogram>(*other.histogram_)) {}
    Latency& operator=(const Latency& other) {
        *this = Latency(other);
        return *this;
    }
    Latency(Latency&&) noexcept = default;
    Latency& operator=(Latency&&) noexcept = default;
    ~Latency() = default;

    bool empty() const { return histogram_ == nullptr; }
    // Counts by bucket, not cumulated, and their sum in microseconds. Not while it is empty.
    const latency_histogram& histogram() const { return *histogram_; }
    void set(const latency_histogram& histogram) { mutable_histogram() = histogram; }

    void observe(std::uint64_t microseconds);
    // Adds what came to a histogram between two readings of it.
    void add_growth(const latency_histogram& now, const latency_histogram& before);
    // Observations so far.
    std::uint64_t count() const;

  private:
    latency_histogram& mutable_histogram();

    std::unique_ptr<latency_histogram> histogram_;
};

}  // namespace pangolin
