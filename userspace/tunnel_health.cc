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

void HealthLosses::add_handshakes(const HandshakeLosses& lost) {
    handshakes += lost[HANDSHAKE_LOSS_HANDSHAKES];
    handshake_counts += lost[HANDSHAKE_LOSS_COUNTS];
}

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

void TunnelHealth::restore(const HealthState& state) {
    kept_probe_.restore(state.handshakes.pins);
    readings_ = state.handshakes.readings;
    handshakes_.restore(state.handshakes);
}

HealthState TunnelHealth::state() const {
    HealthState state;
    state.interface = interface_;
    state.handshakes.pins = kept_probe_.written();
    state.handshakes.readings = probe_ ? probe_->readings() : readings_;
    handshakes_.save(state.handshakes);
    return state;
}

void TunnelHealth::forget_written() {
    if (probe_)
        probe_->forget_written();
}

void TunnelHealth::attach(const WireGuardInterface& interface, const WireGuardDevice& device,
                          const HealthOptions& options, const MonitorKeeping& keeping) {
    interface_ = interface;
    if (options.handshakes == HandshakeMode::off)
        end_probe(keeping);
    else
        start_probe(device, options, keeping);
    lookup_ = started("look-up of peers", interface_.name, PeerLookup::create(max_peers_));
    if (!lookup_)
        return;
    tcp_ = started("TCP statistics", interface_.name, TcpProgram::attach(interface_, *lookup_, max_peers_));
    drops_ = started("packet drops", interface_.name, DropProgram::attach(interface_, *lookup_, max_peers_));
    // libbpf has read the kernel's types several times, some megabytes each, which the heap would keep.
    malloc_trim(0);
}

void TunnelHealth::start_probe(const WireGuardDevice& device, const HealthOptions& options,
                               const MonitorKeeping& keeping) {
    const auto source =
        started("handshakes", interface_.name, choose_handshake_source(interface_, options.handshakes));
    if (!source)
        return end_probe(keeping);
    const auto load = [&](const std::optional<KeptPins>& pins) {
        return load_wireguard_probe(*source, interface_, listener_of(device), options.hooks, pins);
    };
    auto probe = started(
        "handshakes", interface_.name,
        kept_probe_.start<std::unique_ptr<WireGuardProbe>>(
            keeping, load,
            [this](const PinFolder& pins) { handshakes_.take(read_last_handshakes(pins, readings_)); },
            [this] { readings_ = {}; }));
    if (!probe)
        return;
    probe_ = std::move(*probe);
    probe_->restore(readings_);
    spdlog::info("{}: handshakes from {}", interface_.name, to_string(probe_->source()));
}

void TunnelHealth::end_probe(const MonitorKeeping& keeping) {
    if (probe_) {
        readings_ = probe_->readings();
        probe_->unpin();
        probe_.reset();
    }
    kept_probe_.end(
        keeping, [this](const PinFolder& pins) { handshakes_.take(read_last_handshakes(pins, readings_)); },
        [this] { readings_ = {}; });
}

// Without the peers' slots of now, TCP and drops would be credited to the peers of before.
void TunnelHealth::end_lookup(const Error& error) {
    spdlog::error("{}: TCP statistics and packet drops end here: {}", interface_.name, error.message());
    ended_ = losses();
    ended_.handshakes = ended_.handshake_counts = 0;
    tcp_.reset();
    drops_.reset();
    lookup_.reset();
}

void TunnelHealth::set_routes(const std::vector<Route>& routes) {
    // A peer that is gone leaves its endpoint as well, before its slot is given away.
    endpoints_changed_ = true;
    if (!lookup_)
        return;
    if (const auto set = lookup_->set_routes(routes); !set)
        end_lookup(set.error());
}

void TunnelHealth::set_endpoint(const Endpoint& endpoint, const WireGuardKey& key, const PeerTable& peers) {
    handshakes_.learn(endpoint, key, peers);
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
        warn_once("handshakes may be missing", probe_->follow(listener_of(device)), follow_trouble_);
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
    if (!lookup_)
        return;
    if (const auto set = lookup_->set_endpoints(endpoints); !set)
        end_lookup(set.error());
}

