// TCP connections through the tunnels of one interface: how they begin, what they lose, how long they take.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "bpf/shared/tunnel.h"
#include "loader/base/error.h"
#include "loader/peer_lookup.h"
#include "loader/wireguard_interface.h"

struct tcp_bpf;

namespace pangolin {

struct SlotTcpCounts {
    std::uint32_t slot = 0;
    tcp_counts counts{};
};

// Counts sockets of the interface's network namespace whose peer lies behind one of its peers. Detaches at
// its end. Not thread-safe.
class TcpProgram {
  public:
    // `peers` must outlive it.
    static Result<TcpProgram> attach(const WireGuardInterface& interface, const PeerLookup& peers,
                                     std::uint32_t max_peers);
    TcpProgram(TcpProgram&&) noexcept;
    TcpProgram& operator=(TcpProgram&&) noexcept;
    ~TcpProgram();

    // Adds the round-trip times of live connections that were active since the last call.
    Result<void> sample();
    // Where the interface's namespace can be entered now.
    void set_namespace(const NetworkNamespace& netns) { interface_.netns = netns; }

    // What was counted for each slot since it was last taken. Reads in batches: there may be thousands.
    std::vector<SlotTcpCounts> read() const;
    // The same of one slot, which is forgotten; none when nothing was counted.
    std::optional<tcp_counts> take(std::uint32_t slot);
    // Events that found no room, over its life.
    std::uint64_t lost() const;
    std::size_t attachments() const;

  private:
    struct SkeletonDeleter {
        void operator()(tcp_bpf* skeleton) const;
    };
    TcpProgram() = default;

    WireGuardInterface interface_;
    std::unique_ptr<tcp_bpf, SkeletonDeleter> skeleton_;
};

}  // namespace pangolin
