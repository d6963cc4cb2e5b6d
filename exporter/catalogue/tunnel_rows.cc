#include "exporter/catalogue/rows.h"

#include <algorithm>

namespace pangolin {
namespace {

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

constexpr auto rows = std::to_array<Metric>({
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
     .emit =
         [](const SiteSnapshot& site, const SnapshotView&, Samples& samples) {
             if (site.tunnel_receive_bytes)
                 samples.add({site.site_id(), "wireguard", direction_names[TRAFFIC_INGRESS]},
                             *site.tunnel_receive_bytes);
             if (site.tunnel_transmit_bytes)
                 samples.add({site.site_id(), "wireguard", direction_names[TRAFFIC_EGRESS]},
                             *site.tunnel_transmit_bytes);
         }},
    {.name = "pangolin_tunnel_latency_seconds",
     .type = MetricType::histogram,
     .unit = "seconds",
     .labels = {"site_id", "transport"},
     .help = "Round-trip times through the site's tunnel: of TCP connections, smoothed; of handshakes while "
             "there are none.",
     .source = "K",
     .emit = [](const SiteSnapshot& site, const SnapshotView&,
                Samples& samples) { emit_latency(site, samples, health_of(site).tunnel_latency); }},
    {.name = "pangolin_tunnel_reconnects_total",
     .type = MetricType::counter,
     .labels = {"site_id", "transport", "reason"},
     .help =
         "Times that a tunnel came up anew: with another key, from another endpoint, after it had been down.",
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
     .help = "TCP connections of the interface's network namespace through the site's tunnel, by how the "
             "attempt ended.",
     .source = "K",
     .emit = emit_tcp_connections},
    {.name = "pangolin_tcp_retransmits_total",
     .type = MetricType::counter,
     .labels = {"site_id"},
     .help = "TCP segments that were sent again from the interface's network namespace through the site's "
             "tunnel.",
     .source = "K",
     .emit =
         [](const SiteSnapshot& site, const SnapshotView&, Samples& samples) {
             const SiteHealth& health = health_of(site);
             if (health.tcp_connections[TCP_RESULT_SUCCESS] > 0 || health.tcp_retransmits > 0)
                 samples.add({site.site_id()}, health.tcp_retransmits);
         }},
});

}  // namespace

std::span<const Metric> tunnel_rows() {
    return rows;
}

}  // namespace pangolin
