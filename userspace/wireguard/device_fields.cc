#include "userspace/wireguard/device_fields.h"

#include <fmt/format.h>

#include <iterator>
#include <limits>

namespace pangolin {

WireGuardPeer& reuse_peer(WireGuardDevice& device, std::size_t index, const WireGuardKey& public_key) {
    if (index == device.peers.size())
        device.peers.emplace_back();
    WireGuardPeer& peer = device.peers[index];
    peer.public_key = public_key;
    peer.last_handshake_ns = 0;
    peer.receive_bytes = 0;
    peer.transmit_bytes = 0;
    peer.allowed_ips.clear();
    peer.endpoint.clear();
    return peer;
}

bool set_handshake_time(std::int64_t seconds, std::int64_t nanoseconds, WireGuardPeer& peer) {
    constexpr std::int64_t second = 1'000'000'000;
    if (seconds < 0 || nanoseconds < 0 || nanoseconds >= second ||
        seconds >= std::numeric_limits<std::int64_t>::max() / second)
        return false;
    peer.last_handshake_ns = seconds * second + nanoseconds;
    return true;
}

void write_endpoint(const IpAddress& address, std::uint16_t port, std::string& endpoint) {
    endpoint.clear();
    if (address.family == IpFamily::v6) {
        fmt::format_to(std::back_inserter(endpoint), "[{}]:{}", address.to_string(), port);
        return;
    }
    const std::uint32_t value = address.v4_value();
    fmt::format_to(std::back_inserter(endpoint), "{}.{}.{}.{}:{}", value >> 24, value >> 16 & 0xff,
                   value >> 8 & 0xff, value & 0xff, port);
}

}  // namespace pangolin
