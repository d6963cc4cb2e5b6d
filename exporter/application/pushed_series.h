// A series that is told by points: cumulative or delta, from one writer or several.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include "exporter/application/application_series.h"
#include "exporter/application/rejection.h"

namespace pangolin {

enum class Temporality : std::uint8_t {
    // The value now: gauges, summaries.
    instant,
    // Since the stream's start.
    cumulative,
    // Since the stream's last point.
    delta,
};

struct PushedPoint {
    Labels labels;
    ApplicationValue value;
    // Who wrote it: a hash of resource and scope. Points of one stream follow each other in time.
    std::uint64_t stream = 0;
    Temporality temporality = Temporality::instant;
    // Never decreases but by a restart of the application.
    bool monotonic = false;
    // Unix nanoseconds; 0: not known.
    std::uint64_t start_time = 0;
    std::uint64_t time = 0;
};

// What the points of all streams come to. Sums and histograms of several streams are added; of a gauge the
// latest counts. A restarted application goes on where it ended, so that a counter never decreases.
//
// The streams' state follows OpenTelemetry's data model ("Resets and gaps", "Sums: delta-to-cumulative").
class PushedSeries {
  public:
    using Clock = std::chrono::steady_clock;

    // Null: taken. The value is of the same kind in all points.
    std::optional<Rejection> add(PushedPoint point, Clock::time_point now);

    // Streams that there are once a point of `stream` has been added.
    std::size_t streams_with(std::uint64_t stream) const;

    ApplicationValue value(Clock::time_point now, Clock::duration max_age) const;
    // Of the last point.
    Clock::time_point updated() const { return updated_; }
    // Its past matters when it comes back: a counter would otherwise begin again.
    bool has_past() const { return monotonic_; }

  private:
    struct Stream {
        std::uint64_t id = 0;
        std::uint64_t start_time = 0;
        std::uint64_t time = 0;
        ApplicationValue value;
        Clock::time_point updated;
    };

    std::optional<Rejection> update(Stream& stream, PushedPoint point);
    std::optional<Rejection> restart(Stream& stream, PushedPoint point);
    bool fits(const ApplicationValue& value) const;
    void fold_oldest();

    // What restarted and forgotten streams came to.
    std::optional<ApplicationValue> past_;
    std::vector<Stream> streams_;
    Clock::time_point updated_{};
    bool additive_ = false;
    bool monotonic_ = false;
};

}  // namespace pangolin
