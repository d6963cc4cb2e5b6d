#include "exporter/catalogue/rows.h"

namespace pangolin {
namespace {

// Pangolin's view is of its WebSocket to newt; a plain WireGuard site has none, and for a local site the two
// ends are the same host. The kernel's view stands beside it where a tunnel ends here.
void emit_online(const SiteSnapshot& site, const SnapshotView& view, Samples& samples) {
    if (site.site && site.site->online) {
        if (site.site->type == SiteType::newt)
            samples.add({site.site_id(), "websocket"}, zero_or_one(*site.site->online));
        else if (site.site->type == SiteType::local)
            samples.add({site.site_id(), "local"}, zero_or_one(*site.site->online));
    }
    emit_tunnel_up(site, view, samples);
}

constexpr auto rows = std::to_array<Metric>({
    {.name = "pangolin_site_active_sites",
     .type = MetricType::gauge,
     .labels = {"region"},
     .help = "Sites whose tunnel is up, by the region of their exit node, else its name.",
     .source = "DW",
     .emit =
         [](const SnapshotView& view, Samples& samples) {
             for (const ActiveSites& active : view.snapshot().active_sites)
                 samples.add({active.region}, active.sites);
         }},
    {.name = "pangolin_site_info",
     .type = MetricType::info,
     .labels = {"site_id", "name", "org", "type", "exit_node", "region"},
     .help = "Names of a site, to join by site_id.",
     .source = "D",
     .emit =
         [](const SiteSnapshot& entry, const SnapshotView&, Samples& samples) {
             if (const Site* const site = entry.site)
                 samples.add({site->site_id, site->name, site->organisation, to_string(site->type),
                              site->exit_node, site->region},
                             std::uint64_t{1});
         }},
    {.name = "pangolin_site_online",
     .type = MetricType::gauge,
     .labels = {"site_id", "transport"},
     .help = "1 when the site is reachable: websocket and local as Pangolin sees it, wireguard as the kernel "
             "does.",
     .source = "DW",
     .emit = emit_online},
    {.name = "pangolin_site_bandwidth_bytes_total",
     .type = MetricType::counter,
     .unit = "bytes",
     .labels = {"site_id", "direction", "protocol"},
     .help =
         "Bytes of IP packets through the site's tunnel, IP headers included; for a local site TCP payload.",
     .source = "K",
     .emit =
         [](const SiteSnapshot& site, const SnapshotView&, Samples& samples) {
             emit_by_protocol(site.site_id(), site.traffic, samples, &traffic_count::bytes);
         }},
    {.name = "pangolin_site_packets_total",
     .type = MetricType::counter,
     .unit = "packets",
     .labels = {"site_id", "direction", "protocol"},
     .help = "IP packets through the site's tunnel, as they are on the wire.",
     .source = "K",
     .emit =
         [](const SiteSnapshot& site, const SnapshotView&, Samples& samples) {
             emit_by_protocol(site.site_id(), site.traffic, samples, &traffic_count::packets);
         }},
    {.name = "pangolin_relay_bytes_total",
     .type = MetricType::counter,
     .unit = "bytes",
     .labels = {"site_id", "direction"},
     .help = "Bytes of client traffic that gerbil relays to the site, part of those through its tunnel.",
     .source = "K",
     .emit =
         [](const SiteSnapshot& site, const SnapshotView&, Samples& samples) {
             const auto& count = site.relay.count;
             if (count[TRAFFIC_INGRESS].bytes == 0 && count[TRAFFIC_EGRESS].bytes == 0)
                 return;
             for (std::size_t direction = 0; direction < TRAFFIC_DIRECTIONS; ++direction)
                 samples.add({site.site_id(), direction_names[direction]},
                             std::uint64_t{count[direction].bytes});
         }},
    {.name = "pangolin_site_uptime_seconds_total",
     .type = MetricType::counter,
     .unit = "seconds",
     .labels = {"site_id"},
     .help = "Seconds during which the site's tunnel was seen up.",
     .source = "W",
     .emit =
         [](const SiteSnapshot& site, const SnapshotView&, Samples& samples) {
             if (site.uptime_seconds)
                 samples.add({site.site_id()}, *site.uptime_seconds);
         }},
    {.name = "pangolin_site_connection_drops_total",
     .type = MetricType::counter,
     .labels = {"site_id"},
     .help = "Times that the site went from up to down.",
     .source = "W",
     .emit =
         [](const SiteSnapshot& site, const SnapshotView&, Samples& samples) {
             if (site.site && site.had_peer)
                 samples.add({site.site_id()}, health_of(site).connection_drops);
         }},
    {.name = "pangolin_site_handshake_latency_seconds",
     .type = MetricType::histogram,
     .unit = "seconds",
     .labels = {"site_id", "transport"},
     .help = "Time from this host's handshake message to the answer that completed the handshake; websocket, "
             "from newt's request for a token to its WebSocket.",
     .source = "KH",
     .emit = [](const SiteSnapshot& site, const SnapshotView&,
                Samples& samples) { emit_latency(site, samples, health_of(site).handshake_latency); },
     .emit_rest =
         [](const SnapshotView& view, Samples& samples) {
             if (const auto& counts = view.snapshot().control_plane)
                 for (const auto& [labels, taken] : counts->websocket_handshakes)
                     samples.add_histogram({labels[0], "websocket"}, Durations::bounds, taken.buckets(),
                                           taken.sum());
         }},
    {.name = "pangolin_site_packet_drops_total",
     .type = MetricType::counter,
     .labels = {"site_id", "direction", "reason"},
     .help = "Packets that this host dropped, by the kernel's reason: of the tunnel, of the encrypted UDP "
             "(underlay_), by WireGuard itself (wireguard_).",
     .source = "K",
     .emit =
         [](const SiteSnapshot& site, const SnapshotView&, Samples& samples) {
             for (const PacketDrops& drops : health_of(site).packet_drops)
                 samples.add({site.site_id(), direction_names[drops.direction], drops.reason}, drops.packets);
         }},
});

}  // namespace

std::span<const Metric> site_rows() {
    return rows;
}

}  // namespace pangolin
