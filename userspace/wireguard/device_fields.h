// What the two readers have in common in filling a WireGuardDevice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "loader/base/ip_prefix.h"
#include "userspace/wireguard/device.h"

namespace pangolin {

// Empties `device`'s peer number `index` for `public_key` and returns it, keeping the memory of its lists;
// appends it when it is the first beyond the end.
WireGuardPeer& reuse_peer(WireGuardDevice& device, std::size_t index, const WireGuardKey& public_key);

// False when the time is before 1970, does not fit, or has a second or more of nanoseconds.
bool set_handshake_time(std::int64_t seconds, std::int64_t nanoseconds, WireGuardPeer& peer);

// Replaces `endpoint` by "198.51.100.7:51820" or "[2001:db8::1]:51820".
void write_endpoint(const IpAddress& address, std::uint16_t port, std::string& endpoint);

}  // namespace pangolin
