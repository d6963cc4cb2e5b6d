// Why a sample of an application is not published.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string_view>

namespace pangolin {

// The label `reason` of pangolin_exporter_application_samples_rejected_total.
enum class Rejection : std::uint8_t {
    // The exporter measures the family itself, and metrics.application.prefer does not name it.
    owned_by_exporter,
    // Another type than the catalogue, or those who came first, say.
    type_mismatch,
    // A label that the catalogue does not list for the family.
    label_mismatch,
    // No name that Prometheus accepts.
    invalid_name,
    // A label twice, le or quantile as a label, a name that Prometheus does not accept, or beyond the limits.
    invalid_label,
    // No finite sum of a counter, bounds that do not increase, a negative counter.
    invalid_value,
    // Its sample or TYPE lines would be taken for another family's.
    name_collision,
    // Another source has the series already.
    duplicate_series,
    // A point from before the last one of its stream.
    out_of_order,
    // Other bounds than those that the series' other writers have.
    bucket_mismatch,
    // Too many series or families.
    series_limit,
    // Kinds of data that have no form here.
    unsupported,
};
inline constexpr std::size_t rejections = 12;

std::string_view to_string(Rejection rejection);

// What became of a number of samples.
struct ApplicationOutcome {
    std::uint64_t accepted = 0;
    std::array<std::uint64_t, rejections> by_reason{};

    void reject(Rejection reason, std::uint64_t samples = 1) {
        by_reason.at(static_cast<std::size_t>(reason)) += samples;
    }
    std::uint64_t rejected(Rejection reason) const { return by_reason.at(static_cast<std::size_t>(reason)); }
    std::uint64_t rejected() const {
        return std::accumulate(by_reason.begin(), by_reason.end(), std::uint64_t{0});
    }
};

}  // namespace pangolin
