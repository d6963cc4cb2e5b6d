// What the two readers have in common in filling a WireGuardDevice.
#pragma once

#include <cstddef>
#include <cstdint>

#include "userspace/wireguard/device.h"

namespace pangolin {

// Empties `device`'s peer number `index` for `public_key` and returns it, keeping the memory of its lists;
// appends it when it is the first beyond the end.
WireGuardPeer& reuse_peer(WireGuardDevice& device, std::size_t index, const WireGuardKey& public_key);

// False when the time is before 1970, does not fit, or has a second or more of nanoseconds.
bool set_handshake_time(std::int64_t seconds, std::int64_t nanoseconds, WireGuardPeer& peer);

}  // namespace pangolin
