// Packets of one interface's tunnels, and of the UDP underneath, that the kernel drops.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bpf/shared/tunnel.h"
#include "loader/base/error.h"
#include "loader/peer_lookup.h"
#include "loader/wireguard_interface.h"

struct drops_bpf;

namespace pangolin {

struct DropCount {
    drop_key key{};
    std::uint64_t packets = 0;
};

// Names of the running kernel's drop reasons, from its own BTF: their numbers change between kernels.
class DropReasons {
  public:
    static DropReasons of_this_kernel();

    // "netfilter_drop" for SKB_DROP_REASON_NETFILTER_DROP, "not_specified" where the kernel gives no reason.
    std::string name(std::uint32_t reason) const;
    // Frees that are no drops: SKB_NOT_DROPPED_YET, SKB_CONSUMED.
    bool benign(std::uint32_t reason) const;

  private:
    std::vector<std::string> names_;
};

// Detaches at its end. Not thread-safe.
class DropProgram {
  public:
    // `peers` must outlive it.
    static Result<DropProgram> attach(const WireGuardInterface& interface, const PeerLookup& peers,
                                      std::uint32_t max_peers);
    DropProgram(DropProgram&&) noexcept;
    DropProgram& operator=(DropProgram&&) noexcept;
    ~DropProgram();

    // The UDP port whose packets are the tunnel's underlay; 0 for none.
    void set_listen_port(std::uint16_t port);

    // Packets by slot, reason, direction and place since each was last forgotten.
    std::vector<DropCount> read() const;
    // Forgets all of a slot.
    void forget(std::uint32_t slot);
    // Drops that found no room, over its life.
    std::uint64_t lost() const;
    const DropReasons& reasons() const { return reasons_; }

  private:
    struct SkeletonDeleter {
        void operator()(drops_bpf* skeleton) const;
    };
    DropProgram() = default;

    std::unique_ptr<drops_bpf, SkeletonDeleter> skeleton_;
    DropReasons reasons_;
};

}  // namespace pangolin
