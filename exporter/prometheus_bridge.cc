#include "exporter/prometheus_bridge.h"

#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <variant>

#include "exporter/catalogue.h"
#include "userspace/utf8.h"

namespace pangolin {

namespace {

prometheus::MetricType library_type(MetricType type) {
    switch (type) {
        case MetricType::counter:
            return prometheus::MetricType::Counter;
        case MetricType::histogram:
            return prometheus::MetricType::Histogram;
        case MetricType::summary:
            return prometheus::MetricType::Summary;
        case MetricType::gauge:
        case MetricType::info:
            return prometheus::MetricType::Gauge;
        case MetricType::unknown:
            break;
    }
    return prometheus::MetricType::Untyped;
}

// Collects what a row emits into a family.
class FamilyBuilder final : public Samples {
  public:
    explicit FamilyBuilder(const Metric& metric) : labels_(metric.labels) {
        family_.name = metric.name;
        family_.help = metric.help;
        family_.type = library_type(metric.type);
    }

    void add(LabelValues labels, std::uint64_t value) override { add(labels, static_cast<double>(value)); }
    void add(LabelValues labels, double value) override {
        prometheus::ClientMetric& metric = add_metric(labels);
        if (family_.type == prometheus::MetricType::Counter)
            metric.counter.value = value;
        else
            metric.gauge.value = value;
    }
    void add_summary(LabelValues labels, double sum, std::uint64_t count) override {
        prometheus::ClientMetric& metric = add_metric(labels);
        metric.summary.sample_sum = sum;
        metric.summary.sample_count = count;
    }

    void add_histogram(LabelValues labels, std::span<const double> bounds, std::span<const __u64> buckets,
                       double sum) override {
        prometheus::ClientMetric::Histogram& histogram = add_metric(labels).histogram;
        for (std::size_t i = 0; i < buckets.size(); ++i) {
            histogram.sample_count += buckets[i];
            const double bound = i < bounds.size() ? bounds[i] : std::numeric_limits<double>::infinity();
            histogram.bucket.push_back({.cumulative_count = histogram.sample_count, .upper_bound = bound});
        }
        histogram.sample_sum = sum;
    }

    prometheus::MetricFamily take() { return std::move(family_); }

  private:
    prometheus::ClientMetric& add_metric(LabelValues labels) {
        prometheus::ClientMetric& metric = family_.metric.emplace_back();
        const auto* name = labels_.begin();
        for (const std::string_view value : labels)
            metric.label.push_back({.name = std::string(*name++), .value = valid_utf8(value)});
        return metric;
    }

    prometheus::MetricFamily family_;
    LabelNames labels_;
};

struct EmitAll {
    const SnapshotView& view;
    Samples& samples;

    void operator()(EmitNothing) const {}
    void operator()(EmitSite emit) const {
        for (const SiteSnapshot& site : view.snapshot().sites)
            emit(site, view, samples);
    }
    void operator()(EmitResource emit) const {
        for (const ResourceAccount& resource : view.snapshot().resources)
            emit(resource, view, samples);
    }
    void operator()(EmitTarget emit) const {
        for (const TargetAccount& target : view.snapshot().targets)
            emit(target, view, samples);
    }
    void operator()(EmitBackend emit) const {
        for (const BackendAccount& backend : view.snapshot().backends)
            emit(backend, view, samples);
    }
    void operator()(EmitPeer emit) const {
        for (const PeerSnapshot& peer : view.snapshot().peers)
            emit(peer, view, samples);
    }
    void operator()(EmitSnapshot emit) const { emit(view, samples); }
};

}  // namespace

std::vector<prometheus::MetricFamily> metric_families(const Snapshot& snapshot) {
    const SnapshotView view(snapshot);
    std::vector<prometheus::MetricFamily> families;
    for (const Metric& metric : catalogue()) {
        FamilyBuilder builder(metric);
        std::visit(EmitAll{view, builder}, metric.emit);
        if (metric.emit_rest != nullptr)
            metric.emit_rest(view, builder);
        prometheus::MetricFamily family = builder.take();
        if (!family.metric.empty())
            families.push_back(std::move(family));
    }
    return families;
}

std::vector<prometheus::MetricFamily> SnapshotCollectable::Collect() const {
    const std::shared_ptr<const Snapshot> snapshot = provider_();
    return snapshot ? metric_families(*snapshot) : std::vector<prometheus::MetricFamily>{};
}

}  // namespace pangolin
