// Which ranges of IPv4 addresses are worth an array.
#pragma once

#include <span>
#include <vector>

#include "bpf/shared/traffic.h"
#include "loader/route_table.h"

namespace pangolin {

// At most this many addresses in all pools together: 1 MiB of slots a set.
inline constexpr std::uint32_t max_pool_addresses = 1U << 18;

// At most this many addresses for each prefix that lies in a pool, so that memory follows the peers.
inline constexpr std::uint32_t max_addresses_per_prefix = 64;

// The up to ROUTE_POOLS densest ranges, most prefixes first, aligned to ROUTE_POOL_BLOCK addresses, with
// their offsets set. `routes` may be in any order; IPv6 and wide prefixes never make a pool.
std::vector<route_pool> choose_pools(std::span<const Route> routes);

}  // namespace pangolin
