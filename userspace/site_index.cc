#include "userspace/site_index.h"

#include <vector>

namespace pangolin {
namespace {

RouteTable compile_tunnels(const SiteDirectory& directory) {
    std::vector<Route> routes;
    for (std::uint32_t position = 0; position < directory.sites.size(); ++position) {
        for (const IpPrefix& network : directory.sites[position].tunnel)
            routes.push_back({network, position + 1});
    }
    for (std::uint32_t position = 0; position < directory.clients.size(); ++position) {
        if (const auto& network = directory.clients[position].tunnel)
            routes.push_back({*network, static_cast<std::uint32_t>(directory.sites.size()) + position + 1});
    }
    return RouteTable::compile(routes);
}

}  // namespace

SiteIndex::SiteIndex(std::shared_ptr<const SiteDirectory> directory)
    : directory_(std::move(directory)), by_tunnel_(compile_tunnels(*directory_)), targets_(*directory_) {
    const WireGuardKey* exit_node = nullptr;
    for (const Site& site : directory_->sites) {
        if (site.public_key)
            by_key_.emplace(*site.public_key, PeerOwner{.site = &site});
        if (!site.exit_node_public_key)
            continue;
        if (exit_node != nullptr && *exit_node != *site.exit_node_public_key)
            single_exit_node_ = false;
        exit_node = &*site.exit_node_public_key;
    }
    for (const Client& client : directory_->clients)
        if (client.public_key)
            by_key_.emplace(*client.public_key, PeerOwner{.client = &client});
}

PeerOwner SiteIndex::find(const WireGuardPeer& peer, const WireGuardKey& device_key) const {
    if (const auto found = by_key_.find(peer.public_key); found != by_key_.end())
        return found->second;
    const auto served_here = [&](const auto& owner) {
        return !owner.exit_node_public_key || *owner.exit_node_public_key == device_key;
    };
    for (const IpPrefix& allowed : peer.allowed_ips) {
        const std::uint32_t slot = by_tunnel_.find(allowed.network);
        if (slot == TRAFFIC_SLOT_UNMATCHED)
            continue;
        const std::size_t position = slot - 1;
        const std::size_t sites = directory_->sites.size();
        if (position < sites && served_here(directory_->sites[position]))
            return {.site = &directory_->sites[position]};
        if (position >= sites && served_here(directory_->clients[position - sites]))
            return {.client = &directory_->clients[position - sites]};
    }
    return {};
}

}  // namespace pangolin
