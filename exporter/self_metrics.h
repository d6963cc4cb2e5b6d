// What the exporter knows of itself beyond the snapshot: its web server and its process.
#pragma once

#include <string_view>
#include <vector>

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/metric_family.h>
#include <prometheus/registry.h>

namespace pangolin {

// Thread-safe.
class SelfMetrics {
  public:
    SelfMetrics();

    // `handler` is one of a fixed list of names, never a path that a client made up.
    void count_response(std::string_view handler, unsigned status);
    void count_rejected_connection() { rejected_connections_.Increment(); }
    void set_connections(unsigned connections) { connections_.Set(connections); }
    // Whether the web configuration could be read the last time.
    void set_web_config(bool success);
    void observe_scrape(double seconds) { scrape_duration_.Observe(seconds); }

    // With the process' numbers of this moment.
    std::vector<prometheus::MetricFamily> collect() const;

  private:
    prometheus::Registry registry_;
    prometheus::Family<prometheus::Counter>& responses_;
    prometheus::Gauge& connections_;
    prometheus::Counter& rejected_connections_;
    prometheus::Histogram& scrape_duration_;
};

// The families process_* as Prometheus' clients publish them, from /proc/self; what cannot be read is absent.
std::vector<prometheus::MetricFamily> process_metric_families();

}  // namespace pangolin
