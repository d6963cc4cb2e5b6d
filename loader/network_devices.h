// The devices that a tunnel's encrypted packets can pass.
#pragma once

#include <cstdint>
#include <vector>

#include "loader/base/error.h"
#include "loader/network_interface.h"

namespace pangolin {

// What a packet begins with at the device's tc hooks.
enum class LinkLayer : std::uint8_t {
    ethernet,  // Ethernet and what behaves like it: veth, bridges, "lo"
    none,      // the IP header: TUN, PPP, IP tunnels
};

struct NetworkDevice : NetworkInterface {
    LinkLayer link_layer = LinkLayer::ethernet;
};

// Devices of `tunnel`'s namespace under it, by index. Left out are devices
// - that are WireGuard's own: the tunnel, and links of kind "wireguard" (a tunnel inside another one's is not
//   looked for),
// - that hand their packets to another device of the namespace, which sees them too: ports of bridges, bonds
//   and the like (members of a VRF stay), ipvlan on top of one of the list, ifb,
// - whose link-layer header is neither Ethernet's nor absent (InfiniBand, say).
Result<std::vector<NetworkDevice>> list_underlay_devices(const NetworkInterface& tunnel);

}  // namespace pangolin
