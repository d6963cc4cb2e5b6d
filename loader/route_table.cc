#include "loader/route_table.h"

#include <algorithm>
#include <map>
#include <utility>

#include "loader/cuckoo_table.h"
#include "loader/route_pools.h"

namespace pangolin {
namespace {

route_address key_of(const IpAddress& address) {
    return {.high = address.high, .low = address.low};
}

std::uint32_t tag_of(const IpPrefix& prefix) {
    return route_tag(prefix.network.family == IpFamily::v6, prefix.length);
}

bool same_network(const route_address& a, const route_address& b) {
    return a.low == b.low && a.high == b.high;
}

// Distinct prefixes, shortest first, so that a later one may be painted over an earlier one.
std::vector<Route> distinct_by_length(std::span<const Route> routes) {
    std::map<IpPrefix, std::uint32_t> slots;
    for (const Route& route : routes)
        slots[route.prefix] = route.slot;
    std::vector<Route> result;
    result.reserve(slots.size());
    for (const auto& [prefix, slot] : slots)
        result.push_back({prefix, slot});
    std::ranges::stable_sort(result, {}, [](const Route& route) { return route.prefix.length; });
    return result;
}

}  // namespace

RouteTable RouteTable::compile(std::span<const Route> routes, const RouteCapacity& minimum) {
    RouteTable table;
    const std::vector<Route> by_length = distinct_by_length(routes);
    for (const Route& route : by_length)
        table.highest_slot_ = std::max(table.highest_slot_, route.slot);
    table.fill_pools(by_length);
    std::vector<Route> remaining;
    std::ranges::copy_if(by_length, std::back_inserter(remaining),
                         [&](const Route& route) { return !table.in_pool(route.prefix); });
    table.entry_count_ = remaining.size();
    table.fill_lengths(remaining);
    table.fill_entries(remaining, minimum.entries);
    return table;
}

// Every address of a pool gets the slot of the longest prefix that contains it, wide prefixes included.
void RouteTable::fill_pools(std::span<const Route> by_length) {
    const std::vector<route_pool> pools = choose_pools(by_length);
    std::ranges::copy(pools, set_.pool);
    std::uint32_t addresses = 0;
    for (const route_pool& pool : pools)
        addresses += pool.size;
    pool_blocks_.assign(addresses / ROUTE_POOL_BLOCK, route_pool_block{});

    for (const Route& route : by_length) {
        if (route.prefix.network.family != IpFamily::v4)
            continue;
        const std::uint64_t first = route.prefix.network.v4_value();
        const std::uint64_t end = first + (std::uint64_t{1} << (32 - route.prefix.length));
        for (const route_pool& pool : pools) {
            const std::uint64_t from = std::max<std::uint64_t>(first, pool.base);
            const std::uint64_t to = std::min(end, std::uint64_t{pool.base} + pool.size);
            for (std::uint64_t address = from; address < to; ++address) {
                const std::uint64_t position = pool.offset + (address - pool.base);
                pool_blocks_[position / ROUTE_POOL_BLOCK].slot[position % ROUTE_POOL_BLOCK] = route.slot;
            }
        }
    }
}

bool RouteTable::in_pool(const IpPrefix& prefix) const {
    if (prefix.network.family != IpFamily::v4)
        return false;
    const std::uint64_t size = std::uint64_t{1} << (32 - prefix.length);
    return std::ranges::any_of(set_.pool, [&](const route_pool& pool) {
        const std::uint64_t offset = std::uint64_t{prefix.network.v4_value()} - pool.base;
        return prefix.network.v4_value() >= pool.base && offset + size <= pool.size;
    });
}

void RouteTable::fill_lengths(std::span<const Route> remaining) {
    for (auto route = remaining.rbegin(); route != remaining.rend(); ++route) {
        const IpFamily family = route->prefix.network.family;
        std::uint32_t& count = family == IpFamily::v4 ? set_.v4_lengths : set_.v6_lengths;
        route_length* const lengths = family == IpFamily::v4 ? set_.v4 : set_.v6;
        const std::uint32_t tag = tag_of(route->prefix);
        if (count > 0 && lengths[count - 1].tag == tag)
            continue;
        const IpMask mask = mask_of(family, route->prefix.length);
        lengths[count++] = {.mask = {.high = mask.high, .low = mask.low}, .tag = tag};
    }
}

void RouteTable::fill_entries(std::span<const Route> remaining, std::uint32_t minimum) {
    std::vector<route_entry> wanted;
    wanted.reserve(remaining.size());
    for (const Route& route : remaining)
        wanted.push_back({.network = key_of(route.prefix.network),
                          .tag = tag_of(route.prefix),
                          .slot = route.slot,
                          .reserved = 0});
    CuckooTable<route_entry> table = build_cuckoo_table<route_entry>(
        wanted, minimum,
        [](const route_entry& entry, std::uint64_t seed) {
            return route_hash(&entry.network, entry.tag, seed);
        },
        [](const route_entry& entry) { return entry.tag == 0; });
    entries_ = std::move(table.entries);
    set_.hash_seed = table.seed;
}

std::uint32_t RouteTable::find(const IpAddress& address) const {
    if (address.family == IpFamily::v4) {
        for (const route_pool& pool : set_.pool) {
            const std::uint32_t offset = address.v4_value() - pool.base;
            if (offset < pool.size) {
                const std::uint32_t position = pool.offset + offset;
                return pool_blocks_[position / ROUTE_POOL_BLOCK].slot[position % ROUTE_POOL_BLOCK];
            }
        }
    }
    const bool v4 = address.family == IpFamily::v4;
    const std::span<const route_length> lengths(v4 ? set_.v4 : set_.v6,
                                                v4 ? set_.v4_lengths : set_.v6_lengths);
    for (const route_length& length : lengths) {
        const route_address network = {.high = address.high & length.mask.high,
                                       .low = address.low & length.mask.low};
        const route_entry* const entry = find_in_cuckoo_table<route_entry>(
            entries_, route_hash(&network, length.tag, set_.hash_seed), [&](const route_entry& each) {
                return each.tag == length.tag && same_network(each.network, network);
            });
        if (entry != nullptr)
            return entry->slot;
    }
    return TRAFFIC_SLOT_UNMATCHED;
}

RouteCapacity RouteTable::capacity() const {
    return {.entries = static_cast<std::uint32_t>(entries_.size()),
            .pool_blocks = std::max<std::uint32_t>(1, static_cast<std::uint32_t>(pool_blocks_.size()))};
}

}  // namespace pangolin
