#include "loader/route_pools.h"

#include <algorithm>

namespace pangolin {
namespace {

// Consecutive prefixes; `last` is the highest address of any of them.
struct Cluster {
    std::uint32_t first = 0;
    std::uint32_t last = 0;
    std::uint32_t prefixes = 0;

    std::uint64_t size() const { return std::uint64_t{last} - first + 1; }
    bool dense() const {
        return size() <= max_pool_addresses && size() <= std::uint64_t{max_addresses_per_prefix} * prefixes;
    }
};

std::uint32_t last_address(const IpPrefix& prefix) {
    const std::uint32_t host_bits = prefix.length == 0 ? ~0U : (1ULL << (32 - prefix.length)) - 1;
    return prefix.network.v4_value() | host_bits;
}

std::vector<IpPrefix> candidates(std::span<const Route> routes) {
    std::vector<IpPrefix> result;
    for (const Route& route : routes) {
        // A prefix wider than a pool's share of addresses would make the pool sparse by itself.
        if (route.prefix.network.family == IpFamily::v4 && route.prefix.length >= 26)
            result.push_back(route.prefix);
    }
    std::ranges::sort(result);
    return result;
}

std::vector<Cluster> clusters_of(const std::vector<IpPrefix>& prefixes) {
    std::vector<Cluster> clusters;
    for (const IpPrefix& prefix : prefixes) {
        const std::uint32_t last = last_address(prefix);
        if (!clusters.empty()) {
            Cluster joined = clusters.back();
            joined.last = std::max(joined.last, last);
            ++joined.prefixes;
            if (joined.dense()) {
                clusters.back() = joined;
                continue;
            }
        }
        clusters.push_back({prefix.network.v4_value(), last, 1});
    }
    return clusters;
}

}  // namespace

std::vector<route_pool> choose_pools(std::span<const Route> routes) {
    std::vector<Cluster> clusters = clusters_of(candidates(routes));
    std::ranges::stable_sort(clusters, std::ranges::greater{}, &Cluster::prefixes);

    std::vector<route_pool> pools;
    std::uint32_t offset = 0;
    for (const Cluster& cluster : clusters) {
        if (pools.size() == ROUTE_POOLS)
            break;
        const std::uint32_t base = cluster.first & ~(ROUTE_POOL_BLOCK - 1U);
        const std::uint32_t size = (cluster.last | (ROUTE_POOL_BLOCK - 1U)) - base + 1;
        if (offset + size > max_pool_addresses)
            continue;
        pools.push_back({.base = base, .size = size, .offset = offset, .reserved = 0});
        offset += size;
    }
    return pools;
}

}  // namespace pangolin
