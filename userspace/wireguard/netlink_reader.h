// Reading a kernel WireGuard interface by generic netlink.
#pragma once

#include <linux/netlink.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "loader/netlink.h"
#include "userspace/wireguard/device.h"

namespace pangolin {

// Puts the messages of one WG_CMD_GET_DEVICE dump together. The kernel cuts a long list of peers, and also
// one peer's long list of allowed IPs, into several messages (linux/wireguard.h).
class DeviceDump {
  public:
    // Replaces the contents of `device`, reusing its memory.
    explicit DeviceDump(WireGuardDevice& device);

    // Takes one message, which must be whole; its contents need not be sane.
    Result<void> add(const nlmsghdr& message);
    // Drops what is left of the device's former contents.
    void finish() { device_.peers.resize(peers_); }

  private:
    Result<void> add_peer(const NetlinkAttributes& attributes);
    WireGuardPeer& peer_of(const WireGuardKey& public_key);

    WireGuardDevice& device_;
    std::size_t peers_ = 0;
};

// A reader whose socket is in the interface's network namespace. Reading needs CAP_NET_ADMIN there, each
// time.
Result<std::unique_ptr<WireGuardReader>> open_netlink_reader(const WireGuardInterface& interface);

}  // namespace pangolin