// What fails for a moment is tried again at the next poll, and said once.
void TunnelHealth::warn_once(std::string_view what, const Result<void>& result, std::string& last) const {
    std::string trouble = result ? "" : result.error().message();
    if (!trouble.empty() && trouble != last)
        spdlog::warn("{}: {}: {}", interface_.name, what, trouble);
    last = std::move(trouble);
}

void TunnelHealth::poll(const WireGuardDevice& device, PeerTable& peers, SiteLedger& ledger, bool sites_known,
                        std::chrono::steady_clock::time_point now) {
    follow(device, peers);
    if (tcp_)
        warn_once("round-trip times may be missing", tcp_->sample(), sample_trouble_);
    credit(peers, ledger, sites_known, now);
}

void TunnelHealth::credit(PeerTable& peers, SiteLedger& ledger, bool sites_known,
                          std::chrono::steady_clock::time_point now) {
    now_ = now;
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
        return peer->account.get();
    return slot == TRAFFIC_SLOT_UNMATCHED || final ? ledger.of(unassigned_site_id).get() : nullptr;
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
    // wg_xmit() (drivers/net/wireguard/device.c) drops without saying why: no peer has the address, the peer
    // has no endpoint, or (which no routed packet is) it is neither IPv4 nor IPv6.
    const bool unspecified = drops_->reasons().unspecified(key.reason);
    return unspecified && key.direction == TRAFFIC_EGRESS ? "wireguard_no_endpoint" : "wireguard_" + reason;
}

// What a closed socket has in its receive queue is thrown away with it: as a rule the FIN of the other side.
bool TunnelHealth::was_delivered(const drop_key& key) const {
    return key.place == DROP_IN_TUNNEL && key.direction == TRAFFIC_INGRESS &&
           drops_->reasons().name(key.reason) == "queue_purge";
}

// For an address without a peer: InterfaceMonitor counts these itself, for every kind of WireGuard. Where
// nothing tells which drops are WireGuard's, it is those without a reason.
bool TunnelHealth::is_no_peer(const drop_key& key) const {
    if (key.slot != TRAFFIC_SLOT_UNMATCHED || key.direction != TRAFFIC_EGRESS)
        return false;
    if (key.place == DROP_IN_WIREGUARD)
        return true;
    return key.place == DROP_IN_TUNNEL && interface_.implementation == WireGuardImplementation::kernel &&
           !drops_->knows_wireguard() && drops_->reasons().unspecified(key.reason);
}

void TunnelHealth::credit_drops(PeerTable& peers, SiteLedger& ledger, bool final) {
    if (!drops_)
        return;
    for (const DropCount& now : drops_->read()) {
        if (is_no_peer(now.key) || was_delivered(now.key))
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
    SiteAccount& account = peer.account != nullptr ? *peer.account : *ledger.of(unassigned_site_id);
    if (tcp_) {
        if (const auto last = tcp_->take(peer.slot))
            credit_tcp_slot({peer.slot, *last}, account);
        tcp_credited_.erase(peer.slot);
    }
    if (drops_) {
        for (const DropCount& last : drops_->take(peer.slot)) {
            const auto before = drops_credited_.find(last.key);
            const std::uint64_t credited = before == drops_credited_.end() ? 0 : before->second;
            if (last.packets > credited && !is_no_peer(last.key) && !was_delivered(last.key))
                account.health().add_drops(static_cast<traffic_direction>(last.key.direction),
                                           name_of(last.key), last.packets - credited);
        }
        std::erase_if(drops_credited_, [&](const auto& entry) { return entry.first.slot == peer.slot; });
    }
}

void TunnelHealth::finish(const MonitorKeeping& keeping, PeerTable& peers, SiteLedger& ledger) {
    credit_tcp(peers, ledger, true);
    credit_drops(peers, ledger, true);
    if (probe_) {
        handshakes_.credit(*probe_, peers, ledger, true, std::chrono::steady_clock::now());
        ended_.add_handshakes(probe_->losses());
    }
    end_probe(keeping);
    handshakes_.finish(peers, ledger);
}

HealthLosses TunnelHealth::losses() const {
    HealthLosses losses = ended_;
    if (probe_)
        losses.add_handshakes(probe_->losses());
    if (tcp_)
        losses.tcp += tcp_->lost();
    if (drops_)
        losses.drops += drops_->lost();
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
