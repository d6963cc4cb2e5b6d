#include "loader/target_table.h"

#include <algorithm>
#include <tuple>

#include "loader/cuckoo_table.h"

namespace pangolin {
namespace {

route_address key_of(const IpAddress& address) {
    return {.high = address.high, .low = address.low};
}

std::uint32_t service_of(const IpAddress& address, std::uint16_t port, TargetProtocol protocol) {
    return target_service(address.family == IpFamily::v6, static_cast<std::uint8_t>(protocol), port);
}

auto identity(const CountedTarget& target) {
    return std::tuple(target.address, target.port, target.protocol);
}

std::vector<CountedTarget> distinct(std::span<const CountedTarget> targets) {
    std::vector<CountedTarget> result(targets.rbegin(), targets.rend());
    std::ranges::stable_sort(result, {}, identity);
    const auto repeated = std::ranges::unique(result, {}, identity);
    result.erase(repeated.begin(), repeated.end());
    return result;
}

}  // namespace

TargetTable TargetTable::compile(std::span<const CountedTarget> targets, const TargetCapacity& minimum) {
    TargetTable table;
    if (targets.empty())
        return table;
    std::vector<target_entry> wanted;
    for (const CountedTarget& target : distinct(targets)) {
        wanted.push_back({.address = key_of(target.address),
                          .service = service_of(target.address, target.port, target.protocol),
                          .target = target.index | (target.has_flows ? TRAFFIC_TARGET_HAS_FLOWS : 0),
                          .reserved = 0});
        table.has_flows_ |= target.has_flows;
        table.highest_index_ = std::max(table.highest_index_, target.index);
        if (table.addresses_.empty() || table.addresses_.back() != target.address)
            table.addresses_.push_back(target.address);
    }
    table.size_ = wanted.size();
    CuckooTable<target_entry> placed = build_cuckoo_table<target_entry>(
        wanted, minimum.entries,
        [](const target_entry& entry, std::uint64_t seed) {
            return target_hash(&entry.address, entry.service, seed);
        },
        [](const target_entry& entry) { return entry.target == TRAFFIC_NO_TARGET; });
    table.entries_ = std::move(placed.entries);
    table.hash_seed_ = placed.seed;
    return table;
}

std::uint32_t TargetTable::find(const IpAddress& address, std::uint16_t port, TargetProtocol protocol) const {
    const route_address key = key_of(address);
    const std::uint32_t service = service_of(address, port, protocol);
    const target_entry* const entry = find_in_cuckoo_table<target_entry>(
        entries_, target_hash(&key, service, hash_seed_), [&](const target_entry& each) {
            return each.service == service && each.address.low == key.low && each.address.high == key.high;
        });
    return entry != nullptr ? entry->target & ~TRAFFIC_TARGET_HAS_FLOWS : std::uint32_t{TRAFFIC_NO_TARGET};
}

TargetCapacity TargetTable::capacity() const {
    return {.indexes = size_ == 0 ? 0 : highest_index_ + 1,
            .entries = static_cast<std::uint32_t>(entries_.size())};
}

}  // namespace pangolin
