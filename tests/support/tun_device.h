// A TUN device in a network namespace of the test's own: like WireGuard, an interface without link-layer
// headers, whose other end is the test.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "loader/base/error.h"
#include "loader/base/ip_prefix.h"
#include "loader/base/unique_fd.h"
#include "loader/wireguard_interface.h"

namespace pangolin::test {

// Moves the calling thread, and threads that it starts, into a new network namespace; back at the end.
class NewNetworkNamespace {
  public:
    NewNetworkNamespace();
    NewNetworkNamespace(const NewNetworkNamespace&) = delete;
    NewNetworkNamespace& operator=(const NewNetworkNamespace&) = delete;
    ~NewNetworkNamespace();

    bool entered() const { return entered_; }

  private:
    UniqueFd before_;
    bool entered_ = false;
};

// How a written packet reaches the kernel.
struct TunPacketForm {
    // Payload of a segment if the packet is a super-packet of TCP or UDP over an IP header without extras.
    std::uint16_t gso_size = 0;
    // Keep the IP header out of the skb's linear part. Needs a packet of more than a page.
    bool scattered = false;
};

class TunDevice {
  public:
    // Up, with 100.89.128.1/20 and fd00::1/64, in the calling thread's namespace.
    static Result<TunDevice> create(const std::string& name);

    // What attaching needs to know of it.
    const WireGuardInterface& interface() const { return interface_; }

    // A packet into the host: the hook sees it as ingress.
    Result<void> write(std::span<const std::uint8_t> packet, const TunPacketForm& form = {});
    // A packet that the host has sent; nothing when none comes within `wait_ms`.
    std::optional<std::vector<std::uint8_t>> read(int wait_ms);

  private:
    UniqueFd fd_;
    WireGuardInterface interface_;
};

}  // namespace pangolin::test
