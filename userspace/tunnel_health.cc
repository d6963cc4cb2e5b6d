#include "userspace/tunnel_health.h"

#include <spdlog/spdlog.h>

#include <utility>

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

std::vector<EndpointSlot> endpoints_of(const WireGuardDevice& device, const PeerTable& peers) {
    std::vector<EndpointSlot> endpoints;
    for (const WireGuardPeer& peer : device.peers) {
        const TrackedPeer* const tracked = peers.find(peer.public_key);
        if (tracked != nullptr && peer.endpoint)
            endpoints.push_back({*peer.endpoint, tracked->slot});
    }
    return endpoints;
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

void TunnelHealth::restore(const HealthState& state) {
    kept_probe_.restore(state.handshakes.pins);
    readings_ = state.handshakes.readings;
    handshakes_.restore(state.handshakes);
}

void TunnelHealth::restore(const PeerStatisticsState& state, const PeerTable& peers) {
    statistics_.restore(state, peers);
}

HealthState TunnelHealth::state() const {
    HealthState state;
    state.interface = static_cast<const NetworkInterface&>(interface_);
    state.handshakes.pins = kept_probe_.written();
    state.handshakes.readings = probe_ ? probe_->readings() : readings_;
    handshakes_.save(state.handshakes);
    return state;
}

void TunnelHealth::forget_written() {
    if (probe_)
        probe_->forget_written();
    statistics_.forget_written();
}

void TunnelHealth::attach(const WireGuardInterface& interface, const WireGuardDevice& device,
                          const HealthOptions& options, const PeerTable& peers, SiteLedger& ledger) {
    interface_ = interface;
    if (options.handshakes == HandshakeMode::off)
        end_probe();
    else
        start_probe(device, options);
    statistics_.attach(interface_,
                       {.routes = peers.routes(device),
                        .endpoints = endpoints_of(device, peers),
                        .listen_port = device.listen_port},
                       peers, ledger);
}

void TunnelHealth::start_probe(const WireGuardDevice& device, const HealthOptions& options) {
    const auto source =
        started("handshakes", interface_.name, choose_handshake_source(interface_, options.handshakes));
    if (!source)
        return end_probe();
    const auto load = [&](const std::optional<KeptPins>& pins) {
        return load_wireguard_probe(*source, interface_, listener_of(device), options.hooks, pins);
    };
    auto probe = started(
        "handshakes", interface_.name,
        kept_probe_.start<std::unique_ptr<WireGuardProbe>>(
            keeping_, load,
            [this](const PinFolder& pins) { handshakes_.take(read_last_handshakes(pins, readings_)); },
            [this] { readings_ = {}; }));
    if (!probe)
        return;
    probe_ = std::move(*probe);
    probe_->restore(readings_);
    spdlog::info("{}: handshakes from {}", interface_.name, to_string(probe_->source()));
}

void TunnelHealth::end_probe() {
    if (probe_) {
        readings_ = probe_->readings();
        probe_->unpin();
        probe_.reset();
    }
    kept_probe_.end(
        keeping_, [this](const PinFolder& pins) { handshakes_.take(read_last_handshakes(pins, readings_)); },
        [this] { readings_ = {}; });
}

void TunnelHealth::set_routes(const std::vector<Route>& routes) {
    // A peer that is gone leaves its endpoint as well, before its slot is given away.
    endpoints_changed_ = true;
    statistics_.set_routes(routes);
}

void TunnelHealth::set_endpoint(const Endpoint& endpoint, const WireGuardKey& key, const PeerTable& peers) {
    handshakes_.learn(endpoint, key, peers);
    endpoints_changed_ = true;
}

void TunnelHealth::set_namespace(const NetworkNamespace& netns) {
    interface_.netns = netns;
    if (probe_)
        probe_->set_namespace(netns);
    statistics_.set_namespace(netns);
}

void TunnelHealth::follow(const WireGuardDevice& device, PeerTable& peers) {
    if (probe_)
        warn_once("handshakes may be missing", probe_->follow(listener_of(device)), follow_trouble_);
    statistics_.set_listen_port(device.listen_port);
    if (std::exchange(endpoints_changed_, false))
        statistics_.set_endpoints(endpoints_of(device, peers));
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
    warn_once("round-trip times may be missing", statistics_.sample(), sample_trouble_);
    credit(peers, ledger, sites_known, now);
}

void TunnelHealth::credit(PeerTable& peers, SiteLedger& ledger, bool sites_known,
                          std::chrono::steady_clock::time_point now) {
    statistics_.credit(peers, ledger, now);
    // After TCP, whose silence decides about a handshake's latency.
    if (probe_)
        handshakes_.credit(*probe_, peers, ledger, sites_known, now);
}

void TunnelHealth::finish(PeerTable& peers, SiteLedger& ledger) {
    statistics_.finish(peers, ledger);
    if (probe_) {
        handshakes_.credit(*probe_, peers, ledger, true, std::chrono::steady_clock::now());
        ended_.add_handshakes(probe_->losses());
    }
    end_probe();
    handshakes_.finish(peers, ledger);
}

HealthLosses TunnelHealth::losses() const {
    HealthLosses losses = ended_;
    if (probe_)
        losses.add_handshakes(probe_->losses());
    losses.tcp += statistics_.tcp_losses();
    losses.drops += statistics_.drop_losses();
    return losses;
}

void TunnelHealth::describe(Snapshot& snapshot) const {
    const bool module = probe_ && probe_->source() == HandshakeSource::module;
    snapshot.add_feature("handshakes_module", module);
    snapshot.add_feature("handshakes_underlay", probe_ && !module);
    if (probe_)
        snapshot.add_attachments(probe_->hook(), probe_->attachments());
    statistics_.describe(snapshot);
}

}  // namespace pangolin
