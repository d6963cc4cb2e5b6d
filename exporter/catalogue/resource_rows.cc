#include "exporter/catalogue/rows.h"

#include <set>
#include <string>

namespace pangolin {
namespace {

void emit_resource_info(const SnapshotView& view, Samples& samples) {
    if (!view.snapshot().directory)
        return;
    for (const Resource& resource : view.snapshot().directory->resources)
        samples.add(
            {resource.resource_id, resource.name, resource.organisation, resource.domain, resource.protocol},
            std::uint64_t{1});
}

// Targets that differ only in the path that leads to them are one series.
void emit_backend_info(const SnapshotView& view, Samples& samples) {
    if (!view.snapshot().directory)
        return;
    const SiteDirectory& directory = *view.snapshot().directory;
    std::set<std::array<std::string, 4>> series;
    for (const Target& target : directory.targets)
        if (target.enabled && target.dialled)
            series.insert(
                {target.dialled->to_string(),
                 target.site ? directory.sites[*target.site].site_id : std::string(unassigned_site_id),
                 directory.resources[target.resource].resource_id,
                 target.real ? target.real->to_string() : ""});
    for (const auto& [backend, site_id, resource_id, real] : series)
        samples.add({backend, site_id, resource_id, real}, std::uint64_t{1});
}

// In the order of enum ConnectionError.
constexpr std::array<std::string_view, connection_errors> error_names{"connect_timeout", "connect_refused",
                                                                      "reset", "early_close", "unreachable"};

constexpr auto rows = std::to_array<Metric>({
    {.name = "pangolin_resource_info",
     .type = MetricType::info,
     .labels = {"resource_id", "name", "org", "domain", "protocol"},
     .help = "Names of a resource, to join by resource_id.",
     .source = "D",
     .emit = emit_resource_info},
    {.name = "pangolin_backend_info",
     .type = MetricType::info,
     .labels = {"backend", "site_id", "resource_id", "target"},
     .help = "What Traefik dials for a resource at a site, and the target behind it as the site sees it.",
     .source = "D",
     .emit = emit_backend_info},
    {.name = "pangolin_resource_bandwidth_bytes_total",
     .type = MetricType::counter,
     .unit = "bytes",
     .labels = {"site_id", "resource_id", "direction"},
     .help = "Bytes to and from the resource's targets at a site: of IP packets in the tunnel, headers "
             "included, or for a local site TCP payload.",
     .source = "K",
     .emit =
         [](const ResourceAccount& resource, const SnapshotView&, Samples& samples) {
             if (!resource.counted)
                 return;
             for (std::size_t direction = 0; direction < TRAFFIC_DIRECTIONS; ++direction)
                 samples.add(
                     {resource.labels->site_id, resource.labels->resource_id, direction_names[direction]},
                     std::uint64_t{resource.traffic.count[direction].bytes});
         }},
    {.name = "pangolin_resource_active_connections",
     .type = MetricType::gauge,
     .labels = {"site_id", "resource_id", "protocol"},
     .help =
         "Connections in use to the resource's targets at a site: tcp, those established; http, those that "
         "wait for an answer; websocket, those upgraded; udp, the flows of the last 60 seconds.",
     .source = "K",
     .emit =
         [](const ResourceAccount& resource, const SnapshotView&, Samples& samples) {
             if (resource.tcp_connections)
                 samples.add({resource.labels->site_id, resource.labels->resource_id, "tcp"},
                             *resource.tcp_connections);
             if (resource.http_requests)
                 samples.add({resource.labels->site_id, resource.labels->resource_id, "http"},
                             *resource.http_requests);
             if (resource.websockets)
                 samples.add({resource.labels->site_id, resource.labels->resource_id, "websocket"},
                             *resource.websockets);
             if (resource.udp_flows)
                 samples.add({resource.labels->site_id, resource.labels->resource_id, "udp"},
                             *resource.udp_flows);
         }},
    {.name = "pangolin_resource_errors_total",
     .type = MetricType::counter,
     .labels = {"site_id", "resource_id", "backend", "error_type"},
     .help = "Connections to the resource's backends that failed or ended before their time, by cause, and "
             "requests answered with a server error.",
     .source = "KH",
     .emit =
         [](const TargetAccount& target, const SnapshotView&, Samples& samples) {
             for (std::size_t error = 0; error < connection_errors; ++error)
                 if (target.errors[error] > 0)
                     samples.add({target.labels->site_id, target.labels->resource_id, target.labels->backend,
                                  error_names[error]},
                                 target.errors[error]);
             if (const std::uint64_t server_errors = target.http.server_errors(); server_errors > 0)
                 samples.add(
                     {target.labels->site_id, target.labels->resource_id, target.labels->backend, "http_5xx"},
                     server_errors);
         }},
    {.name = "pangolin_backend_connection_errors_total",
     .type = MetricType::counter,
     .labels = {"backend", "site_id", "error_type"},
     .help = "Connections to the backend that failed or ended before their time, by cause.",
     .source = "K",
     .emit =
         [](const BackendAccount& backend, const SnapshotView&, Samples& samples) {
             for (std::size_t error = 0; error < connection_errors; ++error)
                 if (backend.errors[error] > 0)
                     samples.add({backend.labels->backend, backend.labels->site_id, error_names[error]},
                                 backend.errors[error]);
         }},
    {.name = "pangolin_backend_health_status",
     .type = MetricType::gauge,
     .labels = {"backend", "site_id"},
     .help = "1 when the backend is healthy: by Pangolin's health check where it has one and the tunnel is "
             "up, else by the connections of the last minute.",
     .source = "DK",
     .emit =
         [](const BackendAccount& backend, const SnapshotView&, Samples& samples) {
             if (backend.healthy)
                 samples.add({backend.labels->backend, backend.labels->site_id},
                             zero_or_one(*backend.healthy));
         }},
    {.name = "pangolin_client_bandwidth_bytes_total",
     .type = MetricType::counter,
     .unit = "bytes",
     .labels = {"client_id", "direction", "protocol"},
     .help = "Bytes of IP packets through the tunnel of a client that is a peer of this host, IP headers "
             "included.",
     .source = "K",
     .emit =
         [](const SnapshotView& view, Samples& samples) {
             for (const ClientSnapshot& client : view.snapshot().clients)
                 emit_by_protocol(client.client_id, client.traffic, samples, &traffic_count::bytes);
         }},
});

}  // namespace

std::span<const Metric> resource_rows() {
    return rows;
}

}  // namespace pangolin
