#include "exporter/catalogue/rows.h"

namespace pangolin {
namespace {

std::string_view text(const std::array<char, WireGuardKey::base64_length>& key) {
    return {key.data(), key.size()};
}

constexpr auto rows = std::to_array<Metric>({
    {.name = "pangolin_wg_peer_info",
     .type = MetricType::info,
     .labels = {"interface", "public_key", "site_id"},
     .help = "The site that a WireGuard peer belongs to, to join by interface and public_key.",
     .source = "W",
     .emit =
         [](const PeerSnapshot& peer, const SnapshotView& view, Samples& samples) {
             samples.add({view.interface_label(peer.interface), text(peer.public_key),
                          peer.site ? std::string_view(peer.site->site_id) : unassigned_site_id},
                         std::uint64_t{1});
         }},
    {.name = "pangolin_wg_peer_receive_bytes_total",
     .type = MetricType::counter,
     .unit = "bytes",
     .labels = {"interface", "public_key"},
     .help = "Encrypted bytes received from a WireGuard peer.",
     .source = "W",
     .emit =
         [](const PeerSnapshot& peer, const SnapshotView& view, Samples& samples) {
             samples.add({view.interface_label(peer.interface), text(peer.public_key)}, peer.receive_bytes);
         }},
    {.name = "pangolin_wg_peer_transmit_bytes_total",
     .type = MetricType::counter,
     .unit = "bytes",
     .labels = {"interface", "public_key"},
     .help = "Encrypted bytes sent to a WireGuard peer.",
     .source = "W",
     .emit =
         [](const PeerSnapshot& peer, const SnapshotView& view, Samples& samples) {
             samples.add({view.interface_label(peer.interface), text(peer.public_key)}, peer.transmit_bytes);
         }},
    {.name = "pangolin_wg_peer_last_handshake_timestamp_seconds",
     .type = MetricType::gauge,
     .unit = "seconds",
     .labels = {"interface", "public_key"},
     .help = "Unix time of a WireGuard peer's last handshake, 0 when there was none.",
     .source = "W",
     .emit =
         [](const PeerSnapshot& peer, const SnapshotView& view, Samples& samples) {
             samples.add({view.interface_label(peer.interface), text(peer.public_key)},
                         peer.last_handshake_seconds);
         }},
});

}  // namespace

std::span<const Metric> peer_rows() {
    return rows;
}

}  // namespace pangolin
