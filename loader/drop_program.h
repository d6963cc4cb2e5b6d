// Packets of one interface's tunnels, and of the UDP underneath, that the kernel drops.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "bpf/shared/tunnel.h"
#include "loader/base/error.h"
#include "loader/bpf_handles.h"
#include "loader/drop_reasons.h"
#include "loader/peer_lookup.h"
#include "loader/takeover.h"
#include "loader/wireguard_interface.h"

struct drops_bpf;

namespace pangolin {

struct DropCount {
    drop_key key{};
    std::uint64_t packets = 0;
};

// Detaches at its end, but what is pinned. Not thread-safe.
class DropProgram {
  public:
    // start() comes next. `peers` must outlive it. See Takeover::prepare().
    static Result<DropProgram> load(const WireGuardInterface& interface, const PeerLookup& peers,
                                    std::uint32_t max_peers, const std::optional<KeptPins>& pins);
    // Both, with nothing that outlives the process.
    static Result<DropProgram> attach(const WireGuardInterface& interface, const PeerLookup& peers,
                                      std::uint32_t max_peers);
    DropProgram(DropProgram&&) noexcept;
    DropProgram& operator=(DropProgram&&) noexcept;
    ~DropProgram();

    // Attaches, in the place of the program of before. From then on `peers` decides whose a packet is.
    Result<void> start();

    // The UDP port whose packets are the tunnel's underlay; 0 for none.
    void set_listen_port(std::uint16_t port);

    // Packets by slot, reason, direction and place since the slot was last forgotten. Reads in batches.
    std::vector<DropCount> read() const;
    void forget(const std::vector<std::uint32_t>& slots);
    // Drops that found no room, over the life of its maps.
    std::uint64_t lost() const;
    const DropReasons& reasons() const { return reasons_; }
    // Whether drops by the kernel's WireGuard are told apart (DROP_IN_WIREGUARD): not without CAP_SYSLOG,
    // under kernel.kptr_restrict=2, and where WireGuard is built into the kernel.
    bool knows_wireguard() const;

  private:
    DropProgram() = default;

    BpfSkeleton<drops_bpf> skeleton_;
    DropReasons reasons_;
    Takeover takeover_;
};

// Of maps that are pinned there; nothing when there are none.
struct LastDropCounts {
    std::vector<DropCount> counts;
    std::uint64_t lost = 0;
};
LastDropCounts read_last_drop_counts(const PinFolder& pins);
// Clears the slots there for which `known` says no.
void forget_drop_slots(const PinFolder& pins, const std::function<bool(std::uint32_t slot)>& known);

}  // namespace pangolin
