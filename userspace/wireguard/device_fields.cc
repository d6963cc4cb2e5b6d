#include "userspace/wireguard/device_fields.h"

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
    peer.endpoint.reset();
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

}  // namespace pangolin
