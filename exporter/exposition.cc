#include "exporter/exposition.h"

#include <limits>
#include <span>
#include <utility>
#include <variant>

namespace pangolin {

namespace {

// The last element of a block goes beyond block_size; a histogram of a site takes 5 to 10 KiB.
constexpr std::size_t block_slack = std::size_t{16} * 1024;

// Writes what a row emits.
class RowWriter final : public Samples {
  public:
    RowWriter(TextWriter& writer, const Metric& metric) : writer_(writer), names_(metric.labels) {}

    void add(LabelValues labels, std::uint64_t value) override {
        writer_.sample({}, names_, span(labels), value);
    }
    void add(LabelValues labels, double value) override { writer_.sample({}, names_, span(labels), value); }
    void add_summary(LabelValues labels, double sum, std::uint64_t count) override {
        writer_.sample("_sum", names_, span(labels), sum);
        writer_.sample("_count", names_, span(labels), count);
    }
    void add_histogram(LabelValues labels, std::span<const double> bounds, std::span<const __u64> buckets,
                       double sum) override {
        std::uint64_t count = 0;
        for (std::size_t i = 0; i < buckets.size(); ++i) {
            count += buckets[i];
            const double bound = i < bounds.size() ? bounds[i] : std::numeric_limits<double>::infinity();
            writer_.bucket(names_, span(labels), bound, count);
        }
        writer_.sample("_sum", names_, span(labels), sum);
        writer_.sample("_count", names_, span(labels), count);
    }

  private:
    static std::span<const std::string_view> span(LabelValues labels) {
        return {labels.begin(), labels.size()};
    }

    TextWriter& writer_;
    std::span<const std::string_view> names_;
};

MetricType type_of(prometheus::MetricType type) {
    switch (type) {
        case prometheus::MetricType::Counter:
            return MetricType::counter;
        case prometheus::MetricType::Gauge:
            return MetricType::gauge;
        case prometheus::MetricType::Summary:
            return MetricType::summary;
        case prometheus::MetricType::Histogram:
            return MetricType::histogram;
        case prometheus::MetricType::Untyped:
            break;
    }
    return MetricType::unknown;
}

// Writes one metric of prometheus-cpp's model.
class MetricWriter {
  public:
    MetricWriter(TextWriter& writer, const prometheus::ClientMetric& metric) : writer_(writer) {
        for (const prometheus::ClientMetric::Label& label : metric.label) {
            names_.emplace_back(label.name);
            values_.emplace_back(label.value);
        }
    }

    void value(double value) { writer_.sample({}, names_, values_, value); }

    void summary(const prometheus::ClientMetric::Summary& summary) {
        for (const auto& quantile : summary.quantile)
            writer_.sample({}, names_, values_, {"quantile", quantile.quantile}, quantile.value);
        sum_and_count(summary.sample_sum, summary.sample_count);
    }

    void histogram(const prometheus::ClientMetric::Histogram& histogram) {
        for (const auto& bucket : histogram.bucket)
            writer_.sample("_bucket", names_, values_, {"le", bucket.upper_bound},
                           static_cast<double>(bucket.cumulative_count));
        sum_and_count(histogram.sample_sum, histogram.sample_count);
    }

  private:
    void sum_and_count(double sum, std::uint64_t count) {
        writer_.sample("_sum", names_, values_, sum);
        writer_.sample("_count", names_, values_, count);
    }

    TextWriter& writer_;
    std::vector<std::string_view> names_;
    std::vector<std::string_view> values_;
};

void write_metric(TextWriter& writer, prometheus::MetricType type, const prometheus::ClientMetric& metric) {
    MetricWriter out(writer, metric);
    switch (type) {
        case prometheus::MetricType::Counter:
            return out.value(metric.counter.value);
        case prometheus::MetricType::Gauge:
            return out.value(metric.gauge.value);
        case prometheus::MetricType::Summary:
            return out.summary(metric.summary);
        case prometheus::MetricType::Histogram:
            return out.histogram(metric.histogram);
        case prometheus::MetricType::Untyped:
            return out.value(metric.untyped.value);
    }
}

}  // namespace

Exposition::Exposition(std::shared_ptr<const Snapshot> snapshot,
                       std::shared_ptr<const std::vector<prometheus::MetricFamily>> families,
                       ExpositionFormat format)
    : snapshot_(std::move(snapshot)),
      families_(std::move(families)),
      view_(*snapshot_),
      writer_(format, block_size + block_slack) {}

std::string_view Exposition::next_block() {
    writer_.clear();
    if (stage_ == Stage::catalogue && write_catalogue())
        stage_ = Stage::families;
    if (stage_ == Stage::families && write_families())
        stage_ = Stage::end;
    if (stage_ == Stage::end) {
        writer_.finish();
        stage_ = Stage::done;
    }
    return writer_.text();
}

bool Exposition::write_catalogue() {
    for (; family_ < catalogue().size(); ++family_) {
        const Metric& metric = catalogue()[family_];
        if (element_ == 0)
            writer_.begin_family(metric.header());
        if (!write_row(metric))
            return false;
        element_ = 0;
    }
    family_ = 0;
    return true;
}

bool Exposition::write_row(const Metric& metric) {
    RowWriter samples(writer_, metric);
    const auto each = [&](const auto& elements, auto emit) {
        for (; element_ < elements.size(); ++element_) {
            if (full())
                return false;
            emit(elements[element_], view_, samples);
        }
        return true;
    };
    if (const auto* const per_site = std::get_if<EmitSite>(&metric.emit))
        return each(snapshot_->sites, *per_site);
    if (const auto* const per_resource = std::get_if<EmitResource>(&metric.emit))
        return each(snapshot_->resources, *per_resource);
    if (const auto* const per_peer = std::get_if<EmitPeer>(&metric.emit))
        return each(snapshot_->peers, *per_peer);
    if (const auto* const once = std::get_if<EmitSnapshot>(&metric.emit))
        (*once)(view_, samples);
    return true;
}

bool Exposition::write_families() {
    if (!families_)
        return true;
    for (; family_ < families_->size(); ++family_) {
        const prometheus::MetricFamily& family = (*families_)[family_];
        if (element_ == 0)
            writer_.begin_family(
                {.name = family.name, .type = type_of(family.type), .unit = {}, .help = family.help});
        for (; element_ < family.metric.size(); ++element_) {
            if (full())
                return false;
            write_metric(writer_, family.type, family.metric[element_]);
        }
        element_ = 0;
    }
    return true;
}

}  // namespace pangolin
