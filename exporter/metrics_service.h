// Instruments for the metrics of Pangolin, for programs that count themselves and publish through this one.
//
//     ApplicationMetrics registry;
//     MetricsService metrics(registry);
//     metrics.site_connection_drops_total().add(1, {{"site_id", "s-abc"}});
//     metrics.site_handshake_latency_seconds().record(0.05, {{"site_id", "s-abc"}, {"transport",
//     "websocket"}}); metrics.set_site_online("s-abc", "websocket", true);
//
// Where a label set is used again and again, look it up once; adding is then wait-free:
//
//     const auto drops = metrics.site_connection_drops_total().with({{"site_id", "s-abc"}});
//     drops.add(1);
//
// A family that the exporter measures itself is not published from here unless metrics.application.prefer
// names it (ApplicationMetrics::admits); recording is allowed all the same, and each recording that looks its
// label set up is counted as a rejected sample.
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <shared_mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "exporter/application/application_metrics.h"
#include "exporter/application/metric_cells.h"
#include "exporter/catalogue.h"

namespace pangolin {

// Label names with their values, in any order. One that is missing is empty; one that the catalogue does not
// list makes the recording void, and it is counted as a rejected sample.
using LabelList = std::initializer_list<std::pair<std::string_view, std::string_view>>;

// Numbers are integers or floating: seconds of a double are counted in 2^-48.
template <class Number>
concept Recordable = std::integral<Number> || std::floating_point<Number>;

// One label set of a counter. A copy is another handle of the same series. Valid also when its service is
// gone. Thread-safe and wait-free.
class BoundCounter {
  public:
    explicit BoundCounter(std::shared_ptr<FixedPointCell> cell) : cell_(std::move(cell)) {}
    // What is negative, infinite or no number is left out: a counter does not decrease.
    void add(Recordable auto amount) const {
        if (amount > 0)
            cell_->add(amount);
    }

  private:
    std::shared_ptr<FixedPointCell> cell_;
};

// One label set of a histogram, as BoundCounter is. What is infinite or no number is left out.
class BoundHistogram {
  public:
    explicit BoundHistogram(std::shared_ptr<HistogramCell> cell) : cell_(std::move(cell)) {}
    void record(double value) const { cell_->record(value); }

  private:
    std::shared_ptr<HistogramCell> cell_;
};

// One label set of a gauge, as BoundCounter is.
class BoundGauge {
  public:
    explicit BoundGauge(std::shared_ptr<GaugeCell> cell) : cell_(std::move(cell)) {}
    void set(double value) const { cell_->set(value); }

  private:
    std::shared_ptr<GaugeCell> cell_;
};

// A family's label sets. Looking one up takes a lock that lookups share; making a new one takes it alone.
template <class Cell>
class Instrument {
  public:
    // `row` is of the catalogue and of Cell's type, else std::logic_error. The registry must outlive it.
    Instrument(ApplicationMetrics& registry, std::string_view row);

    const Metric& row() const { return row_; }
    // Forgets a series; handles of it stay valid and go nowhere.
    void remove(LabelList labels);
    void provide(std::vector<PublishedFamily>& families) const;

  protected:
    // Never null: what cannot be published gets a cell that nobody reads.
    std::shared_ptr<Cell> cell(LabelList labels);

  private:
    struct Series {
        std::shared_ptr<const Labels> labels;
        std::shared_ptr<Cell> cell;
    };

    // The values in the catalogue's order, as one text; false when a label is not the catalogue's.
    bool key_of(LabelList labels, std::string& key) const;
    std::shared_ptr<Cell> make_cell() const;

