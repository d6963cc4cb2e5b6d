// InterfaceMonitor over the end of its process: what is written down, and how it goes on.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>

#include "loader/base/number.h"
#include "userspace/interface_monitor.h"
#include "userspace/traffic_arithmetic.h"

namespace pangolin {

InterfaceState InterfaceMonitor::state() const {
    InterfaceState state;
    state.interface = static_cast<const NetworkInterface&>(interface_);
    state.public_key = public_key_;
    if (keeping_.pins != nullptr && program_->pins())
        state.pins = keeping_.pins->path_in_root(*program_->pins());
    state.peers.reserve(peers_.size());
    peers_.for_each([&](const WireGuardKey& key, const TrackedPeer& peer) {
        PeerState& written = state.peers.emplace_back();
        written.key = key;
        written.slot = peer.slot;
        written.credited = peer.credited;
        written.reported = peer.reported;
        written.reading = peer.reading;
        if (peer.account == nullptr)
            return;
        written.site_id = peer.account->site_id;
        if (peer.client != nullptr)
            written.client_id = peer.client->client_id;
    });
    state.targets = targets_.states();
    unmatched_.for_each_credited([&](const IpAddress& remote, const traffic_counts& credited) {
        state.unmatched.push_back({remote, credited});
    });
    state.unmatched_credited = unmatched_credited_;
    return state;
}

bool InterfaceMonitor::has_final() const {
    return !retired_slots_.empty() || targets_.has_retired() || unmatched_.has_final();
}

void InterfaceMonitor::forget_written() {
    health_.forget_written();
    if (!program_)
        return;
    for (const std::uint32_t slot : retired_slots_) {
        if (slot < program_->capacity().slots)
            program_->clear(slot);
    }
    retired_slots_.clear();
    targets_.clear_retired(*program_);
    unmatched_.forget_final(*program_);
}

Result<std::unique_ptr<InterfaceMonitor>> InterfaceMonitor::restore(const InterfaceState& state,
                                                                    const MonitorLimits& limits,
                                                                    const MonitorKeeping& keeping,
                                                                    Ledger& ledger) {
    WireGuardInterface interface;
    static_cast<NetworkInterface&>(interface) = state.interface;
    std::unique_ptr<InterfaceMonitor> monitor(new InterfaceMonitor(std::move(interface), limits, keeping));
    monitor->public_key_ = state.public_key;
    auto program = TrafficProgram::open_pinned(keeping.pins->folder(state.pins));
    if (!program)
        return std::unexpected(program.error());
    monitor->program_ = std::move(*program);
    // What the routes in force are, only the other process knew: unmatched packets wait for the first poll.
    monitor->routes_ = RouteTable::compile({});
    monitor->restore_peers(state, ledger);
    return monitor;
}

void InterfaceMonitor::restore_peers(const InterfaceState& state, Ledger& ledger) {
    std::vector<bool> used(program_->capacity().slots);
    for (const PeerState& written : state.peers) {
        // Of a state file that is not what it says.
        if (!peers_.can_restore(written.slot))
            continue;
        TrackedPeer& peer = peers_.restore(written.key, written.slot);
        if (written.slot < used.size())
            used[written.slot] = true;
        peer.credited = written.credited;
        if (written.site_id.empty())
            continue;
        peer.account = ledger.sites.of(written.site_id);
        if (!written.client_id.empty())
            peer.client = ledger.client(written.client_id);
    }
    for (const TargetState& target : state.targets)
        targets_.restore(target, ledger);
    for (const UnmatchedState& unmatched : state.unmatched)
        unmatched_.restore(unmatched.remote, unmatched.credited);
    unmatched_credited_ = state.unmatched_credited;
    // What nobody has was credited, and the process ended before it was cleared.
    for (std::uint32_t slot = TRAFFIC_FIRST_PEER_SLOT; slot < used.size(); ++slot) {
        if (!used[slot])
            program_->clear(slot);
    }
    targets_.clear_unused(*program_);
}

// 0 when there is none. A number is never used again while others of the interface are there.
std::uint32_t InterfaceMonitor::newest_generation() const {
    std::uint32_t newest = 0;
    for (const std::string& name : keeping_.pins->interface(interface_).entries())
        newest = std::max(newest, parse_number<std::uint32_t>(name).value_or(0));
    return newest;
}

// Of larger maps that the other process was changing to.
std::optional<PinFolder> InterfaceMonitor::unfinished_pins() const {
    const std::uint32_t newest = newest_generation();
    PinFolder pins = keeping_.pins->interface(interface_).below(std::to_string(newest));
    if (newest == 0 || pins.path() == program_->pins()->path())
        return {};
    return pins;
}

Result<void> InterfaceMonitor::resume(const WireGuardInterface& interface, HookMode mode,
                                      HandshakeMode handshakes, Ledger& ledger) {
    interface_ = interface;
    if (auto opened = open_reader(); !opened)
        return opened;
    const bool same_maps = program_->resumable() && !unfinished_pins();
    const Result<void> resumed = same_maps ? program_->resume(interface_) : resume_with_other_maps(ledger);
    if (!resumed)
        return resumed;
    if ((mode == HookMode::tcx && program_->hook() != HookKind::tcx) ||
        (mode == HookMode::clsact && program_->hook() != HookKind::clsact))
        return failure("attached by " + std::string(to_string(program_->hook())) +
                       " before, which metrics.wireguard.attach is not any more");
    // Those that have come since have their slots before their connections are counted in these.
    peers_.update(device_);
    watch_health(mode, handshakes, ledger);
    spdlog::info("counting on, on {} in network namespace {} ({} peers, {})", interface_.name,
                 interface_.netns.name, device_.peers.size(), to_string(program_->hook()));
    return {};
}

Result<void> InterfaceMonitor::resume_with_other_maps(Ledger& ledger) {
    const auto unfinished = unfinished_pins();
    if (unfinished) {
        auto program = TrafficProgram::open_pinned(*unfinished);
        if (program && program->resumable()) {
            if (auto taken = program->take_over_pinned(interface_, *program_); !taken)
                return taken;
            credit_replaced(std::move(*program), ledger);
            return {};
        }
    }
    peers_.update(device_);
    const std::vector<Route> routes = peers_.routes(device_);
    const TargetTable targets = targets_.compile();
    const TrafficCapacity capacity =
        roomy(std::max(peers_.slots_needed(), program_->capacity().slots),
              RouteTable::compile(routes).capacity(), targets_.capacity_needed(targets));
    auto program = load_program(capacity);
    if (!program)
        return std::unexpected(program.error());
    keeping_.write_state();
    auto taken =
        program->publish(RouteTable::compile(routes, capacity.routes), targets_.compile(capacity.targets));
    if (taken)
        taken = program->take_over_pinned(interface_, *program_);
    if (!taken) {
        program->unpin();
        return taken;
    }
    routes_ = RouteTable::compile(routes, capacity.routes);
    credit_replaced(std::move(*program), ledger);
    return {};
}

}  // namespace pangolin
