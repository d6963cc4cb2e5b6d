#include "exporter/catalogue/rows.h"

namespace pangolin {
namespace {

constexpr auto rows = std::to_array<Metric>({
    {.name = "pangolin_restart_count_total",
     .type = MetricType::counter,
     .help = "Starts of the Pangolin process after the first one that the exporter saw.",
     .source = "FA",
     .emit =
         [](const SnapshotView& view, Samples& samples) {
             if (const auto restarts = view.snapshot().host.pangolin_restarts)
                 samples.add({}, *restarts);
         },
     .has_source = [](const Snapshot& snapshot) { return snapshot.host.pangolin_restarts.has_value(); }},
    {.name = "pangolin_plugin_fetch_total",
     .type = MetricType::counter,
     .labels = {"plugin", "result"},
     .help = "Fetches of Traefik's plugins, one at each of its starts since the exporter's.",
     .source = "FA",
     .emit =
         [](const SnapshotView& view, Samples& samples) {
             for (const auto& [plugin, fetches] : view.snapshot().host.plugins) {
                 samples.add({plugin, "success"}, fetches.succeeded);
                 samples.add({plugin, "failure"}, fetches.failed);
             }
         },
     .has_source = [](const Snapshot& snapshot) { return !snapshot.host.plugins.empty(); }},
});

}  // namespace

std::span<const Metric> host_rows() {
    return rows;
}

}  // namespace pangolin
