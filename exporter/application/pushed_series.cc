#include "exporter/application/pushed_series.h"

#include <algorithm>
#include <utility>

namespace pangolin {

namespace {

// Writers of one series that are told apart; the oldest beyond them is past.
constexpr std::size_t max_streams = 8;

// `to` and `value` are of one kind, with the same bounds.
void add_to(ApplicationValue& to, const ApplicationValue& value) {
    if (auto* const number = std::get_if<double>(&to)) {
        *number += std::get<double>(value);
    } else if (auto* const histogram = std::get_if<HistogramValue>(&to)) {
        const auto& more = std::get<HistogramValue>(value);
        for (std::size_t i = 0; i < histogram->buckets.size(); ++i)
            histogram->buckets[i] += more.buckets[i];
        histogram->sum += more.sum;
    }
}

bool same_bounds(const ApplicationValue& a, const ApplicationValue& b) {
    const auto* const first = std::get_if<HistogramValue>(&a);
    const auto* const second = std::get_if<HistogramValue>(&b);
    return !first || !second || first->bounds == second->bounds;
}

bool decreased(const ApplicationValue& before, const ApplicationValue& after) {
    if (const auto* const number = std::get_if<double>(&before))
        return std::get<double>(after) < *number;
    const auto* const histogram = std::get_if<HistogramValue>(&before);
    if (!histogram)
        return false;
    const auto& later = std::get<HistogramValue>(after);
    return histogram->bounds != later.bounds || later.count() < histogram->count();
}

}  // namespace

std::optional<Rejection> PushedSeries::add(PushedPoint point, Clock::time_point now) {
    additive_ = point.temporality != Temporality::instant;
    monotonic_ = point.monotonic;
    auto stream = std::ranges::find(streams_, point.stream, &Stream::id);
    if (stream != streams_.end()) {
        if (const auto rejection = update(*stream, std::move(point)))
            return rejection;
    } else {
        if (!fits(point.value))
            return Rejection::bucket_mismatch;
        streams_.push_back({.id = point.stream,
                            .start_time = point.start_time,
                            .time = point.time,
                            .value = std::move(point.value),
                            .updated = now});
        stream = std::prev(streams_.end());
    }
    stream->updated = now;
    updated_ = now;
    if (streams_.size() > max_streams)
        fold_oldest();
    return std::nullopt;
}

std::size_t PushedSeries::streams_with(std::uint64_t stream) const {
    const bool known = std::ranges::find(streams_, stream, &Stream::id) != streams_.end();
    return std::min<std::size_t>(streams_.size() + (known ? 0 : 1), max_streams);
}

std::optional<Rejection> PushedSeries::update(Stream& stream, PushedPoint point) {
    const bool ordered = point.time != 0 && stream.time != 0;
    if (ordered && point.time < stream.time)
        return Rejection::out_of_order;
    if (point.temporality == Temporality::delta) {
        // Parts of it have been counted already.
        if (ordered &&
            (point.time == stream.time || (point.start_time != 0 && point.start_time < stream.time)))
            return Rejection::out_of_order;
        if (!same_bounds(stream.value, point.value))
            return restart(stream, std::move(point));
        add_to(stream.value, point.value);
        stream.time = point.time;
        return std::nullopt;
    }
    // Sent again.
    if (ordered && point.time == stream.time)
        return std::nullopt;
    if (point.temporality == Temporality::cumulative) {
        const bool started = point.start_time != 0 && stream.start_time != 0;
        if (started && point.start_time < stream.start_time)
            return Rejection::out_of_order;
        if ((started && point.start_time > stream.start_time) ||
            (point.monotonic && decreased(stream.value, point.value)))
            return restart(stream, std::move(point));
    }
    stream.time = point.time;
    stream.value = std::move(point.value);
    return std::nullopt;
}

// What it counted until now stays counted, unless it comes back with other bounds: then its series begins
// anew, which is only possible where it is its alone.
std::optional<Rejection> PushedSeries::restart(Stream& stream, PushedPoint point) {
    if (!same_bounds(stream.value, point.value)) {
        if (streams_.size() > 1)
            return Rejection::bucket_mismatch;
        past_.reset();
    } else if (point.monotonic) {
        if (past_)
            add_to(*past_, stream.value);
        else
            past_ = stream.value;
    }
    stream.start_time = point.start_time;
    stream.time = point.time;
    stream.value = std::move(point.value);
    return std::nullopt;
}

bool PushedSeries::fits(const ApplicationValue& value) const {
    return (!past_ || same_bounds(*past_, value)) &&
           (streams_.empty() || same_bounds(streams_.front().value, value));
}

void PushedSeries::fold_oldest() {
    const auto oldest = std::ranges::min_element(streams_, {}, &Stream::updated);
    if (monotonic_) {
        if (past_)
            add_to(*past_, oldest->value);
        else
            past_ = std::move(oldest->value);
    }
    streams_.erase(oldest);
}

ApplicationValue PushedSeries::value(Clock::time_point now, Clock::duration max_age) const {
    if (!additive_)
        return std::ranges::max_element(streams_, {}, &Stream::updated)->value;
    std::optional<ApplicationValue> sum = past_;
    for (const Stream& stream : streams_) {
        if (!monotonic_ && now - stream.updated > max_age)
            continue;
        if (sum)
            add_to(*sum, stream.value);
        else
            sum = stream.value;
    }
    return sum.value_or(0.0);
}

}  // namespace pangolin
