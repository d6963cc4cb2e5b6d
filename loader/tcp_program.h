// TCP connections through the tunnels of one interface: how they begin, what they lose, how long they take.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "bpf/shared/tunnel.h"
#include "loader/base/error.h"
#include "loader/bpf_handles.h"
#include "loader/peer_lookup.h"
#include "loader/takeover.h"
#include "loader/wireguard_interface.h"

struct tcp_bpf;

namespace pangolin {

struct SlotTcpCounts {
    std::uint32_t slot = 0;
    tcp_counts counts{};
};

// Counts sockets of the interface's network namespace whose peer lies behind one of its peers. Detaches at
// its end, but what is pinned. Not thread-safe.
class TcpProgram {
  public:
    // start() comes next. `peers` must outlive it. See Takeover::prepare().
    static Result<TcpProgram> load(const WireGuardInterface& interface, const PeerLookup& peers,
                                   std::uint32_t max_peers, const std::optional<KeptPins>& pins);
    // Both, with nothing that outlives the process.
    static Result<TcpProgram> attach(const WireGuardInterface& interface, const PeerLookup& peers,
                                     std::uint32_t max_peers);
    TcpProgram(TcpProgram&&) noexcept;
    TcpProgram& operator=(TcpProgram&&) noexcept;
    ~TcpProgram();

    // Attaches, in the place of the programs of before. From then on `peers` decides whose a socket is.
    Result<void> start();

    // Adds the round-trip times of live connections that were active since the last call.
    Result<void> sample();
    // Where the interface's namespace can be entered now.
    void set_namespace(const NetworkNamespace& netns) { interface_.netns = netns; }

    // What was counted for each slot since it was last forgotten. Reads in batches: there may be thousands.
    std::vector<SlotTcpCounts> read() const;
    // The same of one slot; none when nothing was counted.
    std::optional<tcp_counts> read(std::uint32_t slot) const;
    void forget(std::uint32_t slot);
    // Events that found no room, over the life of its maps.
    std::uint64_t lost() const;
    std::size_t attachments() const;

  private:
    TcpProgram() = default;

    WireGuardInterface interface_;
    BpfSkeleton<tcp_bpf> skeleton_;
    // Null where the kernel cannot list sockets.
    BpfLink sample_link_;
    Takeover takeover_;
};

// Of maps that are pinned there; nothing when there are none.
struct LastTcpCounts {
    std::vector<SlotTcpCounts> counts;
    std::uint64_t lost = 0;
};
LastTcpCounts read_last_tcp_counts(const PinFolder& pins);
// Clears the slots there for which `known` says no.
void forget_tcp_slots(const PinFolder& pins, const std::function<bool(std::uint32_t slot)>& known);

}  // namespace pangolin
