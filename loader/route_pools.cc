#include "loader/route_pools.h"

#include <algorithm>
#include <bit>

namespace pangolin {
namespace {

// Consecutive prefixes; `last` is the highest address of any of them.
struct Cluster {
    std::uint32_t first = 0;
    std::uint32_t last = 0;
    std::uint32_t prefixes = 0;

    std::uint64_t size() const { return std::uint64_t{last} - first + 1; }
    // The pool that it would be: whole blocks.
    route_pool pool(std::uint32_t offset) const {
        const std::uint32_t base = first & ~(ROUTE_POOL_BLOCK - 1U);
        return {.base = base,
                .size = (last | (ROUTE_POOL_BLOCK - 1U)) - base + 1,
                .offset = offset,
                .reserved = 0};
    }
    bool dense() const {
        return size() <= std::uint64_t{max_addresses_per_prefix} * prefixes && size() <= max_pool_addresses &&
               pool(0).size <= max_pool_addresses;
    }
};

std::uint32_t last_address(const IpPrefix& prefix) {
    const std::uint32_t host_bits = prefix.length == 0 ? ~0U : (1ULL << (32 - prefix.length)) - 1;
    return prefix.network.v4_value() | host_bits;
}

// The length of a prefix of max_addresses_per_prefix addresses.
constexpr int widest_candidate = 32 - std::countr_zero(max_addresses_per_prefix);

std::vector<IpPrefix> candidates(std::span<const Route> routes) {
    std::vector<IpPrefix> result;
    for (const Route& route : routes) {
        // A prefix wider than its share of a pool would make the pool sparse by itself.
        if (route.prefix.network.family == IpFamily::v4 && route.prefix.length >= widest_candidate)
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
        const route_pool pool = cluster.pool(offset);
        if (offset + pool.size > max_pool_addresses)
            continue;
        pools.push_back(pool);
        offset += pool.size;
    }
    return pools;
}

}  // namespace pangolin
