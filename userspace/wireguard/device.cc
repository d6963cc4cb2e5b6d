#include "userspace/wireguard/device.h"

#include "userspace/wireguard/netlink_reader.h"
#include "userspace/wireguard/uapi_reader.h"

namespace pangolin {

Result<std::unique_ptr<WireGuardReader>> open_wireguard_reader(const WireGuardInterface& interface) {
    return interface.implementation == WireGuardImplementation::kernel ? open_netlink_reader(interface)
                                                                       : open_uapi_reader(interface);
}

}  // namespace pangolin
