// Targets compiled into the form that bpf/traffic_targets.bpf.h finds them in.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "bpf/shared/traffic.h"
#include "loader/base/ip_prefix.h"

namespace pangolin {

// TCP and UDP number their ports apart.
enum class TargetProtocol : std::uint8_t { tcp = 6, udp = 17 };  // IP protocol numbers

// What a reverse proxy dials inside a tunnel, and where its packets are counted.
struct CountedTarget {
    IpAddress address;
    std::uint16_t port = 0;
    TargetProtocol protocol = TargetProtocol::tcp;
    // TRAFFIC_FIRST_TARGET or more. Several targets may share one.
    std::uint32_t index = TRAFFIC_NO_TARGET;
    // Of a UDP target: see TrafficProgram::read_flows().
    bool has_flows = false;
};

// Room for targets in the kernel's maps.
struct TargetCapacity {
    // Counters, the unused one of TRAFFIC_NO_TARGET included: with 0 or 1 the programs look for no target.
    std::uint32_t indexes = 0;
    // A power of two.
    std::uint32_t entries = 1;

    bool holds(const TargetCapacity& other) const {
        return indexes >= other.indexes && entries >= other.entries;
    }
};

// An immutable set of targets. Any thread may read it.
class TargetTable {
  public:
    // Without targets.
    TargetTable() = default;
    // Of equal address, port and protocol the last one of `targets` counts. Entries are placed for a hash
    // table of at least `minimum.entries`; capacity() says what the result needs, which may be more.
    static TargetTable compile(std::span<const CountedTarget> targets, const TargetCapacity& minimum = {});

    // The index as the kernel would find it; TRAFFIC_NO_TARGET for what is no target.
    std::uint32_t find(const IpAddress& address, std::uint16_t port, TargetProtocol protocol) const;

    TargetCapacity capacity() const;
    // 0 without targets.
    std::uint64_t hash_seed() const { return hash_seed_; }
    std::span<const target_entry> entries() const { return entries_; }
    // Whether the flows of some target are followed.
    bool has_flows() const { return has_flows_; }
    // Different ones, by address alone.
    std::span<const IpAddress> addresses() const { return addresses_; }
    std::size_t size() const { return size_; }

  private:
    std::uint64_t hash_seed_ = 0;
    std::vector<target_entry> entries_{1};
    std::vector<IpAddress> addresses_;
    std::size_t size_ = 0;
    std::uint32_t highest_index_ = 0;
    bool has_flows_ = false;
};

}  // namespace pangolin