    ApplicationMetrics& registry_;
    const Metric& row_;
    std::shared_ptr<Cell> sink_;
    mutable std::shared_mutex mutex_;
    std::unordered_map<std::string, Series> series_;
};

class Counter : public Instrument<FixedPointCell> {
  public:
    using Instrument::Instrument;
    BoundCounter with(LabelList labels) { return BoundCounter(cell(labels)); }
    void add(Recordable auto amount, LabelList labels = {}) { with(labels).add(amount); }
};

class Histogram : public Instrument<HistogramCell> {
  public:
    using Instrument::Instrument;
    BoundHistogram with(LabelList labels) { return BoundHistogram(cell(labels)); }
    void record(double value, LabelList labels = {}) { with(labels).record(value); }
};

class Gauge : public Instrument<GaugeCell> {
  public:
    using Instrument::Instrument;
    BoundGauge with(LabelList labels) { return BoundGauge(cell(labels)); }
    void set(double value, LabelList labels = {}) { with(labels).set(value); }
};

// clang-format off
// All instruments: type, and name without "pangolin_". tests/unit/metrics_service_test.cc holds it against the
// catalogue.
#define PANGOLIN_INSTRUMENTS(each) \
    each(Gauge, site_active_sites) \
    each(Gauge, site_online) \
    each(Counter, site_bandwidth_bytes_total) \
    each(Counter, site_uptime_seconds_total) \
    each(Counter, site_connection_drops_total) \
    each(Histogram, site_handshake_latency_seconds) \
    each(Counter, resource_requests_total) \
    each(Histogram, resource_request_duration_seconds) \
    each(Gauge, resource_active_connections) \
    each(Counter, resource_errors_total) \
    each(Counter, resource_bandwidth_bytes_total) \
    each(Gauge, tunnel_up) \
    each(Counter, tunnel_reconnects_total) \
    each(Histogram, tunnel_latency_seconds) \
    each(Counter, tunnel_bytes_total) \
    each(Counter, wg_handshake_total) \
    each(Gauge, backend_health_status) \
    each(Counter, backend_connection_errors_total) \
    each(Histogram, backend_response_size_bytes) \
    each(Counter, auth_requests_total) \
    each(Histogram, auth_request_duration_seconds) \
    each(Gauge, auth_active_users) \
    each(Counter, auth_failure_reasons_total) \
    each(Counter, token_issued_total) \
    each(Counter, token_revoked_total) \
    each(Counter, token_refresh_total) \
    each(Counter, ui_requests_total) \
    each(Gauge, ui_active_sessions) \
    each(Counter, config_reloads_total) \
    each(Counter, restart_count_total) \
    each(Counter, background_jobs_total) \
    each(Gauge, certificates_expiry_days) \
    each(Counter, ws_connections_total) \
    each(Gauge, ws_active_connections) \
    each(Counter, ws_messages_total) \
    each(Histogram, traefik_provider_sync_seconds) \
    each(Counter, traefik_provider_errors_total) \
    each(Counter, plugin_fetch_total) \
    each(Counter, acme_cert_events_total) \
    each(Gauge, acme_cert_expiry_days) \
    each(Gauge, db_pool_connections) \
    each(Counter, db_wait_seconds_total) \
    each(Counter, integration_api_requests_total) \
    each(Histogram, integration_api_duration_seconds) \
    each(Counter, holepunch_orchestration_total) \
    each(Gauge, background_queue_depth)
// clang-format on

// The instruments of the user's document; names, labels and types are the catalogue's. Thread-safe.
class MetricsService final : public ApplicationMetrics::Provider {
  public:
    // The registry publishes what is recorded for as long as this lives, and must outlive it.
    explicit MetricsService(ApplicationMetrics& registry);
    MetricsService(const MetricsService&) = delete;
    MetricsService& operator=(const MetricsService&) = delete;
    ~MetricsService() override;

    void provide(std::vector<PublishedFamily>& families) const override;
    // The names of all instruments' families.
    std::vector<std::string_view> families() const;

    // One accessor for each instrument: Counter& site_connection_drops_total(), ...
#define PANGOLIN_ACCESSOR(Type, name) \
    Type& name() { return name##_; }
    PANGOLIN_INSTRUMENTS(PANGOLIN_ACCESSOR)
#undef PANGOLIN_ACCESSOR

    // The gauges by their labels.
    void set_site_active_sites(std::string_view region, double sites);
    void set_site_online(std::string_view site_id, std::string_view transport, bool online);
    void set_resource_active_connections(std::string_view site_id, std::string_view resource_id,
                                         std::string_view protocol, double connections);
    void set_tunnel_up(std::string_view site_id, std::string_view transport, bool up);
    void set_backend_health_status(std::string_view backend, std::string_view site_id, bool healthy);
    void set_auth_active_users(std::string_view auth_method, double users);
    void set_ui_active_sessions(double sessions);
    void set_certificates_expiry_days(std::string_view site_id, std::string_view resource_id, double days);
    void set_ws_active_connections(std::string_view site_id, double connections);
    void set_acme_cert_expiry_days(std::string_view domain, double days);
    void set_db_pool_connections(std::string_view state, double connections);
    void set_background_queue_depth(std::string_view job_type, double jobs);

  private:
    template <class Function>
    void for_each_instrument(Function function) const;

    ApplicationMetrics& registry_;
#define PANGOLIN_MEMBER(Type, name) Type name##_{registry_, "pangolin_" #name};
    PANGOLIN_INSTRUMENTS(PANGOLIN_MEMBER)
#undef PANGOLIN_MEMBER
};

}  // namespace pangolin
