// How the tunnel of a site is doing: handshakes, latencies, reconnects, drops, TCP.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bpf/shared/handshake.h"
#include "bpf/shared/tunnel.h"
#include "userspace/latency.h"

namespace pangolin {

// Why a tunnel that was up came up anew.
enum class ReconnectReason : std::uint8_t {
    key_change,       // another WireGuard key for the same site: newt was started again
    endpoint_change,  // the same key from another address
    timeout,          // the same key after the tunnel had been down
};
inline constexpr std::size_t reconnect_reasons = 3;

// Dropped wire packets of one direction and reason.
struct PacketDrops {
    traffic_direction direction{};
    std::string reason;
    std::uint64_t packets = 0;
};

// Totals of one site; they only grow.
struct SiteHealth {
    std::array<std::uint64_t, HANDSHAKE_RESULTS> handshakes{};
    std::array<std::uint64_t, reconnect_reasons> reconnects{};
    // Times that the site went from up to down.
    std::uint64_t connection_drops = 0;
    // Responder: response sent to first data. Initiator: initiation sent to response.
    Latency handshake_latency;
    // Smoothed round-trip times of TCP connections; handshake latencies while there are none.
    Latency tunnel_latency;
    std::array<std::uint64_t, TCP_RESULTS> tcp_connections{};
    std::uint64_t tcp_retransmits = 0;
    std::vector<PacketDrops> packet_drops;

    void add_drops(traffic_direction direction, std::string_view reason, std::uint64_t packets);
};

}  // namespace pangolin
