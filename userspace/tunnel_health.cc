#include "userspace/tunnel_health.h"

#include <malloc.h>
#include <spdlog/spdlog.h>

#include <cstring>

namespace pangolin {
namespace {

WireGuardListener listener_of(const WireGuardDevice& device) {
    return {.port = device.listen_port, .public_key = device.public_key.bytes};
}

// What a host lacks is no fault of it, but must be seen.
template <class Feature>
std::optional<Feature> started(std::string_view what, const std::string& interface, Result<Feature> result) {
    if (result)
        return std::move(*result);
    spdlog::warn("{}: no {}: {}", interface, what, result.error().message());
    return std::nullopt;
}

}  // namespace

HealthLosses& HealthLosses::operator+=(const HealthLosses& other) {
    handshakes += other.handshakes;
    handshake_counts += other.handshake_counts;
    tcp += other.tcp;
    drops += other.drops;
    return *this;
}

std::size_t TunnelHealth::DropKeyHash::operator()(const drop_key& key) const {
    return std::hash<std::uint64_t>{}(std::uint64_t{key.slot} << 32 ^ std::uint64_t{key.reason} << 8 ^
                                      key.direction << 4 ^ key.place);
}

bool TunnelHealth::DropKeyEqual::operator()(const drop_key& a, const drop_key& b) const {
    return std::memcmp(&a, &b, sizeof a) == 0;
}

TunnelHealth::TunnelHealth(const WireGuardInterface& interface, const WireGuardDevice& device,
                           const HealthOptions& options)
    : interface_(interface), handshakes_(options.max_peers) {
    if (options.handshakes != HandshakeMode::off) {
        auto probe =
            started("handshakes", interface.name,
                    open_wireguard_probe(interface, listener_of(device), options.handshakes, options.hooks));
        if (probe)
            probe_ = std::move(*probe);
        if (probe_)
            spdlog::info("{}: handshakes from {}", interface.name, to_string(probe_->source()));
    }
    lookup_ = started("look-up of peers", interface.name, PeerLookup::create(options.max_peers));
    if (!lookup_)
        return;
    tcp_ =
        started("TCP statistics", interface.name, TcpProgram::attach(interface, *lookup_, options.max_peers));
    drops_ =
        started("packet drops", interface.name, DropProgram::attach(interface, *lookup_, options.max_peers));
    // libbpf has read the kernel's types several times, some megabytes each, which the heap would keep.
    malloc_trim(0);
}

template <class Feature, class Work>
void TunnelHealth::guarded(std::string_view what, Feature& feature, Work work) {
    if (!feature)
        return;
    const Result<void> done = work(*feature);
    if (done)
        return;
    spdlog::error("{}: {} end here: {}", interface_.name, what, done.error().message());
    feature.reset();
}

void TunnelHealth::set_routes(const std::vector<Route>& routes) {
    guarded("TCP statistics and packet drops", lookup_, [&](PeerLookup& lookup) {
        auto set = lookup.set_routes(routes);
        if (!set) {
            tcp_.reset();
            drops_.reset();
        }
        return set;
    });
}

void TunnelHealth::set_endpoint(const Endpoint& endpoint, const WireGuardKey& key) {
    handshakes_.learn(endpoint, key);
    endpoints_changed_ = true;
}

void TunnelHealth::set_namespace(const NetworkNamespace& netns) {
    interface_.netns = netns;
    if (probe_)
        probe_->set_namespace(netns);
    if (tcp_)
        tcp_->set_namespace(netns);
}

void TunnelHealth::follow(const WireGuardDevice& device, PeerTable& peers) {
    if (probe_)
        follow_listener(device);
    if (drops_)
        drops_->set_listen_port(device.listen_port);
    if (!endpoints_changed_)
        return;
    endpoints_changed_ = false;
    std::vector<EndpointSlot> endpoints;
    for (const WireGuardPeer& peer : device.peers) {
        const TrackedPeer* const tracked = peers.find(peer.public_key);
        if (tracked != nullptr && peer.endpoint)
            endpoints.push_back({*peer.endpoint, tracked->slot});
    }
    guarded("underlay drops by site", lookup_,
            [&](PeerLookup& lookup) { return lookup.set_endpoints(endpoints); });
}

// A device that cannot be attached to may be tried again at the next poll; the others go on meanwhile.
void TunnelHealth::follow_listener(const WireGuardDevice& device) {
    const auto followed = probe_->follow(listener_of(device));
    std::string trouble = followed ? "" : followed.error().message();
    if (!trouble.empty() && trouble != follow_trouble_)
        spdlog::warn("{}: handshakes may be missing: {}", interface_.name, trouble);
    follow_trouble_ = std::move(trouble);
}

void TunnelHealth::poll(const WireGuardDevice& device, PeerTable& peers, SiteLedger& ledger, bool sites_known,
                        std::chrono::steady_clock::time_point now) {
    now_ = now;
    follow(device, peers);
    guarded("round-trip times", tcp_, [](TcpProgram& tcp) { return tcp.sample(); });
    if (sites_known) {
        credit_tcp(peers, ledger, false);
        credit_drops(peers, ledger, false);
    }
    // After TCP, whose silence decides about a handshake's latency.
    if (probe_)
        handshakes_.credit(*probe_, peers, ledger, sites_known, now);
}

SiteAccount* TunnelHealth::account_of(std::uint32_t slot, PeerTable& peers, SiteLedger& ledger, bool final) {
    const TrackedPeer* const peer = peers.at_slot(slot);
    if (peer != nullptr && peer->account != nullptr)
        return peer->account;
    return slot == TRAFFIC_SLOT_UNMATCHED || final ? &ledger.of(unassigned_site_id) : nullptr;
}

void TunnelHealth::credit_tcp(PeerTable& peers, SiteLedger& ledger, bool final) {
    if (!tcp_)
        return;
    for (const SlotTcpCounts& now : tcp_->read()) {
        if (SiteAccount* const account = account_of(now.slot, peers, ledger, final))
            credit_tcp_slot(now, *account);
    }
}

void TunnelHealth::credit_tcp_slot(const SlotTcpCounts& now, SiteAccount& account) {
    tcp_counts& before = tcp_credited_[now.slot];
    if (std::memcmp(&before, &now.counts, sizeof before) == 0)
        return;
    SiteHealth& health = account.health();
    for (int result = 0; result < TCP_RESULTS; ++result)
        health.tcp_connections[result] += now.counts.connections[result] - before.connections[result];
    health.tcp_retransmits += now.counts.retransmits - before.retransmits;
    if (now.counts.rtt.sum_us != before.rtt.sum_us)
        account.last_tcp_latency = now_;
    health.tunnel_latency.add_growth(now.counts.rtt, before.rtt);
    before = now.counts;
}

std::string TunnelHealth::name_of(const drop_key& key) const {
    const std::string reason = drops_->reasons().name(key.reason);
    if (key.place == DROP_IN_UNDERLAY)
        return "underlay_" + reason;
    if (key.place != DROP_IN_WIREGUARD)
        return reason;
    // wg_xmit() (drivers/net/wireguard/device.c) drops for two reasons without saying which: no peer has the
    // address, or the peer has no endpoint.
    const bool unspecified = drops_->reasons().unspecified(key.reason);
    return unspecified && key.direction == TRAFFIC_EGRESS ? "wireguard_no_endpoint" : "wireguard_" + reason;
}

void TunnelHealth::credit_drops(PeerTable& peers, SiteLedger& ledger, bool final) {
    if (!drops_)
        return;
    for (const DropCount& now : drops_->read()) {
        // For an address without a peer: InterfaceMonitor counts these itself, for every kind of WireGuard.
        if (now.key.slot == TRAFFIC_SLOT_UNMATCHED && now.key.place == DROP_IN_WIREGUARD)
            continue;
        SiteAccount* const account = account_of(now.key.slot, peers, ledger, final);
        if (account == nullptr)
            continue;
        std::uint64_t& before = drops_credited_[now.key];
        if (now.packets == before)
            continue;
        account->health().add_drops(static_cast<traffic_direction>(now.key.direction), name_of(now.key),
                                    now.packets - before);
        before = now.packets;
    }
}

void TunnelHealth::retire(TrackedPeer& peer, SiteLedger& ledger) {
    SiteAccount& account = peer.account != nullptr ? *peer.account : ledger.of(unassigned_site_id);
    if (tcp_) {
        if (const auto last = tcp_->take(peer.slot))
            credit_tcp_slot({peer.slot, *last}, account);
        tcp_credited_.erase(peer.slot);
    }
    if (drops_) {
        for (const DropCount& last : drops_->take(peer.slot)) {
            const auto before = drops_credited_.find(last.key);
            const std::uint64_t credited = before == drops_credited_.end() ? 0 : before->second;
            if (last.packets > credited)
                account.health().add_drops(static_cast<traffic_direction>(last.key.direction),
                                           name_of(last.key), last.packets - credited);
        }
        std::erase_if(drops_credited_, [&](const auto& entry) { return entry.first.slot == peer.slot; });
    }
    endpoints_changed_ = true;
}

void TunnelHealth::finish(PeerTable& peers, SiteLedger& ledger) {
    credit_tcp(peers, ledger, true);
    credit_drops(peers, ledger, true);
    if (probe_)
        handshakes_.finish(*probe_, peers, ledger);
}

HealthLosses TunnelHealth::losses() const {
    HealthLosses losses;
    if (probe_) {
        const HandshakeLosses of_probe = probe_->losses();
        losses.handshakes = of_probe[HANDSHAKE_LOSS_HANDSHAKES];
        losses.handshake_counts = of_probe[HANDSHAKE_LOSS_COUNTS];
    }
    losses.tcp = tcp_ ? tcp_->lost() : 0;
    losses.drops = drops_ ? drops_->lost() : 0;
    return losses;
}

void TunnelHealth::describe(Snapshot& snapshot) const {
    const bool module = probe_ && probe_->source() == HandshakeSource::module;
    snapshot.add_feature("handshakes_module", module);
    snapshot.add_feature("handshakes_underlay", probe_ && !module);
    snapshot.add_feature("tcp", tcp_.has_value());
    snapshot.add_feature("drops", drops_.has_value());
    if (probe_)
        snapshot.add_attachments(probe_->hook(), probe_->attachments());
    if (tcp_)
        snapshot.add_attachments("tracepoint", tcp_->attachments());
    if (drops_)
        snapshot.add_attachments("tracepoint", 1);
}

}  // namespace pangolin
