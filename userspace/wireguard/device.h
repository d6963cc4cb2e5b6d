// What WireGuard itself says of an interface: its peers, their allowed IPs and counters.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "loader/base/endpoint.h"
#include "loader/base/error.h"
#include "loader/base/ip_prefix.h"
#include "loader/wireguard_interface.h"
#include "userspace/wireguard/key.h"

namespace pangolin {

struct WireGuardPeer {
    WireGuardKey public_key;
    // Unix time in nanoseconds of the last completed handshake; 0 when there was none.
    std::int64_t last_handshake_ns = 0;
    // Encrypted bytes as WireGuard counts them: padding, keepalives and handshakes included.
    std::uint64_t receive_bytes = 0;
    std::uint64_t transmit_bytes = 0;
    std::vector<IpPrefix> allowed_ips;
    // None while it is not known.
    std::optional<Endpoint> endpoint;
};

struct WireGuardDevice {
    WireGuardKey public_key;
    std::uint16_t listen_port = 0;
    std::vector<WireGuardPeer> peers;
};

// Reads one interface again and again over a socket that stays open in the interface's namespace.
// Not thread-safe: one thread at a time. Holding a netlink socket holds its namespace; drop the reader
// as soon as the interface is gone.
class WireGuardReader {
  public:
    WireGuardReader() = default;
    WireGuardReader(const WireGuardReader&) = delete;
    WireGuardReader& operator=(const WireGuardReader&) = delete;
    virtual ~WireGuardReader() = default;
    // Replaces the contents of `device`, reusing its memory. On an error `device` is unspecified; ENODEV as
    // the error's code means that the interface is gone.
    virtual Result<void> read(WireGuardDevice& device) = 0;
};

// Generic netlink (WG_CMD_GET_DEVICE, linux/wireguard.h) for the kernel's implementation, the UAPI socket
// (https://www.wireguard.com/xplatform/) for others.
Result<std::unique_ptr<WireGuardReader>> open_wireguard_reader(const WireGuardInterface& interface);

}  // namespace pangolin
