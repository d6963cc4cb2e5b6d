// Finds a peer's slot in the kernel, for programs off the packet path.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "loader/base/endpoint.h"
#include "loader/base/error.h"
#include "loader/base/ip_prefix.h"
#include "loader/base/unique_fd.h"
#include "loader/route_table.h"

struct bpf_map;

namespace pangolin {

struct EndpointSlot {
    Endpoint endpoint;
    std::uint32_t slot = 0;
    auto operator<=>(const EndpointSlot&) const = default;
};

// Two maps (shared/tunnel.h) that programs use by reusing their descriptors: an LPM trie of allowed IPs and a
// hash of endpoints. A lookup takes tens of nanoseconds, a change one system call: right for connections and
// drops, not for packets. Not thread-safe.
class PeerLookup {
  public:
    static Result<PeerLookup> create(std::uint32_t max_peers);

    // Makes the maps hold exactly these; only differences are written. Each prefix moves at once, not all of
    // them together.
    Result<void> set_routes(const std::vector<Route>& routes);
    Result<void> set_endpoints(const std::vector<EndpointSlot>& endpoints);

    // Makes an object that is not loaded yet use these maps in the place of its own.
    Result<void> share(bpf_map* addresses, bpf_map* endpoints) const;

  private:
    UniqueFd addresses_;
    UniqueFd endpoints_;
    std::map<IpPrefix, std::uint32_t> routes_now_;
    std::map<Endpoint, std::uint32_t> endpoints_now_;
};

}  // namespace pangolin
