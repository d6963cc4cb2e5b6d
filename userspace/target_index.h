// What is dialled for resources: which addresses and ports, and whose bytes theirs are.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "loader/base/ip_prefix.h"
#include "loader/target_table.h"
#include "userspace/metadata/site_directory.h"
#include "userspace/wireguard/key.h"

namespace pangolin {

// Where connections to a target go, as the host's packets and sockets show it.
struct DialledAddress {
    IpAddress address;
    std::uint16_t port = 0;
    TargetProtocol protocol = TargetProtocol::tcp;

    auto operator<=>(const DialledAddress&) const = default;
};

struct DialledAddressHash {
    std::size_t operator()(const DialledAddress& dialled) const;
};

struct DialledTarget {
    DialledAddress dialled;
    // Null when no site is known for the target.
    const Site* site = nullptr;
    // Null for what is relayed to `site`: client traffic that gerbil sends on inside the tunnel.
    const Target* target = nullptr;
    const Resource* resource = nullptr;
};

// Points into the directory that it was made of. Any thread may read it.
class TargetIndex {
  public:
    explicit TargetIndex(const SiteDirectory& directory);

    // Through the tunnels of the interface with this key: of the sites that it serves, of those that do not
    // name their exit node, and of targets without a site. Each address, port and protocol once: where
    // several resources share one, it is the first by resource_id, enabled ones before the others. In order
    // of `dialled`.
    std::vector<DialledTarget> in_tunnels(const WireGuardKey& interface_key) const;
    // The TCP targets of local sites, likewise.
    std::vector<DialledTarget> of_local_sites() const;
    // Those of `first`'s address and kind that belong to other resources, in the order of preference: one of
    // each resource.
    std::vector<DialledTarget> sharing(const DialledTarget& first) const;

  private:
    // Those of one address in the order of preference.
    std::vector<DialledTarget> tunnels_;
    std::vector<DialledTarget> local_;
};

}  // namespace pangolin
