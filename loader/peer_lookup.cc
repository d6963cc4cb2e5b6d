#include "loader/peer_lookup.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "bpf/shared/tunnel.h"
#include "loader/bpf_error.h"

namespace pangolin {
namespace {

// Allowed IPs that a peer has room for on average; Pangolin gives one to each.
constexpr std::uint32_t addresses_per_peer = 16;

peer_address_key key_of(const IpPrefix& prefix) {
    const bool is_v6 = prefix.network.family == IpFamily::v6;
    peer_address_key key{};
    key.prefix_length = 32U + (is_v6 ? 0U : 96U) + prefix.length;
    key.is_v6 = is_v6 ? 1 : 0;
    for (unsigned byte = 0; byte < 8; ++byte) {
        key.address[byte] = static_cast<std::uint8_t>(prefix.network.high >> (56 - 8 * byte));
        key.address[8 + byte] = static_cast<std::uint8_t>(prefix.network.low >> (56 - 8 * byte));
    }
    return key;
}

peer_endpoint key_of(const Endpoint& endpoint) {
    return {.address = {.high = endpoint.address.high, .low = endpoint.address.low},
            .port = endpoint.port,
            .is_v6 = endpoint.address.family == IpFamily::v6 ? 1U : 0U};
}

// Writes the differences between `now`, which is what the map holds, and `wanted`. What goes makes room
// first. After an error `now` still is what the map holds.
template <class Key>
Result<void> write_differences(int map, std::map<Key, std::uint32_t>& now,
                               const std::map<Key, std::uint32_t>& wanted, std::string_view what) {
    for (auto old = now.begin(); old != now.end();) {
        if (wanted.contains(old->first)) {
            ++old;
            continue;
        }
        const auto key = key_of(old->first);
        if (bpf_map_delete_elem(map, &key) != 0 && errno != ENOENT)
            return bpf_failure(errno, "cannot remove from the kernel's " + std::string(what));
        old = now.erase(old);
    }
    for (const auto& [name, slot] : wanted) {
        const auto old = now.find(name);
        if (old != now.end() && old->second == slot)
            continue;
        const auto key = key_of(name);
        if (bpf_map_update_elem(map, &key, &slot, BPF_ANY) != 0)
            return bpf_failure(errno, "cannot add to the kernel's " + std::string(what));
        now[name] = slot;
    }
    return {};
}

Result<UniqueFd> create_map(bpf_map_type type, const char* name, std::uint32_t key_size,
                            std::uint32_t entries) {
    bpf_map_create_opts options{};
    options.sz = sizeof options;
    options.map_flags = BPF_F_NO_PREALLOC;
    UniqueFd map(bpf_map_create(type, name, key_size, sizeof(std::uint32_t), entries, &options));
    if (!map)
        return bpf_failure(errno, std::string("cannot create BPF map '") + name + "'");
    return map;
}

}  // namespace

Result<PeerLookup> PeerLookup::create(std::uint32_t max_peers) {
    collect_libbpf_messages();
    const std::uint64_t entries =
        std::max<std::uint64_t>(std::uint64_t{max_peers} * addresses_per_peer, 1024);
    if (entries > UINT32_MAX)
        return failure("cannot size the maps of peers", "Lower metrics.limits.max_peers.");
    auto addresses = create_map(BPF_MAP_TYPE_LPM_TRIE, "peer_addresses", sizeof(peer_address_key),
                                static_cast<std::uint32_t>(entries));
    if (!addresses)
        return std::unexpected(addresses.error());
    auto endpoints = create_map(BPF_MAP_TYPE_HASH, "peer_endpoints", sizeof(peer_endpoint), max_peers + 1);
    if (!endpoints)
        return std::unexpected(endpoints.error());
    PeerLookup lookup;
    lookup.addresses_ = std::move(*addresses);
    lookup.endpoints_ = std::move(*endpoints);
    return lookup;
}

Result<void> PeerLookup::share(bpf_map* addresses, bpf_map* endpoints) const {
    for (const auto& [map, fd] :
         {std::pair{addresses, addresses_.get()}, std::pair{endpoints, endpoints_.get()}}) {
        if (const int error = bpf_map__reuse_fd(map, fd); error != 0)
            return bpf_failure(-error, "cannot share the peers with BPF programs");
    }
    return {};
}

Result<void> PeerLookup::set_routes(const std::vector<Route>& routes) {
    std::map<IpPrefix, std::uint32_t> wanted;
    for (const Route& route : routes)
        wanted[route.prefix] = route.slot;
    return write_differences(addresses_.get(), routes_now_, wanted, "list of allowed IPs");
}

Result<void> PeerLookup::set_endpoints(const std::vector<EndpointSlot>& endpoints) {
    std::map<Endpoint, std::uint32_t> wanted;
    for (const EndpointSlot& endpoint : endpoints)
        wanted[endpoint.endpoint] = endpoint.slot;
    return write_differences(endpoints_.get(), endpoints_now_, wanted, "list of endpoints");
}

}  // namespace pangolin
