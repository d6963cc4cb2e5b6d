// Families that applications alone measure, in the order of the catalogue's documentation. A row leaves this
// file when the exporter has a source of its own for it.
#include "exporter/catalogue/rows.h"

namespace pangolin {
namespace {

constexpr auto rows = std::to_array<Metric>({
    {.name = "pangolin_auth_active_users",
     .type = MetricType::gauge,
     .labels = {"auth_method"},
     .help = "Distinct users with a session that has not expired.",
     .source = "A"},
    {.name = "pangolin_ui_active_sessions",
     .type = MetricType::gauge,
     .help = "Sessions of the dashboard that have not expired.",
     .source = "A"},
    {.name = "pangolin_restart_count_total",
     .type = MetricType::counter,
     .help = "Starts of the Pangolin process after the first one seen.",
     .source = "A"},
    {.name = "pangolin_plugin_fetch_total",
     .type = MetricType::counter,
     .labels = {"plugin", "result"},
     .help = "Fetches of Traefik plugins by result.",
     .source = "A"},
    {.name = "pangolin_db_pool_connections",
     .type = MetricType::gauge,
     .labels = {"state"},
     .help = "Connections of Pangolin to its database by state.",
     .source = "A"},
    {.name = "pangolin_db_wait_seconds_total",
     .type = MetricType::counter,
     .unit = "seconds",
     .help = "Seconds that Pangolin waited for its database.",
     .source = "A"},
    {.name = "pangolin_background_queue_depth",
     .type = MetricType::gauge,
     .labels = {"job_type"},
     .help = "Background jobs that wait, by type.",
     .source = "A"},
});

}  // namespace

std::span<const Metric> application_rows() {
    return rows;
}

}  // namespace pangolin
