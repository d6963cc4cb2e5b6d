// What WireGuard does with handshakes, observed from outside of it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "bpf/shared/handshake.h"
#include "loader/base/error.h"
#include "loader/network_hook.h"
#include "loader/takeover.h"
#include "loader/wireguard_interface.h"

namespace pangolin {

// Where handshakes are observed.
enum class HandshakeSource : std::uint8_t {
    // fentry/fexit on the functions of the kernel's WireGuard module: exact results, and the peer's identity
    // from the module itself.
    module,
    // The messages on the network under the tunnel: for userspace WireGuard, and for kernels without BTF of
    // the module. Peers are known by their endpoints.
    underlay,
};
std::string_view to_string(HandshakeSource source);

// metrics.wireguard.handshakes: `automatic` prefers the module.
enum class HandshakeMode : std::uint8_t { automatic, module, underlay, off };

// The interface as its peers see it.
struct WireGuardListener {
    // 0 while it has none.
    std::uint16_t port = 0;
    std::array<std::uint8_t, 32> public_key{};
    bool operator==(const WireGuardListener&) const = default;
};

// Handshakes that ended with `result` and have no more to tell than their number.
struct HandshakeCount {
    handshake_identity identity{};
    handshake_result result{};
    std::uint64_t count = 0;
};

// Packets for a peer that WireGuard dropped without a word because too many waited for a handshake.
struct QueueDrops {
    // All 0: peers that found no room in the kernel's map.
    std::array<std::uint8_t, 32> public_key{};
    std::uint64_t packets = 0;
};

using HandshakeLosses = std::array<std::uint64_t, HANDSHAKE_LOSS_REASONS>;

// What a probe has returned of what still is in its maps, which outlive the process.
struct HandshakeReadings {
    // Of ended handshakes: the key, and begin_ns.
    std::vector<std::pair<std::uint32_t, std::uint64_t>> handshakes;
    // By the bytes of the key (handshake_count_key, the public key): the count.
    std::vector<std::pair<std::array<std::uint8_t, sizeof(handshake_count_key)>, std::uint64_t>> counts;
    std::vector<std::pair<std::array<std::uint8_t, 32>, std::uint64_t>> queue_drops;
    // Of the underlay: initiations that nobody answered.
    std::uint64_t unanswered = 0;
};

// Observes one interface. Detaches at its end, but what is pinned. Not thread-safe. Holds nothing that keeps
// a network namespace alive.
class WireGuardProbe {
  public:
    WireGuardProbe() = default;
    WireGuardProbe(const WireGuardProbe&) = delete;
    WireGuardProbe& operator=(const WireGuardProbe&) = delete;
    virtual ~WireGuardProbe() = default;

    virtual HandshakeSource source() const = 0;
    // Attaches, in the place of the programs of before.
    virtual Result<void> start() { return {}; }
    // Attached programs, and how ("fexit", "tcx", "clsact").
    virtual std::size_t attachments() const = 0;
    virtual std::string_view hook() const = 0;

    // Follows what changes: the listener, and devices that came or went in the interface's namespace. Call it
    // at every poll.
    virtual Result<void> follow(const WireGuardListener& listener) = 0;
    // Where the interface's namespace can be entered now.
    virtual void set_namespace(const NetworkNamespace& netns) = 0;

    // Handshakes that ended since the last call, those included that nobody finished in time
    // (HANDSHAKE_TIMEOUT). Each is returned once.
    virtual std::vector<handshake> take_handshakes() = 0;
    // What was counted since the last call.
    virtual std::vector<HandshakeCount> take_counts() = 0;
    virtual std::vector<QueueDrops> take_queue_drops() { return {}; }
    virtual HandshakeLosses losses() const = 0;

    // For maps of another process, which has returned this.
    virtual void restore(const HandshakeReadings&) {}
    virtual HandshakeReadings readings() const { return {}; }
    // readings() is written down: makes room.
    virtual void forget_written() {}
    // Ends with the process, as soon as its pins are removed.
    virtual void unpin() {}
};

// Where `mode`, which is not off, has the interface observed; fails where that is not possible.
Result<HandshakeSource> choose_handshake_source(const WireGuardInterface& interface, HandshakeMode mode);

// Loads a probe; start() comes next. `hooks` and `listener` are for the underlay. See Takeover::prepare().
Result<std::unique_ptr<WireGuardProbe>> load_wireguard_probe(HandshakeSource source,
                                                             const WireGuardInterface& interface,
                                                             const WireGuardListener& listener,
                                                             HookMode hooks,
                                                             const std::optional<KeptPins>& pins);

// The rest of what a probe has counted whose maps are pinned in `pins`, and count no more: what is in `taken`
// is left out.
struct LastHandshakes {
    std::vector<handshake> handshakes;
    std::vector<HandshakeCount> counts;
};
LastHandshakes read_last_handshakes(const PinFolder& pins, const HandshakeReadings& taken);

}  // namespace pangolin
