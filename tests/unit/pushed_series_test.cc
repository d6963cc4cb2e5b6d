#include "exporter/application/pushed_series.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace pangolin {
namespace {

using namespace std::chrono_literals;
using Clock = PushedSeries::Clock;

constexpr auto minute = Clock::duration(1min);

struct Step {
    std::uint64_t stream;
    Temporality temporality;
    bool monotonic;
    std::uint64_t start;
    std::uint64_t time;
    double value;
    // What is published then, and why the point was refused, if it was.
    double total;
    std::optional<Rejection> rejection = std::nullopt;
    Clock::duration later = {};
};

constexpr auto cumulative = Temporality::cumulative;
constexpr auto delta = Temporality::delta;
constexpr auto instant = Temporality::instant;
constexpr auto late = Rejection::out_of_order;

TEST(PushedSeries, SumsAndGauges) {
    struct Case {
        const char* description;
        std::vector<Step> steps;
    };
    const Case cases[] = {
        {"cumulative", {{1, cumulative, true, 10, 20, 5, 5}, {1, cumulative, true, 10, 30, 8, 8}}},
        {"sent again", {{1, cumulative, true, 10, 20, 5, 5}, {1, cumulative, true, 10, 20, 5, 5}}},
        {"late", {{1, cumulative, true, 10, 20, 5, 5}, {1, cumulative, true, 10, 19, 4, 5, late}}},
        // Data model, "Resets and gaps": a new start time says that the value begins at zero again.
        {"restart by start time",
         {{1, cumulative, true, 10, 20, 5, 5}, {1, cumulative, true, 25, 30, 9, 14}}},
        {"restart by value", {{1, cumulative, true, 0, 20, 5, 5}, {1, cumulative, true, 0, 30, 2, 7}}},
        {"two writers of one identity do not take turns in restarting",
         {{1, cumulative, true, 10, 20, 5, 5},
          {1, cumulative, true, 15, 25, 1, 6},
          {1, cumulative, true, 10, 30, 6, 6, late}}},
        {"restart of what may fall",
         {{1, cumulative, false, 10, 20, 5, 5}, {1, cumulative, false, 25, 30, 2, 2}}},
        {"may fall", {{1, cumulative, false, 10, 20, 5, 5}, {1, cumulative, false, 10, 30, -2, -2}}},
        {"two streams are added",
         {{1, cumulative, true, 10, 20, 5, 5},
          {2, cumulative, true, 12, 21, 7, 12},
          {1, cumulative, true, 22, 23, 1, 13}}},
        {"a stream that ended stays counted",
         {{1, cumulative, true, 10, 20, 5, 5}, {2, cumulative, true, 12, 21, 7, 12, std::nullopt, 10min}}},
        {"what may fall counts while it lives",
         {{1, cumulative, false, 10, 20, 5, 5}, {2, cumulative, false, 12, 21, 7, 7, std::nullopt, 10min}}},
        {"delta",
         {{1, delta, true, 10, 20, 5, 5}, {1, delta, true, 20, 30, 8, 13}, {1, delta, true, 35, 40, 1, 14}}},
        {"delta sent again", {{1, delta, true, 10, 20, 5, 5}, {1, delta, true, 10, 20, 5, 5, late}}},
        {"deltas that overlap", {{1, delta, true, 10, 20, 5, 5}, {1, delta, true, 15, 30, 8, 5, late}}},
        {"delta without times", {{1, delta, true, 0, 0, 5, 5}, {1, delta, true, 0, 0, 8, 13}}},
        {"delta that falls", {{1, delta, false, 10, 20, 5, 5}, {1, delta, false, 20, 30, -2, 3}}},
        {"delta, then cumulative after an update",
         {{1, delta, true, 10, 20, 5, 5},
          {1, cumulative, true, 25, 30, 2, 7},
          {1, cumulative, true, 25, 35, 3, 8}}},
        {"gauge",
         {{1, instant, false, 0, 20, 5, 5},
          {1, instant, false, 0, 30, 2, 2},
          {1, instant, false, 0, 25, 3, 2, late}}},
        {"gauge of two streams",
         {{1, instant, false, 0, 20, 5, 5}, {2, instant, false, 0, 10, 2, 2, std::nullopt, 1s}}},
    };
    for (const Case& test : cases) {
        SCOPED_TRACE(test.description);
        PushedSeries series;
        Clock::time_point now = Clock::now();
        for (const Step& step : test.steps) {
            now += step.later;
            const auto rejection = series.add({.labels = {},
                                               .value = step.value,
                                               .stream = step.stream,
                                               .temporality = step.temporality,
                                               .monotonic = step.monotonic,
                                               .start_time = step.start,
                                               .time = step.time},
                                              now);
            EXPECT_EQ(rejection, step.rejection);
            EXPECT_EQ(std::get<double>(series.value(now, minute)), step.total);
        }
    }
}

PushedPoint histogram(std::uint64_t stream, Temporality temporality, std::uint64_t start, std::uint64_t time,
                      HistogramValue value) {
    return {.labels = {},
            .value = std::move(value),
            .stream = stream,
            .temporality = temporality,
            .monotonic = true,
            .start_time = start,
            .time = time};
}

TEST(PushedSeries, Histograms) {
    PushedSeries series;
    const Clock::time_point now = Clock::now();
    const auto buckets = [&] { return std::get<HistogramValue>(series.value(now, minute)).buckets; };
    const auto sum = [&] { return std::get<HistogramValue>(series.value(now, minute)).sum; };
    EXPECT_EQ(series.add(histogram(1, delta, 10, 20, {{1, 2}, {1, 2, 3}, 10}), now), std::nullopt);
    EXPECT_EQ(series.add(histogram(1, delta, 20, 30, {{1, 2}, {1, 0, 0}, 0.5}), now), std::nullopt);
    EXPECT_EQ(buckets(), (std::vector<std::uint64_t>{2, 2, 3}));
    EXPECT_EQ(sum(), 10.5);
    // Another writer with the same bounds, and one with others.
    EXPECT_EQ(series.add(histogram(2, cumulative, 10, 20, {{1, 2}, {1, 1, 1}, 5}), now), std::nullopt);
    EXPECT_EQ(series.add(histogram(3, cumulative, 10, 20, {{1, 3}, {1, 1, 1}, 5}), now),
              Rejection::bucket_mismatch);
    EXPECT_EQ(buckets(), (std::vector<std::uint64_t>{3, 3, 4}));
    // A restart: fewer observations.
    EXPECT_EQ(series.add(histogram(2, cumulative, 0, 40, {{1, 2}, {0, 0, 1}, 5}), now), std::nullopt);
    EXPECT_EQ(buckets(), (std::vector<std::uint64_t>{3, 3, 5}));
    EXPECT_EQ(series.add(histogram(2, cumulative, 50, 60, {{4}, {1, 1}, 5}), now),
              Rejection::bucket_mismatch);
}

TEST(PushedSeries, OnlyWriterMayChangeItsBounds) {
    PushedSeries series;
    const Clock::time_point now = Clock::now();
    EXPECT_EQ(series.add(histogram(1, cumulative, 10, 20, {{1, 2}, {1, 2, 3}, 10}), now), std::nullopt);
    EXPECT_EQ(series.add(histogram(1, cumulative, 30, 40, {{5}, {1, 1}, 7}), now), std::nullopt);
    EXPECT_EQ(std::get<HistogramValue>(series.value(now, minute)).buckets,
              (std::vector<std::uint64_t>{1, 1}));
}

TEST(PushedSeries, ManyWritersAreFoldedAndStayCounted) {
    PushedSeries series;
    Clock::time_point now = Clock::now();
    for (std::uint64_t stream = 0; stream < 100; ++stream) {
        now += 1s;
        EXPECT_EQ(series.add({.labels = {},
                              .value = 2.0,
                              .stream = stream,
                              .temporality = cumulative,
                              .monotonic = true,
                              .start_time = stream + 1,
                              .time = stream + 2},
                             now),
                  std::nullopt);
    }
    EXPECT_EQ(std::get<double>(series.value(now, minute)), 200);
}

}  // namespace
}  // namespace pangolin
