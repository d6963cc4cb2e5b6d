#include "exporter/catalogue.h"

#include <bpf/libbpf.h>

#include <algorithm>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>

namespace pangolin {

namespace {

constexpr std::array<std::string_view, TRAFFIC_DIRECTIONS> direction_names{"ingress", "egress"};
constexpr std::array<std::string_view, TRAFFIC_PROTOCOLS> protocol_names{"tcp", "udp", "icmp", "other"};
constexpr std::array<std::string_view, TRAFFIC_UNDECODABLE_REASONS> undecodable_names{
    "truncated", "bad_version", "bad_header_length"};

constexpr std::uint64_t zero_or_one(bool value) {
    return value ? 1 : 0;
}

std::string_view text(const std::array<char, WireGuardKey::base64_length>& key) {
    return {key.data(), key.size()};
}

// A protocol is published once a packet of it was seen, in both directions then: most sites use one or two,
// and at thousands of sites the zeros of the others would be most of the answer.
void emit_traffic(const SiteSnapshot& site, Samples& samples, __u64 traffic_count::* what) {
    const auto& count = site.traffic.count;
    for (std::size_t protocol = 0; protocol < TRAFFIC_PROTOCOLS; ++protocol) {
        if (count[TRAFFIC_INGRESS][protocol].packets == 0 && count[TRAFFIC_EGRESS][protocol].packets == 0)
            continue;
        for (std::size_t direction = 0; direction < TRAFFIC_DIRECTIONS; ++direction)
            samples.add({site.site_id(), direction_names[direction], protocol_names[protocol]},
                        std::uint64_t{count[direction][protocol].*what});
    }
}

void emit_tunnel_up(const SiteSnapshot& site, const SnapshotView&, Samples& samples) {
    if (site.tunnel_up)
        samples.add({site.site_id(), "wireguard"}, zero_or_one(*site.tunnel_up));
}

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

// Every interface has maps of its own; what they lost stands once for each kind of map.
void emit_lost_updates(const SnapshotView& view, Samples& samples) {
    std::map<std::pair<std::string_view, std::string_view>, std::uint64_t> sums;
    for (const LostUpdates& lost : view.snapshot().lost_updates)
        sums[{lost.map, lost.reason}] += lost.count;
    for (const auto& [labels, sum] : sums)
        samples.add({labels.first, labels.second}, sum);
}

void emit_undecodable(const SnapshotView& view, Samples& samples) {
    const auto& interfaces = view.snapshot().interfaces;
    for (std::uint32_t i = 0; i < interfaces.size(); ++i)
        for (std::size_t direction = 0; direction < TRAFFIC_DIRECTIONS; ++direction)
            for (std::size_t reason = 0; reason < TRAFFIC_UNDECODABLE_REASONS; ++reason)
                samples.add({view.interface_label(i), direction_names[direction], undecodable_names[reason]},
                            interfaces[i].undecodable[direction][reason]);
}

const SiteHealth& health_of(const SiteSnapshot& site) {
    static const SiteHealth nothing;
    return site.health ? *site.health : nothing;
}

// Seconds, as Prometheus wants them.
const std::array<double, LATENCY_BOUNDS> latency_bounds = [] {
    std::array<double, LATENCY_BOUNDS> bounds{};
    std::ranges::transform(latency_bounds_us, bounds.begin(), [](__u32 bound) { return bound / 1e6; });
    return bounds;
}();

// Nothing is published of a site that never had an observation: at thousands of sites that would be most of
// the answer.
void emit_latency(const SiteSnapshot& site, Samples& samples, const Latency& latency) {
    if (!latency.empty())
        samples.add_histogram({site.site_id(), "wireguard"}, latency_bounds, latency.histogram().bucket,
                              static_cast<double>(latency.histogram().sum_us) / 1e6);
}

// What can happen to any peer, and to nobody's messages, is there from the start, so that its first increase
// is seen; the rest once it has happened.
void emit_handshakes(const SiteSnapshot& site, const SnapshotView&, Samples& samples) {
    static constexpr std::array<std::string_view, HANDSHAKE_RESULTS> names{
        "success", "invalid_mac", "unknown_peer", "replay", "rate_limited", "timeout", "cookie_reply"};
    const auto& handshakes = health_of(site).handshakes;
    for (std::size_t result = 0; result < names.size(); ++result) {
        const bool of_peer = result == HANDSHAKE_SUCCESS || result == HANDSHAKE_TIMEOUT;
        const bool of_nobody = result == HANDSHAKE_INVALID_MAC || result == HANDSHAKE_UNKNOWN_PEER ||
                               result == HANDSHAKE_COOKIE_REPLY;
        const bool always = site.site ? site.had_peer && of_peer : of_nobody;
        if (always || handshakes[result] > 0)
            samples.add({site.site_id(), names[result]}, handshakes[result]);
    }
}

void emit_reconnects(const SiteSnapshot& site, const SnapshotView&, Samples& samples) {
    static constexpr std::array<std::string_view, reconnect_reasons> names{"key_change", "endpoint_change",
                                                                           "timeout"};
    for (std::size_t reason = 0; site.site && site.had_peer && reason < names.size(); ++reason)
        samples.add({site.site_id(), "wireguard", names[reason]}, health_of(site).reconnects[reason]);
}

void emit_tcp_connections(const SiteSnapshot& site, const SnapshotView&, Samples& samples) {
    static constexpr std::array<std::string_view, TCP_RESULTS> names{"success", "refused", "timeout",
                                                                     "unreachable", "aborted"};
    const auto& connections = health_of(site).tcp_connections;
    if (std::ranges::all_of(connections, [](std::uint64_t count) { return count == 0; }))
        return;
    for (std::size_t result = 0; result < names.size(); ++result)
        samples.add({site.site_id(), names[result]}, connections[result]);
}

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
            series.insert({target.dialled->to_string(),
                           target.site ? directory.sites[*target.site].site_id : "",
                           directory.resources[target.resource].resource_id,
                           target.real ? target.real->to_string() : ""});
    for (const auto& [backend, site_id, resource_id, real] : series)
        samples.add({backend, site_id, resource_id, real}, std::uint64_t{1});
}

std::string_view libbpf_version() {
    std::string_view version = libbpf_version_string();
    if (version.starts_with('v'))
        version.remove_prefix(1);
    return version;
}

constexpr auto rows = std::to_array<Metric>({
    // Sites
    {.name = "pangolin_site_active_sites",
     .type = MetricType::gauge,
     .labels = {"region"},
     .help = "Sites whose tunnel is up, by the region of their exit node, else its name.",
     .source = "DW",
     .emit = [](const SnapshotView& view, Samples& samples) {
         for (const ActiveSites& active : view.snapshot().active_sites)
             samples.add({active.region}, active.sites);
     }},
    {.name = "pangolin_site_info",
     .type = MetricType::info,
     .labels = {"site_id", "name", "org", "type", "exit_node", "region"},
     .help = "Names of a site, to join by site_id.",
     .source = "D",
     .emit = [](const SiteSnapshot& entry, const SnapshotView&, Samples& samples) {
         if (const Site* const site = entry.site)
             samples.add({site->site_id, site->name, site->organisation, to_string(site->type), site->exit_node,
                          site->region}, std::uint64_t{1});
     }},
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
    {.name = "pangolin_site_online",
     .type = MetricType::gauge,
     .labels = {"site_id", "transport"},
     .help = "1 when the site is reachable: websocket and local as Pangolin sees it, wireguard as the kernel does.",
     .source = "DW",
     .emit = emit_online},
    {.name = "pangolin_site_bandwidth_bytes_total",
     .type = MetricType::counter,
     .unit = "bytes",
     .labels = {"site_id", "direction", "protocol"},
     .help = "Bytes of IP packets through the site's tunnel, IP headers included.",
     .source = "K",
     .emit = [](const SiteSnapshot& site, const SnapshotView&, Samples& samples) {
         emit_traffic(site, samples, &traffic_count::bytes);
     }},
    {.name = "pangolin_site_packets_total",
     .type = MetricType::counter,
     .unit = "packets",
     .labels = {"site_id", "direction", "protocol"},
     .help = "IP packets through the site's tunnel, as they are on the wire.",
     .source = "K",
     .emit = [](const SiteSnapshot& site, const SnapshotView&, Samples& samples) {
         emit_traffic(site, samples, &traffic_count::packets);
     }},
    {.name = "pangolin_site_uptime_seconds_total",
     .type = MetricType::counter,
     .unit = "seconds",
     .labels = {"site_id"},
     .help = "Seconds during which the site's tunnel was seen up.",
     .source = "W",
     .emit = [](const SiteSnapshot& site, const SnapshotView&, Samples& samples) {
         if (site.uptime_seconds)
             samples.add({site.site_id()}, *site.uptime_seconds);
     }},
    {.name = "pangolin_site_connection_drops_total",
     .type = MetricType::counter,
     .labels = {"site_id"},
     .help = "Times that the site went from up to down.",
     .source = "W",
     .emit = [](const SiteSnapshot& site, const SnapshotView&, Samples& samples) {
         if (site.site && site.had_peer)
             samples.add({site.site_id()}, health_of(site).connection_drops);
     }},
    {.name = "pangolin_site_handshake_latency_seconds",
     .type = MetricType::histogram,
     .unit = "seconds",
     .labels = {"site_id", "transport"},
     .help = "Time from this host's handshake message to the answer that completed the handshake.",
     .source = "K",
     .emit = [](const SiteSnapshot& site, const SnapshotView&, Samples& samples) {
         emit_latency(site, samples, health_of(site).handshake_latency);
     }},
    {.name = "pangolin_site_packet_drops_total",
     .type = MetricType::counter,
     .labels = {"site_id", "direction", "reason"},
     .help = "Packets that this host dropped, by the kernel's reason: of the tunnel, of the encrypted UDP (underlay_), by WireGuard itself (wireguard_).",
     .source = "K",
     .emit = [](const SiteSnapshot& site, const SnapshotView&, Samples& samples) {
         for (const PacketDrops& drops : health_of(site).packet_drops)
             samples.add({site.site_id(), direction_names[drops.direction], drops.reason}, drops.packets);
     }},

    // Tunnels
    {.name = "pangolin_tunnel_up",
     .type = MetricType::gauge,
     .labels = {"site_id", "transport"},
     .help = "1 when the site's tunnel is up; for wireguard by its handshakes and packets.",
     .source = "W",
     .emit = emit_tunnel_up},
    {.name = "pangolin_tunnel_bytes_total",
     .type = MetricType::counter,
     .unit = "bytes",
     .labels = {"site_id", "transport", "direction"},
     .help = "Bytes that WireGuard itself counted: encrypted, with padding, keepalives and handshakes.",
     .source = "W",
     .emit = [](const SiteSnapshot& site, const SnapshotView&, Samples& samples) {
         if (site.tunnel_receive_bytes)
             samples.add({site.site_id(), "wireguard", direction_names[TRAFFIC_INGRESS]}, *site.tunnel_receive_bytes);
         if (site.tunnel_transmit_bytes)
             samples.add({site.site_id(), "wireguard", direction_names[TRAFFIC_EGRESS]}, *site.tunnel_transmit_bytes);
     }},
    {.name = "pangolin_tunnel_latency_seconds",
     .type = MetricType::histogram,
     .unit = "seconds",
     .labels = {"site_id", "transport"},
     .help = "Round-trip times through the site's tunnel: of TCP connections, smoothed; of handshakes while there are none.",
     .source = "K",
     .emit = [](const SiteSnapshot& site, const SnapshotView&, Samples& samples) {
         emit_latency(site, samples, health_of(site).tunnel_latency);
     }},
    {.name = "pangolin_tunnel_reconnects_total",
     .type = MetricType::counter,
     .labels = {"site_id", "transport", "reason"},
     .help = "Times that a tunnel came up anew: with another key, from another endpoint, after it had been down.",
     .source = "W",
     .emit = emit_reconnects},
    {.name = "pangolin_wg_handshake_total",
     .type = MetricType::counter,
     .labels = {"site_id", "result"},
     .help = "WireGuard handshakes by result; those of nobody known have the site_id unassigned.",
     .source = "K",
     .emit = emit_handshakes},
    {.name = "pangolin_tcp_connections_total",
     .type = MetricType::counter,
     .labels = {"site_id", "result"},
     .help = "TCP connections of the interface's network namespace through the site's tunnel, by how the attempt ended.",
     .source = "K",
     .emit = emit_tcp_connections},
    {.name = "pangolin_tcp_retransmits_total",
     .type = MetricType::counter,
     .labels = {"site_id"},
     .help = "TCP segments that were sent again from the interface's network namespace through the site's tunnel.",
     .source = "K",
     .emit = [](const SiteSnapshot& site, const SnapshotView&, Samples& samples) {
         const SiteHealth& health = health_of(site);
         if (health.tcp_connections[TCP_RESULT_SUCCESS] > 0 || health.tcp_retransmits > 0)
             samples.add({site.site_id()}, health.tcp_retransmits);
     }},

    // WireGuard peers
    {.name = "pangolin_wg_peer_info",
     .type = MetricType::info,
     .labels = {"interface", "public_key", "site_id"},
     .help = "The site that a WireGuard peer belongs to, to join by interface and public_key.",
     .source = "W",
     .emit = [](const PeerSnapshot& peer, const SnapshotView& view, Samples& samples) {
         samples.add({view.interface_label(peer.interface), text(peer.public_key),
                      peer.site ? std::string_view(peer.site->site_id) : unassigned_site_id}, std::uint64_t{1});
     }},
    {.name = "pangolin_wg_peer_receive_bytes_total",
     .type = MetricType::counter,
     .unit = "bytes",
     .labels = {"interface", "public_key"},
     .help = "Encrypted bytes received from a WireGuard peer.",
     .source = "W",
     .emit = [](const PeerSnapshot& peer, const SnapshotView& view, Samples& samples) {
         samples.add({view.interface_label(peer.interface), text(peer.public_key)}, peer.receive_bytes);
     }},
    {.name = "pangolin_wg_peer_transmit_bytes_total",
     .type = MetricType::counter,
     .unit = "bytes",
     .labels = {"interface", "public_key"},
     .help = "Encrypted bytes sent to a WireGuard peer.",
     .source = "W",
     .emit = [](const PeerSnapshot& peer, const SnapshotView& view, Samples& samples) {
         samples.add({view.interface_label(peer.interface), text(peer.public_key)}, peer.transmit_bytes);
     }},
    {.name = "pangolin_wg_peer_last_handshake_timestamp_seconds",
     .type = MetricType::gauge,
     .unit = "seconds",
     .labels = {"interface", "public_key"},
     .help = "Unix time of a WireGuard peer's last handshake, 0 when there was none.",
     .source = "W",
     .emit = [](const PeerSnapshot& peer, const SnapshotView& view, Samples& samples) {
         samples.add({view.interface_label(peer.interface), text(peer.public_key)}, peer.last_handshake_seconds);
     }},

    // The exporter itself
    {.name = "pangolin_exporter_build_info",
     .type = MetricType::info,
     .labels = {"version", "libbpf"},
     .help = "Version of the exporter and of the libbpf that it runs with.",
     .source = "S",
     .emit = [](const SnapshotView&, Samples& samples) {
         samples.add({PANGOLIN_VERSION, libbpf_version()}, std::uint64_t{1});
     }},
    {.name = "pangolin_exporter_source_up",
     .type = MetricType::gauge,
     .labels = {"source"},
     .help = "1 when the last read of the source succeeded.",
     .source = "S",
     .emit = [](const SnapshotView& view, Samples& samples) {
         for (const SourceStatus& source : view.snapshot().sources)
             samples.add({source.name}, zero_or_one(source.up));
     }},
    {.name = "pangolin_exporter_feature_enabled",
     .type = MetricType::gauge,
     .labels = {"feature"},
     .help = "1 when this host offers what the feature needs and it is in use.",
     .source = "S",
     .emit = [](const SnapshotView& view, Samples& samples) {
         for (const FeatureStatus& feature : view.snapshot().features)
             samples.add({feature.name}, zero_or_one(feature.enabled));
     }},
    {.name = "pangolin_exporter_collection_duration_seconds",
     .type = MetricType::summary,
     .unit = "seconds",
     .help = "Wall time of the collections from kernel, WireGuard and metadata.",
     .source = "S",
     .emit = [](const SnapshotView& view, Samples& samples) {
         samples.add_summary({}, view.snapshot().collections_seconds_sum, view.snapshot().collections);
     }},
    {.name = "pangolin_exporter_attachments",
     .type = MetricType::gauge,
     .labels = {"hook"},
     .help = "Attached eBPF programs, by the kind of hook.",
     .source = "S",
     .emit = [](const SnapshotView& view, Samples& samples) {
         for (const Attachments& attachments : view.snapshot().attachments)
             samples.add({attachments.hook}, attachments.count);
     }},
    {.name = "pangolin_exporter_map_entries",
     .type = MetricType::gauge,
     .labels = {"interface", "map"},
     .help = "Entries in use of an eBPF map.",
     .source = "S",
     .emit = [](const SnapshotView& view, Samples& samples) {
         for (const MapUsage& usage : view.snapshot().maps)
             samples.add({view.interface_label(usage.interface), usage.map}, usage.entries);
     }},
    {.name = "pangolin_exporter_map_max_entries",
     .type = MetricType::gauge,
     .labels = {"interface", "map"},
     .help = "Entries that an eBPF map has room for.",
     .source = "S",
     .emit = [](const SnapshotView& view, Samples& samples) {
         for (const MapUsage& usage : view.snapshot().maps)
             samples.add({view.interface_label(usage.interface), usage.map}, usage.max_entries);
     }},
    {.name = "pangolin_exporter_lost_updates_total",
     .type = MetricType::counter,
     .labels = {"map", "reason"},
     .help = "Packets that were counted inexactly, for the wrong peer or not at all, by reason.",
     .source = "K",
     .emit = emit_lost_updates},
    {.name = "pangolin_exporter_undecodable_packets_total",
     .type = MetricType::counter,
     .unit = "packets",
     .labels = {"interface", "direction", "reason"},
     .help = "Packets whose remote address could not be read, by reason.",
     .source = "K",
     .emit = emit_undecodable},
    {.name = "pangolin_exporter_http_responses_total",
     .type = MetricType::counter,
     .labels = {"handler", "code"},
     .help = "Answers of the exporter's web server.",
     .source = "S"},
    {.name = "pangolin_exporter_http_connections",
     .type = MetricType::gauge,
     .help = "Open connections to the exporter's web server.",
     .source = "S"},
    {.name = "pangolin_exporter_http_connections_rejected_total",
     .type = MetricType::counter,
     .help = "Connections that the exporter's web server turned away because it had too many.",
     .source = "S"},
    {.name = "pangolin_exporter_scrape_duration_seconds",
     .type = MetricType::histogram,
     .unit = "seconds",
     .help = "Time from a request for metrics to the last byte of its answer.",
     .source = "S"},

    // The process, under the names that all Prometheus clients use
    {.name = "process_cpu_seconds_total",
     .type = MetricType::counter,
     .unit = "seconds",
     .help = "Total user and system CPU time spent in seconds.",
     .source = "S"},
    {.name = "process_open_fds",
     .type = MetricType::gauge,
     .help = "Number of open file descriptors.",
     .source = "S"},
    {.name = "process_max_fds",
     .type = MetricType::gauge,
     .help = "Maximum number of open file descriptors.",
     .source = "S"},
    {.name = "process_virtual_memory_bytes",
     .type = MetricType::gauge,
     .unit = "bytes",
     .help = "Virtual memory size in bytes.",
     .source = "S"},
    {.name = "process_resident_memory_bytes",
     .type = MetricType::gauge,
     .unit = "bytes",
     .help = "Resident memory size in bytes.",
     .source = "S"},
    {.name = "process_start_time_seconds",
     .type = MetricType::gauge,
     .unit = "seconds",
     .help = "Start time of the process since unix epoch in seconds.",
     .source = "S"},
});

}  // namespace

std::span<const Metric> catalogue() {
    return rows;
}

const Metric& catalogue_row(std::string_view name) {
    const auto* const row = std::ranges::find(rows, name, &Metric::name);
    if (row == rows.end())
        throw std::logic_error("no row in the catalogue: " + std::string(name));
    return *row;
}

}  // namespace pangolin
