// Finding WireGuard interfaces.
#pragma once

#include <string>
#include <vector>

#include "loader/base/error.h"
#include "loader/network_namespace.h"

namespace pangolin {

enum class WireGuardImplementation { kernel, userspace };

// One interface, identified by namespace and index: an index alone repeats in every namespace.
struct WireGuardInterface {
    NetworkNamespace netns;
    unsigned index = 0;
    std::string name;
    WireGuardImplementation implementation = WireGuardImplementation::kernel;
    // Path of the UAPI socket; userspace implementations only. May be below /proc/PID/root for a container.
    std::string uapi_socket;

    bool same_as(const WireGuardInterface& other) const {
        return netns.id == other.netns.id && index == other.index && name == other.name;
    }
};

// Lists the WireGuard interfaces of `namespaces`: links of kind "wireguard", and TUN links for which a UAPI
// socket NAME.sock answers in a /run/wireguard folder (the implementation's own mount namespace is looked at
// too). `names` restricts by interface name; empty means all. A namespace that vanished meanwhile is skipped.
Result<std::vector<WireGuardInterface>> find_wireguard_interfaces(
    const std::vector<NetworkNamespace>& namespaces, const std::vector<std::string>& names);

}  // namespace pangolin
