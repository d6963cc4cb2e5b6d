// What a series of MetricsService is kept in: numbers that many threads add to without waiting for each
// other.
#pragma once

#include <atomic>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "exporter/application/application_series.h"

namespace pangolin {

// A sum in fixed point: whole units, and a fraction in 2^-48. std::atomic<double> adds in a loop that can
// starve; this is one fetch_add for integers and two or three for others. A cell has a cache line of its own.
class alignas(64) FixedPointCell {
  public:
    void add(std::integral auto amount) { whole_.fetch_add(static_cast<std::int64_t>(amount), relaxed); }

    // Beyond +-2^62, or no number: left out.
    void add(std::floating_point auto amount) {
        if (!(std::abs(amount) < greatest))
            return;
        const auto floor = std::floor(amount);
        if (floor != 0)
            whole_.fetch_add(static_cast<std::int64_t>(floor), relaxed);
        add_fraction(static_cast<std::uint64_t>(std::llround(static_cast<double>(amount - floor) * one)));
    }

    double value() const {
        for (;;) {
            const std::uint32_t carries = carries_.load(std::memory_order_acquire);
            const std::uint64_t fraction = fraction_.load(std::memory_order_acquire);
            const std::int64_t whole = whole_.load(std::memory_order_acquire);
            if (carries % 2 == 0 && carries_.load(std::memory_order_acquire) == carries)
                return decimal(static_cast<double>(whole) + static_cast<double>(fraction) / one);
        }
    }

  private:
    static constexpr auto relaxed = std::memory_order_relaxed;
    static constexpr unsigned fraction_bits = 48;
    static constexpr double one = std::uint64_t{1} << fraction_bits;
    static constexpr double greatest = 4611686018427387904.0;
    static constexpr std::uint64_t carry = std::uint64_t{1} << 63;

    // 0.05 for the nearest that a fraction of 48 bits has to it.
    static double decimal(double sum) {
        constexpr double digits = 1e12;
        constexpr double exact = 1e3;
        return std::abs(sum) < exact ? std::round(sum * digits) / digits : sum;
    }

    // The one thread whose addition makes the fraction pass 2^15 units moves them to the whole.
    void add_fraction(std::uint64_t fraction) {
        if (fraction == 0)
            return;
        const std::uint64_t before = fraction_.fetch_add(fraction, relaxed);
        if (before < carry && before + fraction >= carry) {
            carries_.fetch_add(1, std::memory_order_acq_rel);
            fraction_.fetch_sub(carry, std::memory_order_acq_rel);
            whole_.fetch_add(static_cast<std::int64_t>(carry >> fraction_bits), std::memory_order_acq_rel);
            carries_.fetch_add(1, std::memory_order_acq_rel);
        }
    }

    std::atomic<std::int64_t> whole_ = 0;
    std::atomic<std::uint64_t> fraction_ = 0;
    // Odd while fractions are on their way.
    std::atomic<std::uint32_t> carries_ = 0;
};

class GaugeCell {
  public:
    void set(double value) {
        value_.store(value, std::memory_order_relaxed);
        set_.store(true, std::memory_order_release);
    }
    // A gauge that was looked up and never set is not published.
    bool is_set() const { return set_.load(std::memory_order_acquire); }
    double value() const { return value_.load(std::memory_order_relaxed); }

  private:
    std::atomic<double> value_ = 0;
    std::atomic<bool> set_ = false;
};

class HistogramCell {
  public:
    // `bounds` must outlive it.
    explicit HistogramCell(std::span<const double> bounds)
        : bounds_(bounds), buckets_(std::make_unique<std::atomic<std::uint64_t>[]>(bounds.size() + 1)) {}

    void record(double value) {
        if (!std::isfinite(value))
            return;
        std::size_t bucket = 0;
        while (bucket < bounds_.size() && value > bounds_[bucket])
            ++bucket;
        sum_.add(value);
        buckets_[bucket].fetch_add(1, std::memory_order_release);
    }

    HistogramValue value() const {
        HistogramValue value{.bounds = {bounds_.begin(), bounds_.end()}, .buckets = {}, .sum = 0};
        for (std::size_t i = 0; i <= bounds_.size(); ++i)
            value.buckets.push_back(buckets_[i].load(std::memory_order_acquire));
        value.sum = sum_.value();
        return value;
    }

  private:
    std::span<const double> bounds_;
    std::unique_ptr<std::atomic<std::uint64_t>[]> buckets_;
    FixedPointCell sum_;
};

}  // namespace pangolin
