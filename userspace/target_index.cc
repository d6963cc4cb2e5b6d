#include "userspace/target_index.h"

#include <algorithm>
#include <tuple>

namespace pangolin {
namespace {

// Relayed traffic first: it is never a resource's. Of equal ones the directory's order stays, which is that
// of resource_id.
auto preference(const DialledTarget& each) {
    const bool enabled = each.target != nullptr && each.target->enabled && each.resource->enabled;
    return std::tuple(each.dialled, each.target != nullptr, !enabled);
}

TargetProtocol protocol_of(const Resource& resource) {
    return resource.protocol == "udp" ? TargetProtocol::udp : TargetProtocol::tcp;
}

}  // namespace

std::size_t DialledAddressHash::operator()(const DialledAddress& dialled) const {
    std::uint64_t hash = dialled.address.low * 0x9e3779b97f4a7c15ULL;
    hash = (hash ^ hash >> 32 ^ dialled.address.high) * 0xbf58476d1ce4e5b9ULL;
    hash ^= std::uint64_t{dialled.port} << 16 | static_cast<std::uint64_t>(dialled.protocol);
    hash *= 0x94d049bb133111ebULL;
    return hash ^ hash >> 32;
}

TargetIndex::TargetIndex(const SiteDirectory& directory) {
    for (const Site& site : directory.sites) {
        if (site.type != SiteType::local && site.tunnel_address && site.listen_port)
            tunnels_.push_back(
                {.dialled = {*site.tunnel_address, *site.listen_port, TargetProtocol::udp}, .site = &site});
    }
    for (const Target& target : directory.targets) {
        const Site* const site = target.site ? &directory.sites[*target.site] : nullptr;
        const Resource& resource = directory.resources[target.resource];
        const bool is_local = site != nullptr && site->type == SiteType::local;
        const TargetProtocol protocol = protocol_of(resource);
        if (is_local && protocol != TargetProtocol::tcp)
            continue;
        for (const IpAddress& address : target.dialled_addresses())
            (is_local ? local_ : tunnels_)
                .push_back({.dialled = {address, target.dialled->port, protocol},
                            .site = site,
                            .target = &target,
                            .resource = &resource});
    }
    std::ranges::stable_sort(tunnels_, {}, preference);
    std::ranges::stable_sort(local_, {}, preference);
}

std::vector<DialledTarget> TargetIndex::in_tunnels(const WireGuardKey& interface_key) const {
    std::vector<DialledTarget> result;
    for (const DialledTarget& each : tunnels_) {
        const auto* const exit_node = each.site != nullptr && each.site->exit_node_public_key
                                          ? &*each.site->exit_node_public_key
                                          : nullptr;
        if (exit_node != nullptr && *exit_node != interface_key)
            continue;
        if (result.empty() || result.back().dialled != each.dialled)
            result.push_back(each);
    }
    return result;
}

std::vector<DialledTarget> TargetIndex::of_local_sites() const {
    std::vector<DialledTarget> result;
    std::ranges::unique_copy(local_, std::back_inserter(result), {}, &DialledTarget::dialled);
    return result;
}

std::vector<DialledTarget> TargetIndex::sharing(const DialledTarget& first) const {
    const auto key_of = [](const DialledTarget& each) -> const WireGuardKey* {
        return each.site != nullptr && each.site->exit_node_public_key ? &*each.site->exit_node_public_key
                                                                       : nullptr;
    };
    const bool local = first.site != nullptr && first.site->type == SiteType::local;
    const WireGuardKey* const key = key_of(first);
    std::vector<DialledTarget> result;
    for (const DialledTarget& each :
         std::ranges::equal_range(local ? local_ : tunnels_, first.dialled, {}, &DialledTarget::dialled)) {
        const WireGuardKey* const other = key_of(each);
        const bool elsewhere = key != nullptr && other != nullptr && *key != *other;
        const bool is_known =
            each.resource == first.resource ||
            std::ranges::find(result, each.resource, &DialledTarget::resource) != result.end();
        if (each.target != nullptr && !elsewhere && !is_known)
            result.push_back(each);
    }
    return result;
}

}  // namespace pangolin
