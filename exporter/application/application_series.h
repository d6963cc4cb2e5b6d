// Series that come from applications: what scrapers, the OTLP receiver and the registry exchange.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "exporter/text_writer.h"

namespace pangolin {

struct Label {
    std::string name;
    std::string value;

    auto operator<=>(const Label&) const = default;
};
using Labels = std::vector<Label>;

struct HistogramValue {
    // Upper bounds, strictly increasing, all finite.
    std::vector<double> bounds;
    // Observations by bucket, not cumulated: one for each bound and one for what is beyond the last.
    std::vector<std::uint64_t> buckets;
    double sum = 0;

    std::uint64_t count() const;
};

struct SummaryValue {
    struct Quantile {
        // From 0 to 1.
        double quantile = 0;
        double value = 0;
    };
    std::vector<Quantile> quantiles;
    double sum = 0;
    std::uint64_t count = 0;
};

// The number is of a counter, gauge, info or unknown.
using ApplicationValue = std::variant<double, HistogramValue, SummaryValue>;

struct ApplicationSample {
    // In any order, each name once, none of them le or quantile.
    Labels labels;
    ApplicationValue value;
};

// What HELP, TYPE and UNIT say. `name` is the one on the sample lines of the text format, as Metric::name is:
// "..._total" of a counter, "..._info" of an info; without _bucket, _sum or _count.
struct ApplicationFamilyHeader {
    std::string name;
    MetricType type = MetricType::unknown;
    std::string unit;
    std::string help;
};

struct ApplicationFamily {
    ApplicationFamilyHeader header;
    std::vector<ApplicationSample> samples;
};

// A family ready to be written; immutable and cheap to hold while an answer is sent.
struct PublishedSeries {
    std::shared_ptr<const Labels> labels;
    ApplicationValue value;
};
struct PublishedFamily {
    ApplicationFamilyHeader header;
    std::vector<PublishedSeries> series;
};

// What applications have to say at one moment. Families are sorted by name and have at least one series each;
// no two of them share the name of a sample line or of a TYPE line, in either format.
struct ApplicationSnapshot {
    std::vector<PublishedFamily> families;
    // Families of the catalogue whose own series are not published, because the operator prefers the
    // application's. Sorted.
    std::vector<std::string> preferred;

    // Null where applications have nothing for it.
    const PublishedFamily* find(std::string_view name) const;
    bool prefers(std::string_view name) const;
};

}  // namespace pangolin
