// Which site or client a WireGuard peer belongs to, and what is dialled at sites.
#pragma once

#include <memory>
#include <unordered_map>

#include "loader/route_table.h"
#include "userspace/metadata/site_directory.h"
#include "userspace/target_index.h"
#include "userspace/wireguard/device.h"

namespace pangolin {

// Both null: a peer that nobody knows. Never both set.
struct PeerOwner {
    const Site* site = nullptr;
    const Client* client = nullptr;
};

// Immutable; shared by threads. Keeps its directory alive.
class SiteIndex {
  public:
    explicit SiteIndex(std::shared_ptr<const SiteDirectory> directory);

    // By public key first. newt makes a new key at each start and the database knows it a moment later, so a
    // peer with an unknown key belongs to the site whose tunnel network its allowed IPs lie in, unless
    // another exit node (`device_key` is ours) serves that site. Clients likewise.
    PeerOwner find(const WireGuardPeer& peer, const WireGuardKey& device_key) const;

    const TargetIndex& targets() const { return targets_; }

    const std::shared_ptr<const SiteDirectory>& directory() const { return directory_; }
    // True when all sites that name their exit node name the same one.
    bool single_exit_node() const { return single_exit_node_; }

  private:
    std::shared_ptr<const SiteDirectory> directory_;
    std::unordered_map<WireGuardKey, PeerOwner> by_key_;
    // Slot = position in the directory plus one, clients after the sites.
    RouteTable by_tunnel_;
    TargetIndex targets_;
    bool single_exit_node_ = true;
};

}  // namespace pangolin
