// Handshakes as their messages on the network tell of them.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bpf/shared/address.h"
#include "loader/bpf_handles.h"
#include "loader/handshake_maps.h"
#include "loader/network_devices.h"
#include "loader/network_hook.h"
#include "loader/wireguard_probe.h"

struct underlay_bpf;

namespace pangolin {

// The keyed BLAKE2s of mac1 (WireGuard paper, section 5.4.4) for messages to `public_key`: its state after
// the block that holds the key.
std::array<std::uint32_t, 8> mac1_state(const std::array<std::uint8_t, 32>& public_key);

// Attached to both directions of the devices under the tunnel. What it can know:
// - SUCCESS, TIMEOUT, COOKIE_REPLY (received) of a handshake, by endpoint;
// - REPLAY, by the endpoint that the initiation came from at first, among the last thousands of accepted
// ones;
// - INVALID_MAC and COOKIE_REPLY (sent), of nobody;
// - UNKNOWN_PEER, of nobody: initiations with a valid mac1 that WireGuard left without a reply for a second.
//   Those that it refused for another reason look the same and are among them: RATE_LIMITED, replays of
//   initiations that were never accepted, decryption that fails.
// Nothing of the messages is authenticated beyond mac1, whose key is public: who knows the interface's public
// key can raise UNKNOWN_PEER, and who sees the packets can end an open handshake.
class UnderlayProbe final : public WireGuardProbe {
  public:
    static Result<std::unique_ptr<UnderlayProbe>> load(const WireGuardInterface& interface,
                                                       const WireGuardListener& listener, HookMode hooks,
                                                       const std::optional<KeptPins>& pins);
    // With start().
    static Result<std::unique_ptr<UnderlayProbe>> open(const WireGuardInterface& interface,
                                                       const WireGuardListener& listener, HookMode hooks);
    ~UnderlayProbe() override;

    // Fails when the programs attach to none of the devices.
    Result<void> start() override;
    HandshakeSource source() const override { return HandshakeSource::underlay; }
    std::size_t attachments() const override;
    std::string_view hook() const override;
    // Attaches to what it can; the error is the first of those that it met.
    Result<void> follow(const WireGuardListener& listener) override;
    void set_namespace(const NetworkNamespace& netns) override;
    std::vector<handshake> take_handshakes() override { return maps_.take_handshakes(); }
    std::vector<HandshakeCount> take_counts() override;
    HandshakeLosses losses() const override { return maps_.losses(); }
    void restore(const HandshakeReadings& readings) override;
    HandshakeReadings readings() const override;
    void forget_written() override { maps_.forget_written(); }
    void unpin() override;

    // Of what is pinned by a probe: the device's index in the namespace that has pins of that name; and
    // whether any has our programs.
    static std::optional<unsigned> device_of(std::string_view name);
    static bool is_attached(const PinFolder& pins);

    // Names of the devices that it is attached to, in the order of their indexes.
    std::vector<std::string> devices() const;
    int program_fd(traffic_direction direction) const;

  private:
    struct AttachedDevice {
        NetworkDevice device;
        NetworkHook hook;
    };
    struct ValidInitiations {
        std::chrono::steady_clock::time_point at;
        std::uint64_t count = 0;
    };

    UnderlayProbe(const NetworkInterface& interface, HookMode hooks);
    Result<void> load(const std::optional<KeptPins>& pins);
    Result<NetworkHook> hook_to(const NetworkDevice& device, ProgramPair programs);
    void detach(AttachedDevice& attached);
    void forget_missing_devices();
    void set_listener(const WireGuardListener& listener);
    Result<void> attach(const NetworkDevice& device);
    std::uint64_t newly_unanswered();

    NetworkInterface interface_;
    HookMode hooks_;
    std::optional<WireGuardListener> listener_;
    // Before the hooks, which end first.
    BpfSkeleton<underlay_bpf> skeleton_;
    Takeover takeover_;
    HandshakeMaps maps_;
    std::map<unsigned, AttachedDevice> attached_;
    std::optional<ValidInitiations> valid_;
    std::uint64_t unanswered_ = 0;
};

}  // namespace pangolin
