#include "exporter/application/scraped_family.h"

#include <algorithm>
#include <cmath>

#include "exporter/application/exposition_lines.h"

namespace pangolin {
namespace {

// Counts are integers and floating point numbers at once in both formats.
std::optional<std::uint64_t> as_count(double value) {
    constexpr double greatest = 9223372036854775808.0;  // 2^63
    if (!(value >= 0) || value >= greatest || std::floor(value) != value)
        return std::nullopt;
    return static_cast<std::uint64_t>(value);
}

MetricType published_type(ScrapedType type) {
    switch (type) {
        case ScrapedType::counter:
            return MetricType::counter;
        case ScrapedType::gauge:
        case ScrapedType::state_set:
            return MetricType::gauge;
        case ScrapedType::histogram:
            return MetricType::histogram;
        case ScrapedType::summary:
            return MetricType::summary;
        case ScrapedType::info:
            return MetricType::info;
        case ScrapedType::unknown:
        case ScrapedType::gauge_histogram:
            break;
    }
    return MetricType::unknown;
}

template <class Value>
bool set_once(std::optional<Value>& place, Value value) {
    if (place)
        return false;
    place = std::move(value);
    return true;
}

}  // namespace

bool ScrapedFamily::set_type(ScrapedType type) {
    return set_once(type_, type);
}

bool ScrapedFamily::set_help(std::string help) {
    return set_once(help_, std::move(help));
}

bool ScrapedFamily::set_unit(std::string unit) {
    return set_once(unit_, std::move(unit));
}

void ScrapedFamily::add(std::string_view suffix, Labels labels, double value, ApplicationOutcome& outcome) {
    has_samples_ = true;
    switch (type()) {
        case ScrapedType::histogram:
        case ScrapedType::summary:
            return add_part(suffix, std::move(labels), value);
        case ScrapedType::gauge_histogram:
            return outcome.reject(Rejection::unsupported);
        default:
            if (suffix == "_created")
                return;
            has_total_suffix_ = has_total_suffix_ || suffix == "_total";
            samples_.emplace_back(std::move(labels), value);
    }
}

void ScrapedFamily::add_part(std::string_view suffix, Labels labels, double value) {
    if (suffix == "_created")
        return;
    const bool is_histogram = type() == ScrapedType::histogram;
    const bool is_point = suffix == (is_histogram ? "_bucket" : "");
    std::optional<double> bound;
    if (is_point) {
        const auto label =
            std::ranges::find(labels, is_histogram ? std::string_view("le") : "quantile", &Label::name);
        if (label != labels.end()) {
            bound = parse_sample_value(label->value);
            labels.erase(label);
        }
    }
    std::ranges::sort(labels);
    Series& series = series_[std::move(labels)];
    if (is_point && bound)
        series.points.emplace_back(*bound, value);
    else if (is_point || !set_once(suffix == "_sum" ? series.sum : series.count, value))
        series.malformed = true;
}

std::optional<HistogramValue> ScrapedFamily::histogram(Series& series) {
    std::ranges::sort(series.points);
    // What the bucket +Inf says, else _count.
    double count = series.count.value_or(-1);
    HistogramValue value;
    std::uint64_t below = 0;
    for (const auto& [bound, cumulative] : series.points) {
        const auto observations = as_count(cumulative);
        if (std::isnan(bound) || !observations || *observations < below)
            return std::nullopt;
        if (std::isinf(bound) && bound > 0) {
            if (series.count && *series.count != cumulative)
                return std::nullopt;
            count = cumulative;
            continue;
        }
        if (std::isinf(bound) || (!value.bounds.empty() && bound <= value.bounds.back()))
            return std::nullopt;
        value.bounds.push_back(bound);
        value.buckets.push_back(*observations - below);
        below = *observations;
    }
    const auto all = as_count(count);
    if (!all || *all < below || !series.sum)
        return std::nullopt;
    value.buckets.push_back(*all - below);
    value.sum = *series.sum;
    return value;
}

std::optional<SummaryValue> ScrapedFamily::summary(Series& series) {
    std::ranges::sort(series.points);
    const auto count = series.count ? as_count(*series.count) : std::nullopt;
    if (!count || !series.sum)
        return std::nullopt;
    SummaryValue value{.quantiles = {}, .sum = *series.sum, .count = *count};
    for (const auto& [quantile, number] : series.points) {
        if (!(quantile >= 0 && quantile <= 1) ||
            (!value.quantiles.empty() && value.quantiles.back().quantile == quantile))
            return std::nullopt;
        value.quantiles.emplace_back(quantile, number);
    }
    return value;
}

ApplicationFamilyHeader ScrapedFamily::header() const {
    ApplicationFamilyHeader header{.name = name_,
                                   .type = published_type(type()),
                                   .unit = unit_.value_or(""),
                                   .help = help_.value_or("")};
    if (has_total_suffix_)
        header.name += "_total";
    else if (header.type == MetricType::counter && !name_.ends_with("_total"))
        header.type = MetricType::unknown;
    if (header.type == MetricType::info)
        header.name += "_info";
    return header;
}

std::optional<ApplicationFamily> ScrapedFamily::finish(ApplicationOutcome& outcome) {
    ApplicationFamily family{.header = header(), .samples = std::move(samples_)};
    while (!series_.empty()) {
        auto node = series_.extract(series_.begin());
        ApplicationSample sample{.labels = std::move(node.key()), .value = {}};
        bool good = !node.mapped().malformed;
        const auto take = [&](auto value) {
            good = value.has_value();
            if (value)
                sample.value = std::move(*value);
        };
        if (good && type() == ScrapedType::histogram)
            take(histogram(node.mapped()));
        else if (good)
            take(summary(node.mapped()));
        if (good)
            family.samples.push_back(std::move(sample));
        else
            outcome.reject(Rejection::invalid_value);
    }
    if (family.samples.empty())
        return std::nullopt;
    return family;
}

}  // namespace pangolin
