#include "exporter/exposition.h"

#include <algorithm>
#include <limits>
#include <span>
#include <utility>
#include <variant>

namespace pangolin {

namespace {

// The last element of a block goes beyond block_size; a histogram of a site takes 5 to 10 KiB.
constexpr std::size_t block_slack = std::size_t{16} * 1024;

template <class Counts>
void write_histogram(TextWriter& writer, std::span<const std::string_view> names,
                     std::span<const std::string_view> values, std::span<const double> bounds,
                     const Counts& buckets, double sum) {
    std::uint64_t count = 0;
    for (std::size_t i = 0; i < buckets.size(); ++i) {
        count += buckets[i];
        const double bound = i < bounds.size() ? bounds[i] : std::numeric_limits<double>::infinity();
        writer.bucket(names, values, bound, count);
    }
    writer.sample("_sum", names, values, sum);
    writer.sample("_count", names, values, count);
}

std::string series_key(std::span<const std::string_view> values) {
    std::string key;
    for (const std::string_view value : values) {
        key += value;
        key += '\0';
    }
    return key;
}

// Writes what a row emits.
class RowWriter final : public Samples {
  public:
    // `written` takes the label values of each series unless it is null.
    RowWriter(TextWriter& writer, const Metric& metric, std::set<std::string>* written)
        : writer_(writer), names_(metric.labels), written_(written) {}

    void add(LabelValues labels, std::uint64_t value) override {
        remember(labels);
        writer_.sample({}, names_, span(labels), value);
    }
    void add(LabelValues labels, double value) override {
        remember(labels);
        writer_.sample({}, names_, span(labels), value);
    }
    void add_summary(LabelValues labels, double sum, std::uint64_t count) override {
        remember(labels);
        writer_.sample("_sum", names_, span(labels), sum);
        writer_.sample("_count", names_, span(labels), count);
    }
    void add_histogram(LabelValues labels, std::span<const double> bounds, std::span<const __u64> buckets,
                       double sum) override {
        remember(labels);
        write_histogram(writer_, names_, span(labels), bounds, buckets, sum);
    }

  private:
    void remember(LabelValues labels) {
        if (written_)
            written_->insert(series_key(span(labels)));
    }
    static std::span<const std::string_view> span(LabelValues labels) {
        return {labels.begin(), labels.size()};
    }

    TextWriter& writer_;
    std::span<const std::string_view> names_;
    std::set<std::string>* written_;
};

// Writes one series of an application.
class SeriesWriter {
  public:
    SeriesWriter(TextWriter& writer, const Labels& labels) : writer_(writer) {
        for (const Label& label : labels) {
            names_.emplace_back(label.name);
            values_.emplace_back(label.value);
        }
    }

    std::string key() const { return series_key(values_); }

    void operator()(double value) { writer_.sample({}, names_, values_, value); }
    void operator()(const HistogramValue& value) {
        write_histogram(writer_, names_, values_, value.bounds, value.buckets, value.sum);
    }
    void operator()(const SummaryValue& value) {
        for (const auto& [quantile, number] : value.quantiles)
            writer_.sample({}, names_, values_, {"quantile", quantile}, number);
        writer_.sample("_sum", names_, values_, value.sum);
        writer_.sample("_count", names_, values_, value.count);
    }

  private:
    TextWriter& writer_;
    std::vector<std::string_view> names_;
    std::vector<std::string_view> values_;
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
                       ExpositionFormat format, std::shared_ptr<const ApplicationSnapshot> application)
    : snapshot_(std::move(snapshot)),
      families_(std::move(families)),
      application_(std::move(application)),
      view_(*snapshot_),
      writer_(format, block_size + block_slack) {}

std::string_view Exposition::next_block() {
    writer_.clear();
    if (stage_ == Stage::catalogue && write_catalogue())
        stage_ = Stage::families;
    if (stage_ == Stage::families && write_families())
        stage_ = Stage::application;
    if (stage_ == Stage::application && write_application())
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
        if (element_ == 0 && !own_written_)
            writer_.begin_family(metric.header());
        if (!write_row(metric))
            return false;
    }
    family_ = 0;
    return true;
}

bool Exposition::write_row(const Metric& metric) {
    const PublishedFamily* const application = application_ ? application_->find(metric.name) : nullptr;
    if (!own_written_) {
        const bool preferred = application_ && application_->prefers(metric.name);
        if (!preferred && !write_own(metric))
            return false;
        element_ = 0;
        own_written_ = true;
    }
    if (application && !write_series(*application))
        return false;
    element_ = 0;
    own_written_ = false;
    written_.clear();
    return true;
}

bool Exposition::write_series(const PublishedFamily& family) {
    for (; element_ < family.series.size(); ++element_) {
        if (full())
            return false;
        const PublishedSeries& series = family.series[element_];
        SeriesWriter writer(writer_, *series.labels);
        if (written_.empty() || !written_.contains(writer.key()))
            std::visit(writer, series.value);
    }
    return true;
}

bool Exposition::write_application() {
    if (!application_)
        return true;
    for (; family_ < application_->families.size(); ++family_) {
        const PublishedFamily& family = application_->families[family_];
        const auto& header = family.header;
        if (std::ranges::find(catalogue(), std::string_view(header.name), &Metric::name) != catalogue().end())
            continue;
        if (element_ == 0)
            writer_.begin_family(
                {.name = header.name, .type = header.type, .unit = header.unit, .help = header.help});
        if (!write_series(family))
            return false;
        element_ = 0;
    }
    return true;
}

bool Exposition::write_own(const Metric& metric) {
    const bool shared = application_ && application_->find(metric.name) != nullptr;
    RowWriter samples(writer_, metric, shared ? &written_ : nullptr);
    const auto each = [&](const auto& elements, auto emit) {
        for (; element_ < elements.size(); ++element_) {
            if (full())
                return false;
            emit(elements[element_], view_, samples);
        }
        return true;
    };
    bool complete = true;
    if (const auto* const per_site = std::get_if<EmitSite>(&metric.emit))
        complete = each(snapshot_->sites, *per_site);
    else if (const auto* const per_resource = std::get_if<EmitResource>(&metric.emit))
        complete = each(snapshot_->resources, *per_resource);
    else if (const auto* const per_target = std::get_if<EmitTarget>(&metric.emit))
        complete = each(snapshot_->targets, *per_target);
    else if (const auto* const per_backend = std::get_if<EmitBackend>(&metric.emit))
        complete = each(snapshot_->backends, *per_backend);
    else if (const auto* const per_peer = std::get_if<EmitPeer>(&metric.emit))
        complete = each(snapshot_->peers, *per_peer);
    else if (const auto* const once = std::get_if<EmitSnapshot>(&metric.emit))
        (*once)(view_, samples);
    if (complete && metric.emit_rest != nullptr)
        metric.emit_rest(view_, samples);
    return complete;
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
    family_ = 0;
    return true;
}

}  // namespace pangolin
