#include "exporter/application/application_metrics.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <utility>

#include "exporter/application/metric_names.h"
#include "userspace/utf8.h"

namespace pangolin {

namespace {

using namespace std::chrono_literals;

constexpr std::string_view own_prefix = "pangolin_exporter_";
constexpr std::string_view rejected_family = "pangolin_exporter_application_samples_rejected_total";
constexpr std::string_view limited_family = "pangolin_exporter_series_limited_total";
constexpr std::string_view series_family = "pangolin_exporter_application_series";
// The label `family` for all that is not in the catalogue.
constexpr std::string_view other_family = "other";

// A counter that nobody pushes any more is remembered for this long, to go on where it ended.
constexpr auto dormant_time = 24h;
// Between two searches for room among those.
constexpr auto purge_interval = 1s;

const Metric* find_row(std::string_view name) {
    const auto rows = catalogue();
    const auto row = std::ranges::find(rows, name, &Metric::name);
    return row == rows.end() ? nullptr : &*row;
}

std::string key_of(const Labels& labels) {
    std::string key;
    for (const Label& label : labels) {
        key += label.name;
        key += '\0';
        key += label.value;
        key += '\0';
    }
    return key;
}

std::size_t value_bytes(const ApplicationValue& value) {
    std::size_t numbers = 0;
    if (const auto* const histogram = std::get_if<HistogramValue>(&value))
        numbers = 2 * histogram->buckets.size();
    else if (const auto* const summary = std::get_if<SummaryValue>(&value))
        numbers = 2 * summary->quantiles.size();
    return numbers * sizeof(double);
}

// Roughly: the key, the labels, and what holds them.
std::size_t base_bytes(const std::string& key) {
    constexpr std::size_t fixed = 512;
    return fixed + 2 * key.size();
}

// With one stream behind the value.
std::size_t bytes_of(const std::string& key, const ApplicationValue& value) {
    return base_bytes(key) + 2 * value_bytes(value);
}

// The names that stand on the family's sample lines and, in OpenMetrics, on its TYPE line.
std::vector<std::string> names_of(const ApplicationFamilyHeader& header) {
    const std::string& name = header.name;
    switch (header.type) {
        case MetricType::counter:
            if (name.ends_with("_total"))
                return {name, name.substr(0, name.size() - std::string_view("_total").size())};
            return {name};
        case MetricType::info:
            return {name, name.substr(0, name.size() - std::string_view("_info").size())};
        case MetricType::histogram:
            return {name, name + "_bucket", name + "_sum", name + "_count"};
        case MetricType::summary:
            return {name, name + "_sum", name + "_count"};
        case MetricType::gauge:
        case MetricType::unknown:
            break;
    }
    return {name};
}

ApplicationFamilyHeader header_of(const Metric& row) {
    return {.name = std::string(row.name),
            .type = row.type,
            .unit = std::string(row.unit),
            .help = std::string(row.help)};
}

// In the text format an info is a gauge.
bool compatible(MetricType family, MetricType sample) {
    return family == sample || (family == MetricType::info && sample == MetricType::gauge);
}

std::optional<Rejection> judge(const HistogramValue& value, const ApplicationLimits& limits) {
    const bool good =
        value.buckets.size() == value.bounds.size() + 1 && value.bounds.size() <= limits.buckets &&
        std::ranges::all_of(value.bounds, [](double bound) { return std::isfinite(bound); }) &&
        std::ranges::adjacent_find(value.bounds, std::ranges::greater_equal{}) == value.bounds.end();
    return good ? std::nullopt : std::optional(Rejection::invalid_value);
}

std::optional<Rejection> judge(const SummaryValue& value, const ApplicationLimits& limits) {
    const auto quantiles = [](const SummaryValue::Quantile& entry) { return entry.quantile; };
    const bool good =
        value.quantiles.size() <= limits.buckets &&
        std::ranges::all_of(
            value.quantiles, [](double quantile) { return quantile >= 0 && quantile <= 1; }, quantiles) &&
        std::ranges::adjacent_find(value.quantiles, std::ranges::greater_equal{}, quantiles) ==
            value.quantiles.end();
    return good ? std::nullopt : std::optional(Rejection::invalid_value);
}

std::optional<Rejection> judge(MetricType type, const ApplicationValue& value,
                               const ApplicationLimits& limits) {
    if (const auto* const histogram = std::get_if<HistogramValue>(&value))
        return type == MetricType::histogram ? judge(*histogram, limits) : Rejection::type_mismatch;
    if (const auto* const summary = std::get_if<SummaryValue>(&value))
        return type == MetricType::summary ? judge(*summary, limits) : Rejection::type_mismatch;
    if (type == MetricType::histogram || type == MetricType::summary)
        return Rejection::type_mismatch;
    const double number = std::get<double>(value);
    if (type == MetricType::counter && !(number >= 0 && std::isfinite(number)))
        return Rejection::invalid_value;
    return std::nullopt;
}

}  // namespace

ApplicationMetrics::ApplicationMetrics(ApplicationOptions options)
    : options_(std::move(options)), measured_(catalogue().size()) {
    std::ranges::sort(options_.prefer);
    for (const Metric& row : catalogue())
        claim(header_of(row));
}

std::optional<Rejection> ApplicationMetrics::admits(const Metric& row) const {
    if (row.source == "S")
        return Rejection::owned_by_exporter;
    const auto place = static_cast<std::size_t>(&row - catalogue().data());
    if (!measured_.at(place).load(std::memory_order_relaxed) ||
        std::ranges::binary_search(options_.prefer, row.name))
        return std::nullopt;
    return Rejection::owned_by_exporter;
}

void ApplicationMetrics::observe(const Snapshot& snapshot) {
    for (std::size_t place = 0; place < measured_.size(); ++place) {
        const Metric& row = catalogue()[place];
        if (measured_[place].load(std::memory_order_relaxed) || !is_measured(row, snapshot))
            continue;
        measured_[place].store(true, std::memory_order_relaxed);
        if (!admits(row))
            continue;
        const std::scoped_lock lock(mutex_);
        if (auto family = families_.find(row.name); family != families_.end()) {
            count(Rejection::owned_by_exporter, family->second.series.size());
            erase_series(family->second, [](const Series&) { return true; });
            drop_if_empty(family);
        }
    }
}

ApplicationOutcome ApplicationMetrics::replace(std::string_view source,
                                               std::vector<ApplicationFamily> families) {
    const std::scoped_lock lock(mutex_);
    ApplicationOutcome outcome;
    const std::uint64_t reading = ++readings_;
    for (ApplicationFamily& family : families)
        for (ApplicationSample& sample : family.samples) {
            if (const auto rejection = place(family.header, std::move(sample), source, reading)) {
                outcome.reject(*rejection);
                count(*rejection, 1);
            } else {
                ++outcome.accepted;
            }
        }
    for (auto family = families_.begin(); family != families_.end();) {
        erase_series(family->second, [&](const Series& series) {
            return !series.pushed && series.source == source && series.reading != reading;
        });
        drop_if_empty(family);
    }
    return outcome;
}

std::optional<Rejection> ApplicationMetrics::push(const ApplicationFamilyHeader& header, PushedPoint point,
                                                  Clock::time_point now) {
    const std::scoped_lock lock(mutex_);
    const auto rejection = place_pushed(header, std::move(point), now);
    if (rejection)
        count(*rejection, 1);
    return rejection;
}

std::optional<Rejection> ApplicationMetrics::place(const ApplicationFamilyHeader& header,
                                                   ApplicationSample sample, std::string_view source,
                                                   std::uint64_t reading) {
    if (const auto bad = judge(header.type, sample.value, options_.limits))
        return bad;
    const auto family = family_of(header);
    if (!family)
        return family.error();
    auto series = series_of(**family, std::move(sample.labels), source, sample.value);
    if (!series || (*series)->pushed || (*series)->reading == reading) {
        auto found = families_.find(header.name);
        drop_if_empty(found);
        return series ? Rejection::duplicate_series : series.error();
    }
    (*series)->reading = reading;
    (*series)->value = std::move(sample.value);
    return std::nullopt;
}

std::optional<Rejection> ApplicationMetrics::place_pushed(const ApplicationFamilyHeader& header,
                                                          PushedPoint point, Clock::time_point now) {
    if (const auto bad = judge(header.type, point.value, options_.limits))
        return bad;
    const auto family = family_of(header);
    if (!family)
        return family.error();
    auto series = series_of(**family, std::move(point.labels), "otlp", point.value);
    if (!series || (!(*series)->pushed && (*series)->reading != 0)) {
        auto found = families_.find(header.name);
        drop_if_empty(found);
        return series ? Rejection::duplicate_series : series.error();
    }
    if (!(*series)->pushed)
        (*series)->pushed = std::make_unique<PushedSeries>();
    // Never of a new series: one stream is what it was made for.
    if (!charge(**series, (*series)->pushed->streams_with(point.stream), point.value)) {
        limited((*family)->row != nullptr ? std::string_view((*family)->row->name) : other_family);
        return Rejection::series_limit;
    }
    return (*series)->pushed->add(std::move(point), now);
}

bool ApplicationMetrics::charge(Series& series, std::size_t streams, const ApplicationValue& value) {
    const std::size_t bytes = std::max(series.bytes, series.base + (streams + 1) * value_bytes(value));
    const std::size_t growth = bytes - series.bytes;
    if (growth > 0 && bytes_ + growth > options_.limits.series * options_.limits.bytes_per_series)
        return false;
    bytes_ += growth;
    series.bytes = bytes;
    return true;
}

std::expected<ApplicationMetrics::Family*, Rejection> ApplicationMetrics::family_of(
    const ApplicationFamilyHeader& header) {
    if (const auto found = families_.find(header.name); found != families_.end()) {
        if (!compatible(found->second.header.type, header.type))
            return std::unexpected(Rejection::type_mismatch);
        return &found->second;
    }
    if (const Metric* const row = find_row(header.name)) {
        if (const auto rejection = admits(*row))
            return std::unexpected(*rejection);
        if (!compatible(row->type, header.type))
            return std::unexpected(Rejection::type_mismatch);
        return &families_.emplace(header.name, Family{.header = header_of(*row), .row = row, .series = {}})
                    .first->second;
    }
    if (header.name.starts_with(own_prefix))
        return std::unexpected(Rejection::owned_by_exporter);
    if (!is_metric_name(header.name) || header.name.size() > options_.limits.name_bytes ||
        (header.type == MetricType::info && !header.name.ends_with("_info")))
        return std::unexpected(Rejection::invalid_name);
    if (foreign_families_ >= options_.limits.families) {
        limited(other_family);
        return std::unexpected(Rejection::series_limit);
    }
    if (std::ranges::any_of(names_of(header), [&](const auto& name) { return claimed_.contains(name); }))
        return std::unexpected(Rejection::name_collision);
    Family family{.header = header, .row = nullptr, .series = {}};
    if (family.header.help.size() > options_.limits.help_bytes)
        family.header.help.resize(options_.limits.help_bytes);
    // OpenMetrics wants the unit at the name's end.
    std::string_view stem = family.header.name;
    if (stem.ends_with("_total") && header.type == MetricType::counter)
        stem.remove_suffix(std::string_view("_total").size());
    if (!stem.ends_with("_" + family.header.unit))
        family.header.unit.clear();
    claim(header);
    ++foreign_families_;
    return &families_.emplace(header.name, std::move(family)).first->second;
}

std::expected<Labels, Rejection> ApplicationMetrics::labels_of(const Family& family, Labels labels) const {
    const ApplicationLimits& limits = options_.limits;
    std::erase_if(labels, [](const Label& label) { return label.value.empty(); });
    if (labels.size() > limits.labels)
        return std::unexpected(Rejection::invalid_label);
    std::size_t bytes = 0;
    for (const Label& label : labels)
        bytes += label.name.size() + label.value.size();
    if (bytes > limits.label_bytes)
        return std::unexpected(Rejection::invalid_label);
    std::ranges::sort(labels);
    const MetricType type = family.header.type;
    for (std::size_t i = 0; i < labels.size(); ++i) {
        Label& label = labels[i];
        if (!is_label_name(label.name) || label.name.size() > limits.name_bytes ||
            label.value.size() > limits.value_bytes || (i > 0 && labels[i - 1].name == label.name) ||
            (type == MetricType::histogram && label.name == "le") ||
            (type == MetricType::summary && label.name == "quantile"))
            return std::unexpected(Rejection::invalid_label);
        if (!is_utf8(label.value))
            label.value = valid_utf8(label.value);
    }
    if (!family.row)
        return labels;
    Labels ordered;
    std::size_t used = 0;
    for (const std::string_view name : family.row->labels) {
        const auto found = std::ranges::find(labels, name, &Label::name);
        ordered.push_back({std::string(name), found == labels.end() ? "" : std::move(found->value)});
        used += found != labels.end() ? 1 : 0;
    }
    if (used != labels.size())
        return std::unexpected(Rejection::label_mismatch);
    return ordered;
}

std::expected<ApplicationMetrics::Series*, Rejection> ApplicationMetrics::series_of(
    Family& family, Labels labels, std::string_view source, const ApplicationValue& value) {
    auto complete = labels_of(family, std::move(labels));
    if (!complete)
        return std::unexpected(complete.error());
    std::string key = key_of(*complete);
    if (const auto found = family.series.find(key); found != family.series.end()) {
        if (found->second.source != source)
            return std::unexpected(Rejection::duplicate_series);
        return &found->second;
    }
    const std::size_t bytes = bytes_of(key, value);
    if (!room_for_series(family, bytes)) {
        limited(family.row ? std::string_view(family.row->name) : other_family);
        return std::unexpected(Rejection::series_limit);
    }
    ++series_;
    bytes_ += bytes;
    Series series{.labels = std::make_shared<const Labels>(std::move(*complete)),
                  .source = std::string(source),
                  .reading = 0,
                  .value = 0.0,
                  .pushed = nullptr,
                  .bytes = bytes,
                  .base = base_bytes(key)};
    return &family.series.emplace(std::move(key), std::move(series)).first->second;
}

template <class Predicate>
void ApplicationMetrics::erase_series(Family& family, Predicate gone) {
    series_ -= std::erase_if(family.series, [&](const auto& entry) {
        if (!gone(entry.second))
            return false;
        bytes_ -= entry.second.bytes;
        return true;
    });
}

bool ApplicationMetrics::room_for_series(const Family& family, std::size_t bytes) {
    const ApplicationLimits& limits = options_.limits;
    const auto full = [&] {
        return series_ >= limits.series || family.series.size() >= limits.series_per_family ||
               bytes_ + bytes > limits.series * limits.bytes_per_series;
    };
    if (!full())
        return true;
    const Clock::time_point now = Clock::now();
    if (now - last_purge_ < purge_interval)
        return false;
    last_purge_ = now;
    for (auto& [name, each] : families_)
        erase_series(each, [&](const Series& series) {
            return series.pushed && now - series.pushed->updated() > options_.max_age;
        });
    return !full();
}

void ApplicationMetrics::forget_dormant(Clock::time_point now, Clock::duration patience) {
    for (auto family = families_.begin(); family != families_.end();) {
        erase_series(family->second, [&](const Series& series) {
            const PushedSeries* const pushed = series.pushed.get();
            return pushed && now - pushed->updated() >
                                 (pushed->has_past() ? patience : Clock::duration(options_.max_age));
        });
        drop_if_empty(family);
    }
}

// Moves on to the next one.
void ApplicationMetrics::drop_if_empty(Families::iterator& family) {
    if (family == families_.end())
        return;
    if (!family->second.series.empty()) {
        ++family;
        return;
    }
    if (!family->second.row) {
        release(family->second.header);
        --foreign_families_;
    }
    family = families_.erase(family);
}

void ApplicationMetrics::claim(const ApplicationFamilyHeader& header) {
    for (std::string& name : names_of(header))
        claimed_.emplace(std::move(name), header.name);
}

void ApplicationMetrics::release(const ApplicationFamilyHeader& header) {
    for (const std::string& name : names_of(header))
        if (const auto found = claimed_.find(name); found != claimed_.end() && found->second == header.name)
            claimed_.erase(found);
}

void ApplicationMetrics::count(Rejection reason, std::uint64_t samples) {
    outcome_.reject(reason, samples);
}

void ApplicationMetrics::limited(std::string_view family) {
    ++limited_[std::string(family)];
}

void ApplicationMetrics::count_rejected(Rejection reason, std::uint64_t samples) {
    const std::scoped_lock lock(mutex_);
    count(reason, samples);
}

void ApplicationMetrics::count_limited(std::string_view family) {
    const std::scoped_lock lock(mutex_);
    limited(family);
}

void ApplicationMetrics::set_own(std::string_view family, std::vector<std::string> label_values,
                                 double value) {
    const Metric& row = catalogue_row(family);
    const std::scoped_lock lock(mutex_);
    own_[std::string(row.name)][std::move(label_values)] = value;
}

void ApplicationMetrics::count_own(std::string_view family, std::vector<std::string> label_values) {
    const Metric& row = catalogue_row(family);
    const std::scoped_lock lock(mutex_);
    ++own_[std::string(row.name)][std::move(label_values)];
}

void ApplicationMetrics::add_provider(const Provider& provider) {
    const std::scoped_lock lock(mutex_);
    providers_.push_back(&provider);
}

void ApplicationMetrics::remove_provider(const Provider& provider) {
    const std::scoped_lock lock(mutex_);
    std::erase(providers_, &provider);
}

void ApplicationMetrics::publish_own(std::vector<PublishedFamily>& families) const {
    auto own = own_;
    for (std::size_t i = 0; i < rejections; ++i)
        own[std::string(rejected_family)][{std::string(to_string(static_cast<Rejection>(i)))}] =
            static_cast<double>(outcome_.by_reason.at(i));
    for (const auto& [family, count] : limited_)
        own[std::string(limited_family)][{family}] = static_cast<double>(count);
    own[std::string(series_family)][{}] = static_cast<double>(series_);
    for (const auto& [name, series] : own) {
        const Metric& row = catalogue_row(name);
        PublishedFamily& family =
            families.emplace_back(PublishedFamily{.header = header_of(row), .series = {}});
        for (const auto& [values, value] : series) {
            Labels labels;
            for (std::size_t i = 0; i < values.size() && i < row.labels.size(); ++i)
                labels.push_back({std::string(row.labels.begin()[i]), values[i]});
            family.series.push_back({std::make_shared<const Labels>(std::move(labels)), value});
        }
    }
}

std::shared_ptr<const ApplicationSnapshot> ApplicationMetrics::collect(Clock::time_point now) {
    auto snapshot = std::make_shared<ApplicationSnapshot>();
    snapshot->preferred = options_.prefer;
    const std::scoped_lock lock(mutex_);
    forget_dormant(now, dormant_time);
    for (const auto& [name, family] : families_) {
        PublishedFamily published{.header = family.header, .series = {}};
        published.series.reserve(family.series.size());
        for (const auto& [key, series] : family.series) {
            if (!series.pushed)
                published.series.push_back({series.labels, series.value});
            else if (now - series.pushed->updated() <= options_.max_age)
                published.series.push_back({series.labels, series.pushed->value(now, options_.max_age)});
        }
        if (!published.series.empty())
            snapshot->families.push_back(std::move(published));
    }
    std::vector<PublishedFamily> provided;
    for (const Provider* const provider : providers_)
        provider->provide(provided);
    for (PublishedFamily& family : provided) {
        const auto found = families_.find(family.header.name);
        const auto same = std::ranges::find(snapshot->families, family.header.name,
                                            [](const PublishedFamily& other) { return other.header.name; });
        if (found != families_.end())
            std::erase_if(family.series, [&](const PublishedSeries& series) {
                return found->second.series.contains(key_of(*series.labels));
            });
        if (same == snapshot->families.end())
            snapshot->families.push_back(std::move(family));
        else
            std::ranges::move(family.series, std::back_inserter(same->series));
    }
    std::erase_if(snapshot->families, [](const PublishedFamily& family) { return family.series.empty(); });
    publish_own(snapshot->families);
    std::ranges::sort(snapshot->families, {},
                      [](const PublishedFamily& family) { return std::string_view(family.header.name); });
    return snapshot;
}

}  // namespace pangolin
