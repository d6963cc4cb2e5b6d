// Allowed IPs compiled into the form that bpf/traffic.bpf.c looks addresses up in.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "bpf/shared/traffic.h"
#include "loader/base/ip_prefix.h"

namespace pangolin {

// A prefix and the slot that its packets are counted in.
struct Route {
    IpPrefix prefix;
    std::uint32_t slot = 0;
};

// Room for one route set in the kernel's maps.
struct RouteCapacity {
    // A power of two.
    std::uint32_t entries = 16;
    std::uint32_t pool_blocks = 1;

    bool holds(const RouteCapacity& other) const {
        return entries >= other.entries && pool_blocks >= other.pool_blocks;
    }
};

// An immutable route set; bpf/shared/traffic.h describes its two parts. Any thread may read it.
class RouteTable {
  public:
    // Longest prefix wins; of equal prefixes the last one in `routes`. Entries are placed for a hash table
    // of at least `minimum.entries`; capacity() says what the result needs, which may be more.
    static RouteTable compile(std::span<const Route> routes, const RouteCapacity& minimum = {});

    // The slot as the kernel would find it; TRAFFIC_SLOT_UNMATCHED when no prefix contains `address`.
    std::uint32_t find(const IpAddress& address) const;

    RouteCapacity capacity() const;
    const route_set& set() const { return set_; }
    std::span<const route_entry> entries() const { return entries_; }
    std::span<const route_pool_block> pool_blocks() const { return pool_blocks_; }
    // 0 for a table without routes.
    std::uint32_t highest_slot() const { return highest_slot_; }
    // Prefixes that are not covered by a pool.
    std::size_t entry_count() const { return entry_count_; }

  private:
    RouteTable() = default;
    void fill_pools(std::span<const Route> by_length);
    void fill_lengths(std::span<const Route> remaining);
    void fill_entries(std::span<const Route> remaining, std::uint32_t minimum);
    bool in_pool(const IpPrefix& prefix) const;

    route_set set_{};
    std::vector<route_entry> entries_;
    std::vector<route_pool_block> pool_blocks_;
    std::size_t entry_count_ = 0;
    std::uint32_t highest_slot_ = 0;
};

}  // namespace pangolin
