// Two WireGuard interfaces of the kernel's module in network namespaces of the test's own, and a UDP socket
// beside the second that speaks to the first as its peer would.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "loader/base/unique_fd.h"
#include "loader/wireguard_interface.h"

namespace pangolin::test {

using Message = std::vector<std::uint8_t>;
using PublicKey = std::array<std::uint8_t, 32>;

// Runs a shell command and returns what it prints; throws when it fails.
std::string run_command(const std::string& command);

struct WireGuardKeys {
    std::string secret;      // Base64
    std::string public_key;  // Base64
    PublicKey bytes{};

    static WireGuardKeys generate();
};

// One side: namespace, device `pgxwg0` with the address 100.89.NUMBER.1, underlay address 10.211.0.NUMBER.
struct WireGuardSide {
    int number = 0;
    std::string netns;
    WireGuardKeys keys;
    WireGuardInterface interface;

    std::string run(const std::string& command) const;
    // "wg set pgxwg0 ARGUMENTS"
    void set(const std::string& arguments) const;
    void set_secret(const std::string& secret) const;
    std::uint64_t tx_dropped() const;
};

// Removes what it made at its end. Throws when something cannot be made.
class ModuleWorld {
  public:
    ModuleWorld();
    ModuleWorld(const ModuleWorld&) = delete;
    ModuleWorld& operator=(const ModuleWorld&) = delete;
    ~ModuleWorld();

    const WireGuardSide& host() const { return host_; }
    const WireGuardSide& site() const { return site_; }

    // Makes `from` know `to` as a peer; with an endpoint it begins a handshake at once.
    void connect(const WireGuardSide& from, const WireGuardSide& to, bool begin) const;
    static void disconnect(const WireGuardSide& from, const WireGuardSide& to);

    // An initiation for the host that the site's WireGuard made with that key.
    Message initiation_of(const WireGuardKeys& keys) const;
    // The message with the mac1 that its content needs to be accepted by `side`.
    static Message with_mac1(Message message, const WireGuardSide& side);

    // From the socket in the site's namespace.
    void send(std::span<const std::uint8_t> message, const WireGuardSide& to) const;
    std::optional<Message> receive(int wait_ms) const;
    // Throws away what came until nothing comes for `quiet_ms`; returns how many there were of each length.
    std::vector<std::size_t> drain(int quiet_ms) const;

  private:
    void tear_down() const;

    WireGuardSide host_;
    WireGuardSide site_;
    UniqueFd socket_;
};

}  // namespace pangolin::test
