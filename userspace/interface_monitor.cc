#include "userspace/interface_monitor.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "userspace/traffic_arithmetic.h"

namespace pangolin {
namespace {

// Of `count` targets whose addresses are not known yet.
TargetCapacity room_for(std::size_t count, std::uint32_t max_targets) {
    const auto targets = static_cast<std::uint32_t>(std::min<std::size_t>(count, max_targets));
    return {.indexes = targets + TRAFFIC_FIRST_TARGET, .entries = std::bit_ceil(targets * 5 / 2 + 1)};
}

// WireGuard's counters start again at zero when a peer is removed and added.
std::uint64_t growth(std::uint64_t now, std::uint64_t before) {
    return now >= before ? now - before : now;
}

}  // namespace

Result<std::unique_ptr<InterfaceMonitor>> InterfaceMonitor::open(const WireGuardInterface& interface,
                                                                 const MonitorLimits& limits,
                                                                 const MonitorKeeping& keeping) {
    std::unique_ptr<InterfaceMonitor> monitor(new InterfaceMonitor(interface, limits, keeping));
    if (auto opened = monitor->open_reader(); !opened)
        return std::unexpected(opened.error());
    return monitor;
}

Result<void> InterfaceMonitor::open_reader() {
    auto reader = open_wireguard_reader(interface_);
    if (!reader)
        return std::unexpected(reader.error());
    reader_ = std::move(*reader);
    if (auto read = reader_->read(device_); !read)
        return read;
    public_key_ = device_.public_key;
    return {};
}

Result<void> InterfaceMonitor::attach(HookMode mode, HandshakeMode handshakes, const SiteIndex& sites,
                                      Ledger& ledger) {
    peers_.update(device_);
    const std::vector<Route> routes = peers_.routes(device_);
    const TargetCapacity expected =
        room_for(sites.targets().in_tunnels(device_.public_key).size(), targets_.max_targets());
    const TrafficCapacity capacity =
        roomy(peers_.slots_needed(), RouteTable::compile(routes).capacity(), expected);
    auto program = load_program(capacity);
    if (!program)
        return std::unexpected(program.error());
    routes_ = RouteTable::compile(routes, capacity.routes);
    if (auto published = program->publish(*routes_); !published)
        return published;
    program_ = std::move(*program);
    keeping_.write_state();
    if (auto attached = program_->attach(interface_, mode); !attached) {
        program_->unpin();
        return attached;
    }
    routes_current_ = true;
    watch_health(mode, handshakes, ledger);
    spdlog::info("counting on {} in network namespace {} ({} peers, {})", interface_.name,
                 interface_.netns.name, device_.peers.size(), to_string(program_->hook()));
    return {};
}

void InterfaceMonitor::watch_health(HookMode mode, HandshakeMode handshakes, Ledger& ledger) {
    health_.attach(interface_, device_, {.handshakes = handshakes, .hooks = mode}, peers_, ledger.sites);
}

// Twice what is needed now, so that a site or a target more is no reason for new programs. The first target
// is: without any, the programs spend no time on them.
TrafficCapacity InterfaceMonitor::roomy(std::uint32_t slots, const RouteCapacity& routes,
                                        const TargetCapacity& targets) {
    TrafficCapacity capacity{
        .slots = std::max(256U, std::bit_ceil(slots * 2)),
        .routes = {.entries = std::max(256U, routes.entries * 2),
                   .pool_blocks = std::max(256U, std::bit_ceil(routes.pool_blocks * 2))}};
    if (targets.indexes > TRAFFIC_FIRST_TARGET)
        capacity.targets = {.indexes = std::max(256U, std::bit_ceil(targets.indexes * 2)),
                            .entries = std::max(1024U, targets.entries * 2)};
    return capacity;
}

Result<TrafficProgram> InterfaceMonitor::load_program(const TrafficCapacity& capacity) {
    auto program = TrafficProgram::load(capacity);
    if (!program)
        return program;
    if (keeping_.pins != nullptr) {
        const PinFolder pins =
            keeping_.pins->interface(interface_).below(std::to_string(newest_generation() + 1));
        if (auto pinned = program->pin(pins); !pinned) {
            program->unpin();
            return std::unexpected(pinned.error());
        }
    }
    return program;
}

Result<void> InterfaceMonitor::poll(const PollTime& now, const SiteIndex* sites, Ledger& ledger) {
    auto read = reader_->read(device_);
    readable_ = read.has_value();
    if (!readable_) {
        device_.peers.clear();
        credit_all(now, ledger);
        targets_.count_flows(*program_, now.steady);
        if (read.error().code != ENODEV)
            mark_unknown();
        return read;
    }
    public_key_ = device_.public_key;
    const bool new_directory = sites != nullptr && directory_ != sites->directory();
    // What was counted under the old directory belongs to its sites.
    if (new_directory)
        credit_all(now, ledger);
    routes_current_ &= !peers_.update(device_);
    if (sites != nullptr && (new_directory || !routes_current_))
        resolve_sites(*sites, ledger);
    const bool new_targets = sites != nullptr && (new_directory || targets_key_ != public_key_);
    if (new_targets)
        follow_targets(*sites, ledger);
    Result<void> followed;
    if (!routes_current_) {
        keeping_.write_state();
        followed = follow_routes(ledger);
    }
    credit_counters(now, ledger);
    targets_.count_flows(*program_, now.steady);
    credit_tunnels(now, ledger);
    health_.poll(device_, peers_, ledger.sites, directory_ != nullptr, now.steady);
    if (followed) {
        if (!routes_current_ || new_targets)
            targets_.mark_counted(*routes_);
        routes_current_ = true;
        forget_gone(ledger);
    }
    return followed;
}

// No route leads to their slots any more, so that what was just credited is final.
void InterfaceMonitor::forget_gone(Ledger& ledger) {
    health_.retire(peers_.unseen(), ledger.sites);
    peers_.retire_unseen([&](TrackedPeer& gone) {
        if (gone.traffic() == nullptr)
            credit_slot(gone, ledger.sites.of(unassigned_site_id)->traffic);
        retired_slots_.push_back(gone.slot);
    });
    targets_.retire_gone(*program_);
}

void InterfaceMonitor::credit_all(const PollTime& now, Ledger& ledger) {
    credit_counters(now, ledger);
    health_.credit(peers_, ledger.sites, directory_ != nullptr, now.steady);
}

void InterfaceMonitor::resolve_sites(const SiteIndex& sites, Ledger& ledger) {
    directory_ = sites.directory();
    // A peer that has gone keeps its account for its last counts, but no pointer into an old directory.
    peers_.for_each([](const WireGuardKey&, TrackedPeer& peer) { peer.site = nullptr; });
    for (const WireGuardPeer& reported : device_.peers) {
        TrackedPeer* const peer = peers_.find(reported.public_key);
        if (peer == nullptr)
            continue;
        const PeerOwner owner = sites.find(reported, device_.public_key);
        peer->site = owner.site;
        peer->account = ledger.sites.of(owner.site != nullptr ? owner.site->site_id : unassigned_site_id);
        peer->client = owner.client != nullptr ? ledger.client(owner.client->client_id) : nullptr;
    }
}

void InterfaceMonitor::follow_targets(const SiteIndex& sites, Ledger& ledger) {
    targets_.credit(*program_);
    if (targets_.follow(sites.targets(), public_key_, ledger))
        routes_current_ = false;
    targets_key_ = public_key_;
}

Result<void> InterfaceMonitor::follow_routes(Ledger& ledger) {
    const std::vector<Route> routes = peers_.routes(device_);
    const TrafficCapacity& capacity = program_->capacity();
    RouteTable table = RouteTable::compile(routes, capacity.routes);
    const TargetTable targets = targets_.compile(capacity.targets);
    const bool holds = peers_.slots_needed() <= capacity.slots && capacity.routes.holds(table.capacity()) &&
                       capacity.targets.holds(targets.capacity());
    if (!holds) {
        const TrafficCapacity larger = roomy(std::max(peers_.slots_needed(), capacity.slots),
                                             table.capacity(), targets_.capacity_needed(targets));
        return replace_program(larger, routes, ledger);
    }
    if (auto published = program_->publish(table, targets); !published)
        return published;
    routes_ = std::move(table);
    health_.set_routes(routes);
    return {};
}

// The new programs start at zero: everything that the old ones counted is credited from their maps.
Result<void> InterfaceMonitor::replace_program(const TrafficCapacity& capacity,
                                               const std::vector<Route>& routes, Ledger& ledger) {
    RouteTable table = RouteTable::compile(routes, capacity.routes);
    auto larger = load_program(capacity);
    if (!larger)
        return std::unexpected(larger.error());
    auto taken = larger->publish(table, targets_.compile(capacity.targets));
    if (taken)
        taken = larger->take_over(*program_);
    if (!taken) {
        larger->unpin();
        return taken;
    }
    routes_ = std::move(table);
    health_.set_routes(routes);
    credit_replaced(std::move(*larger), ledger);
    spdlog::info("{}: room for {} peers and {} targets now", interface_.name,
                 capacity.slots - TRAFFIC_FIRST_PEER_SLOT,
                 std::max(capacity.targets.indexes, 1U) - TRAFFIC_FIRST_TARGET);
    return {};
}

void InterfaceMonitor::credit_replaced(TrafficProgram larger, Ledger& ledger) {
    const auto unassigned = ledger.sites.of(unassigned_site_id);
    credit_last_unmatched(*unassigned);
    unmatched_credited_ = {};
    const std::uint32_t old_slots = program_->capacity().slots;
    peers_.for_each([&](const WireGuardKey&, TrackedPeer& peer) {
        if (peer.slot < old_slots)
            credit_slot(peer, peer.traffic() != nullptr ? *peer.traffic() : unassigned->traffic);
        peer.credited = {};
    });
    targets_.replace(*program_, larger);
    replaced_losses_ += program_->read_losses();
    std::swap(*program_, larger);
    keeping_.write_state();
    larger.unpin();
}

void InterfaceMonitor::credit_slot(TrackedPeer& peer, traffic_counts& total) const {
    const traffic_counts now = program_->read(peer.slot);
    add(total, difference(now, peer.credited));
    peer.credited = now;
}

void InterfaceMonitor::credit_counters(const PollTime& now, Ledger& ledger) {
    // Accounts are known without a directory when another process has written them down.
    const std::uint32_t slots = program_->capacity().slots;
    peers_.for_each([&](const WireGuardKey&, TrackedPeer& peer) {
        if (peer.traffic() != nullptr && peer.slot < slots)
            credit_slot(peer, *peer.traffic());
    });
    targets_.credit(*program_);
    if (!directory_)
        return;
    const auto unassigned = ledger.sites.of(unassigned_site_id);
    count_no_peer(credit_unmatched_slot(*unassigned), *unassigned);
    count_no_peer(unmatched_.credit(*program_, *routes_, peers_, *unassigned, now.steady), *unassigned);
}

// Of addresses that found no room in the kernel's map.
traffic_counts InterfaceMonitor::credit_unmatched_slot(SiteAccount& unassigned) {
    const traffic_counts now = program_->read(TRAFFIC_SLOT_UNMATCHED);
    const traffic_counts growth = difference(now, unmatched_credited_);
    add(unassigned.traffic, growth);
    unmatched_credited_ = now;
    return growth;
}

void InterfaceMonitor::credit_last_unmatched(SiteAccount& unassigned) {
    count_no_peer(credit_unmatched_slot(unassigned), unassigned);
    count_no_peer(unmatched_.credit_final(*program_, *routes_, peers_, unassigned), unassigned);
}

// WireGuard drops what goes to an address that is no peer's (wg_xmit in drivers/net/wireguard/device.c,
// RoutineReadFromTUN in wireguard-go).
void InterfaceMonitor::count_no_peer(const traffic_counts& nobody, SiteAccount& unassigned) const {
    // Peers beyond max_peers have addresses that are unknown to us only.
    if (peers_.refuses())
        return;
    std::uint64_t packets = 0;
    for (const traffic_count& count : nobody.count[TRAFFIC_EGRESS])
        packets += count.packets;
    if (packets > 0)
        unassigned.health().add_drops(TRAFFIC_EGRESS, "wireguard_no_peer", packets);
}

void InterfaceMonitor::credit_tunnels(const PollTime& now, Ledger& ledger) {
    for (const WireGuardPeer& reported : device_.peers) {
        TrackedPeer* const peer = peers_.find(reported.public_key);
        if (peer == nullptr || peer->account == nullptr)
            continue;
        if (!peer->reported)
            peer->reading = ledger.sites.take_reading(reported.public_key).value_or(TunnelReading{});
        const std::uint64_t received = growth(reported.receive_bytes, peer->reading.receive_bytes);
        SiteAccount& account = *peer->account;
        account.tunnel_receive_bytes += received;
        account.tunnel_transmit_bytes += growth(reported.transmit_bytes, peer->reading.transmit_bytes);
        // At the first sight of a peer its counters say nothing of when the bytes came.
        if (received > 0 && peer->reported)
            peer->last_packet = now.steady;
        peer->reading = {reported.receive_bytes, reported.transmit_bytes};
        peer->last_handshake_ns = reported.last_handshake_ns;
        peer->reported = true;
        account.had_peer = true;
        const bool up = peer->up(now);
        if (up)
            account.saw_up(reported.public_key);
        follow_endpoint(reported, *peer, up);
    }
}

void InterfaceMonitor::follow_endpoint(const WireGuardPeer& reported, TrackedPeer& peer, bool up) {
    if (!reported.endpoint || reported.endpoint == peer.endpoint)
        return;
    if (peer.endpoint && up)
        peer.account->count_reconnect(ReconnectReason::endpoint_change);
    peer.endpoint = reported.endpoint;
    health_.set_endpoint(*reported.endpoint, reported.public_key, peers_);
}

void InterfaceMonitor::mark_unknown() {
    peers_.for_each([](const WireGuardKey&, TrackedPeer& peer) {
        if (peer.account != nullptr)
            peer.account->unknown = true;
    });
}

void InterfaceMonitor::finish(Ledger& ledger) {
    // Writes the state, which unmatched traffic that is credited for good is not in any more.
    health_.finish(peers_, ledger.sites);
    const auto unassigned = ledger.sites.of(unassigned_site_id);
    const std::uint32_t slots = program_->capacity().slots;
    peers_.for_each([&](const WireGuardKey& key, TrackedPeer& peer) {
        if (peer.slot < slots)
            credit_slot(peer, peer.traffic() != nullptr ? *peer.traffic() : unassigned->traffic);
        if (peer.reported)
            ledger.sites.keep_reading(key, peer.reading);
    });
    targets_.credit(*program_);
    credit_last_unmatched(*unassigned);
}

void InterfaceMonitor::set_namespace(const NetworkNamespace& netns) {
    interface_.netns = netns;
    program_->set_namespace(netns);
    health_.set_namespace(netns);
}

TrafficLosses InterfaceMonitor::losses() const {
    TrafficLosses sum = program_->read_losses();
    sum += replaced_losses_;
    return sum;
}

void InterfaceMonitor::describe(Snapshot& snapshot) const {
    const auto index = static_cast<std::uint32_t>(snapshot.interfaces.size());
    snapshot.add_feature("tcx", program_->hook() == HookKind::tcx);
    snapshot.add_feature("clsact", program_->hook() == HookKind::clsact);
    snapshot.add_attachments(to_string(program_->hook()), TRAFFIC_DIRECTIONS);
    health_.describe(snapshot);
    InterfaceSnapshot described{.name = interface_.name,
                                .netns = interface_.netns.name,
                                .implementation = to_string(interface_.implementation),
                                .hook = to_string(program_->hook())};
    const TrafficLosses sum = losses();
    for (int direction = 0; direction < TRAFFIC_DIRECTIONS; ++direction)
        std::ranges::copy(sum.undecodable[direction], described.undecodable[direction].begin());
    snapshot.interfaces.push_back(std::move(described));

    const TrafficCapacity& capacity = program_->capacity();
    snapshot.maps.push_back({"counters", index, peers_.size(), capacity.slots - TRAFFIC_FIRST_PEER_SLOT});
    snapshot.maps.push_back({"route_entries", index, routes_->entry_count(), capacity.routes.entries});
    snapshot.maps.push_back(
        {"route_pools", index, routes_->pool_blocks().size(), capacity.routes.pool_blocks});
    snapshot.maps.push_back({"unmatched", index, unmatched_.size(), program_->unmatched_capacity()});
    snapshot.maps.push_back({"target_counters", index, targets_.size(),
                             std::max(capacity.targets.indexes, 1U) - TRAFFIC_FIRST_TARGET});
    snapshot.maps.push_back({"udp_flows", index, targets_.flows(), program_->flow_capacity()});

    for (const WireGuardPeer& reported : device_.peers) {
        const auto peer = peers_.find(reported.public_key);
        snapshot.peers.push_back(
            {.interface = index,
             .public_key = reported.public_key.to_base64(),
             .site = peer != nullptr ? peer->site : nullptr,
             .receive_bytes = reported.receive_bytes,
             .transmit_bytes = reported.transmit_bytes,
             .last_handshake_seconds = static_cast<double>(reported.last_handshake_ns) * 1e-9});
    }
}

}  // namespace pangolin
