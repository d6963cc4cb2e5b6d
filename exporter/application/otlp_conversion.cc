#include "exporter/application/otlp_conversion.h"

#include <algorithm>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "exporter/application/exponential_histogram.h"
#include "exporter/application/metric_names.h"

namespace pangolin {

namespace {

namespace metrics = opentelemetry::proto::metrics::v1;
namespace common = opentelemetry::proto::common::v1;
using Attributes = google::protobuf::RepeatedPtrField<common::KeyValue>;

nlohmann::json json_of(const common::AnyValue& value) {
    switch (value.value_case()) {
        case common::AnyValue::kStringValue:
            return value.string_value();
        case common::AnyValue::kBoolValue:
            return value.bool_value();
        case common::AnyValue::kIntValue:
            return value.int_value();
        case common::AnyValue::kDoubleValue:
            return value.double_value();
        case common::AnyValue::kArrayValue: {
            auto array = nlohmann::json::array();
            for (const common::AnyValue& element : value.array_value().values())
                array.push_back(json_of(element));
            return array;
        }
        case common::AnyValue::kKvlistValue: {
            auto object = nlohmann::json::object();
            for (const common::KeyValue& entry : value.kvlist_value().values())
                object[entry.key()] = json_of(entry.value());
            return object;
        }
        case common::AnyValue::kBytesValue:
            return value.bytes_value();
        case common::AnyValue::VALUE_NOT_SET:
            break;
    }
    return nullptr;
}

// Text as it is, all else as JSON.
std::string text_of(const common::AnyValue& value) {
    if (value.value_case() == common::AnyValue::kStringValue)
        return value.string_value();
    if (value.value_case() == common::AnyValue::VALUE_NOT_SET)
        return {};
    return json_of(value).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// Keys that become one label are joined in the order of their keys, with semicolons.
Labels labels_of(const Attributes& attributes, std::string_view prefix = {}) {
    std::map<std::string, std::string> by_key;
    for (const common::KeyValue& attribute : attributes)
        by_key[attribute.key()] = text_of(attribute.value());
    std::map<std::string, std::string> by_label;
    for (auto& [key, value] : by_key) {
        std::string label = label_name(key);
        if (label.empty())
            continue;
        const auto [entry, inserted] = by_label.try_emplace(std::string(prefix) + label, value);
        if (!inserted)
            entry->second += ";" + value;
    }
    Labels labels;
    for (auto& [name, value] : by_label)
        labels.push_back({name, std::move(value)});
    return labels;
}

std::string identity_of(const Labels& labels) {
    std::string text;
    for (const Label& label : labels)
        text += label.name + '\0' + label.value + '\0';
    return text;
}

bool is_in_catalogue(std::string_view name) {
    const auto rows = catalogue();
    return std::ranges::find(rows, name, &Metric::name) != rows.end();
}

// Who sent it: `job` and `instance`, and the rest for target_info.
struct Origin {
    Labels identity;
    Labels rest;
    std::string text;
};

Origin origin_of(const Attributes& resource) {
    Origin origin;
    std::string service;
    std::string service_namespace;
    std::string instance;
    Attributes others;
    for (const common::KeyValue& attribute : resource) {
        if (attribute.key() == "service.name")
            service = text_of(attribute.value());
        else if (attribute.key() == "service.namespace")
            service_namespace = text_of(attribute.value());
        else if (attribute.key() == "service.instance.id")
            instance = text_of(attribute.value());
        else
            *others.Add() = attribute;
    }
    if (!service.empty())
        origin.identity.push_back(
            {"job", service_namespace.empty() ? service : service_namespace + "/" + service});
    if (!instance.empty())
        origin.identity.push_back({"instance", instance});
    origin.rest = labels_of(others);
    origin.text = identity_of(origin.identity) + '\0' + identity_of(origin.rest);
    return origin;
}

Labels scope_labels(const common::InstrumentationScope& scope) {
    Labels labels = labels_of(scope.attributes(), "otel_scope_");
    // The scope's own two win over attributes that call themselves so.
    std::erase_if(labels, [](const Label& label) {
        return label.name == "otel_scope_name" || label.name == "otel_scope_version";
    });
    if (!scope.name().empty())
        labels.push_back({"otel_scope_name", scope.name()});
    if (!scope.version().empty())
        labels.push_back({"otel_scope_version", scope.version()});
    return labels;
}

std::optional<Temporality> temporality_of(metrics::AggregationTemporality temporality) {
    if (temporality == metrics::AGGREGATION_TEMPORALITY_CUMULATIVE)
        return Temporality::cumulative;
    if (temporality == metrics::AGGREGATION_TEMPORALITY_DELTA)
        return Temporality::delta;
    return std::nullopt;
}

bool has_no_value(std::uint32_t flags) {
    return (flags & metrics::DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK) != 0;
}

double number_of(const metrics::NumberDataPoint& point) {
    return point.value_case() == metrics::NumberDataPoint::kAsInt ? static_cast<double>(point.as_int())
                                                                  : point.as_double();
}

// A sum is not known where negative numbers were recorded.
template <class Point>
double sum_of(const Point& point) {
    return point.has_sum() ? point.sum() : std::numeric_limits<double>::quiet_NaN();
}

// Malformed ones have buckets that do not fit the bounds, which the registry sees.
HistogramValue value_of(const metrics::HistogramDataPoint& point) {
    HistogramValue value{.bounds = {point.explicit_bounds().begin(), point.explicit_bounds().end()},
                         .buckets = {point.bucket_counts().begin(), point.bucket_counts().end()},
                         .sum = sum_of(point)};
    if (!value.bounds.empty() && value.bounds.back() == std::numeric_limits<double>::infinity()) {
        value.bounds.pop_back();
        if (value.buckets.size() > 1) {
            const std::uint64_t beyond = value.buckets.back();
            value.buckets.pop_back();
            value.buckets.back() += beyond;
        }
    }
    if (value.bounds.empty() && value.buckets.empty())
        value.buckets = {point.count()};
    return value;
}

HistogramValue value_of(const metrics::ExponentialHistogramDataPoint& point, bool seconds) {
    const auto buckets = [](const auto& part) {
        return ExponentialBuckets{
            .offset = part.offset(),
            .counts = {part.bucket_counts().data(), static_cast<std::size_t>(part.bucket_counts_size())}};
    };
    return explicit_histogram({.scale = point.scale(),
                               .zero_count = point.zero_count(),
                               .positive = buckets(point.positive()),
                               .negative = buckets(point.negative()),
                               .sum = sum_of(point)},
                              seconds);
}

SummaryValue value_of(const metrics::SummaryDataPoint& point) {
    SummaryValue value{.quantiles = {}, .sum = point.sum(), .count = point.count()};
    for (const auto& quantile : point.quantile_values())
        value.quantiles.push_back({quantile.quantile(), quantile.value()});
    return value;
}

class Importer {
  public:
    Importer(ApplicationMetrics& registry, ApplicationMetrics::Clock::time_point now)
        : registry_(registry), now_(now) {}

    void add(const metrics::ResourceMetrics& resource) {
        origin_ = origin_of(resource.resource().attributes());
        passed_through_ = false;
        for (const metrics::ScopeMetrics& scope : resource.scope_metrics()) {
            scope_ = scope_labels(scope.scope());
            stream_ = std::hash<std::string>{}(origin_.text + identity_of(scope_));
            for (const metrics::Metric& metric : scope.metrics())
                add(metric);
        }
        if (passed_through_ && !origin_.identity.empty() && !origin_.rest.empty())
            add_target_info();
    }

    const ApplicationOutcome& outcome() const { return outcome_; }

  private:
    void add(const metrics::Metric& metric) {
        switch (metric.data_case()) {
            case metrics::Metric::kGauge:
                begin(metric, MetricType::gauge);
                for (const auto& point : metric.gauge().data_points())
                    push(point, [](const auto& each) { return number_of(each); });
                return;
            case metrics::Metric::kSum:
                begin(metric, metric.sum().is_monotonic() ? MetricType::counter : MetricType::gauge,
                      metric.sum());
                monotonic_ = metric.sum().is_monotonic();
                for (const auto& point : metric.sum().data_points())
                    push(point, [](const auto& each) { return number_of(each); });
                return;
            case metrics::Metric::kHistogram:
                begin(metric, MetricType::histogram, metric.histogram());
                for (const auto& point : metric.histogram().data_points())
                    push(point, [](const auto& each) { return value_of(each); });
                return;
            case metrics::Metric::kExponentialHistogram: {
                begin(metric, MetricType::histogram, metric.exponential_histogram());
                const bool seconds = header_.name.ends_with("_seconds");
                for (const auto& point : metric.exponential_histogram().data_points())
                    push(point, [&](const auto& each) { return value_of(each, seconds); });
                return;
            }
            case metrics::Metric::kSummary:
                begin(metric, MetricType::summary);
                for (const auto& point : metric.summary().data_points())
                    push(point, [](const auto& each) { return value_of(each); });
                return;
            case metrics::Metric::DATA_NOT_SET:
                break;
        }
    }

    void begin(const metrics::Metric& metric, MetricType type) {
        std::string name =
            is_in_catalogue(metric.name()) ? metric.name() : metric_name(metric.name(), metric.unit(), type);
        in_catalogue_ = is_in_catalogue(name);
        passed_through_ = passed_through_ || !in_catalogue_;
        header_ = {.name = std::move(name),
                   .type = type,
                   .unit = unit_suffix(metric.unit()),
                   .help = metric.description()};
        temporality_ = Temporality::instant;
        monotonic_ = false;
    }

    template <class Data>
    void begin(const metrics::Metric& metric, MetricType type, const Data& data) {
        begin(metric, type);
        temporality_ = temporality_of(data.aggregation_temporality());
        monotonic_ = true;
    }

    template <class Point, class Value>
    void push(const Point& point, Value value) {
        if (has_no_value(point.flags())) {
            ++outcome_.accepted;
            return;
        }
        if (!temporality_) {
            registry_.count_rejected(Rejection::unsupported);
            outcome_.reject(Rejection::unsupported);
            return;
        }
        push({.labels = point_labels(point.attributes()),
              .value = value(point),
              .stream = stream_,
              .temporality = *temporality_,
              .monotonic = monotonic_,
              .start_time = point.start_time_unix_nano(),
              .time = point.time_unix_nano()});
    }

    void push(PushedPoint point) {
        if (const auto rejection = registry_.push(header_, std::move(point), now_))
            outcome_.reject(*rejection);
        else
            ++outcome_.accepted;
    }

    Labels point_labels(const Attributes& attributes) const {
        Labels labels = labels_of(attributes);
        if (in_catalogue_)
            return labels;
        const auto taken = [&](const std::string& name) {
            const auto named = [&](const Label& label) { return label.name == name; };
            return std::ranges::any_of(origin_.identity, named) || std::ranges::any_of(scope_, named) ||
                   (header_.type == MetricType::histogram && name == "le") ||
                   (header_.type == MetricType::summary && name == "quantile");
        };
        for (Label& label : labels)
            if (taken(label.name))
                label.name.insert(0, "exported_");
        labels.insert(labels.end(), origin_.identity.begin(), origin_.identity.end());
        labels.insert(labels.end(), scope_.begin(), scope_.end());
        return labels;
    }

    // Not a sample that the client sent, so not in the outcome. What is too long for a label (the command
    // line of a process) is left out, and what there is no room for.
    void add_target_info() {
        const ApplicationLimits& limits = registry_.limits();
        Labels labels = origin_.identity;
        std::size_t bytes = 0;
        for (const Label& label : origin_.rest) {
            const std::size_t length = label.name.size() + label.value.size();
            if (label.name == "job" || label.name == "instance" || label.value.size() > limits.value_bytes ||
                labels.size() >= limits.labels || bytes + length > limits.label_bytes / 2)
                continue;
            bytes += length;
            labels.push_back(label);
        }
        registry_.push(
            {.name = "target_info", .type = MetricType::info, .unit = "", .help = "Target metadata."},
            {.labels = std::move(labels), .value = 1.0, .stream = stream_}, now_);
    }

    ApplicationMetrics& registry_;
    ApplicationMetrics::Clock::time_point now_;
    ApplicationOutcome outcome_;
    // Of the resource, scope and metric that are being read.
    Origin origin_;
    Labels scope_;
    std::uint64_t stream_ = 0;
    bool passed_through_ = false;
    ApplicationFamilyHeader header_;
    bool in_catalogue_ = false;
    // None: the client did not say.
    std::optional<Temporality> temporality_;
    bool monotonic_ = false;
};

}  // namespace

ApplicationOutcome import_otlp(const OtlpRequest& request, ApplicationMetrics& registry,
                               ApplicationMetrics::Clock::time_point now) {
    Importer importer(registry, now);
    for (const metrics::ResourceMetrics& resource : request.resource_metrics())
        importer.add(resource);
    return importer.outcome();
}

}  // namespace pangolin
