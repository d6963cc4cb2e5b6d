// Handshakes, and packets that wait for them, as the kernel's WireGuard module handles them.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "loader/bpf_handles.h"
#include "loader/handshake_maps.h"
#include "loader/wireguard_probe.h"

struct wireguard_module_bpf;

namespace pangolin {

// Programs on entry and exit of the module's functions (fentry and fexit). Needs BTF of the module, that is
// Linux 5.12 with CONFIG_DEBUG_INFO_BTF_MODULES or a newer one; tells at open() what is missing. While it is
// attached the module cannot be unloaded. What it knows:
// - SUCCESS, TIMEOUT and COOKIE_REPLY (received) of a handshake, by public key;
// - REPLAY and RATE_LIMITED of initiations that name a peer, by its public key. REPLAY is whatever the module
//   refuses of them that does not come too soon: an old timestamp, or one that does not decrypt, for the
//   name is no proof of holding the key;
// - INVALID_MAC, UNKNOWN_PEER, RATE_LIMITED under load and COOKIE_REPLY (sent), of nobody.
class ModuleProbe final : public WireGuardProbe {
  public:
    static Result<std::unique_ptr<ModuleProbe>> load(const NetworkInterface& interface,
                                                     const std::optional<KeptPins>& pins);
    // With start().
    static Result<std::unique_ptr<ModuleProbe>> open(const WireGuardInterface& interface);
    // Whether the programs load on this host, and the interface is the module's; attaches nothing.
    static Result<void> supported();
    static Result<void> supported(const WireGuardInterface& interface);
    ~ModuleProbe() override;

    Result<void> start() override;
    HandshakeSource source() const override { return HandshakeSource::module; }
    std::size_t attachments() const override;
    std::string_view hook() const override { return "fexit"; }
    // The module itself knows port, key and peers.
    Result<void> follow(const WireGuardListener&) override { return {}; }
    void set_namespace(const NetworkNamespace&) override {}
    std::vector<handshake> take_handshakes() override { return maps_.take_handshakes(); }
    std::vector<HandshakeCount> take_counts() override { return maps_.take_counts(); }
    // Together exactly what the module added to the device's tx_dropped. If a queue was over its limit
    // already at open(), what its next packet pushes out is not in it.
    std::vector<QueueDrops> take_queue_drops() override;
    HandshakeLosses losses() const override;
    void restore(const HandshakeReadings& readings) override;
    HandshakeReadings readings() const override;
    void forget_written() override { maps_.forget_written(); }

  private:
    using PublicKey = std::array<std::uint8_t, 32>;
    struct Taken {
        std::uint64_t packets = 0;
        std::chrono::steady_clock::time_point last_change;
    };
    using Skeleton = BpfSkeleton<wireguard_module_bpf>;

    ModuleProbe(Skeleton skeleton, Takeover takeover);

    Skeleton skeleton_;
    Takeover takeover_;
    HandshakeMaps maps_;
    // What take_queue_drops() has returned of each element.
    std::map<PublicKey, Taken> queue_drops_taken_;
};

}  // namespace pangolin
