#include "userspace/peer_statistics.h"

#include <malloc.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>
#include <unordered_map>

#include "loader/grace_period.h"
#include "userspace/slot_accounts.h"

namespace pangolin {

void PeerStatistics::restore(const PeerStatisticsState& state, const PeerTable& peers) {
    kept_tcp_.restore(state.tcp_pins);
    kept_drops_.restore(state.drop_pins);
    tcp_accounting_.restore(state.tcp);
    drop_accounting_.restore(state.drops);
    drop_accounting_.set_wireguard_unknown(state.wireguard_unknown);
    ended_tcp_losses_ = state.tcp_losses;
    ended_drop_losses_ = state.drop_losses;
    const auto known = [&](std::uint32_t slot) {
        return slot == TRAFFIC_SLOT_UNMATCHED || peers.at_slot(slot) != nullptr;
    };
    if (!state.tcp_pins.empty())
        forget_tcp_slots(keeping_.pins->folder(state.tcp_pins), known);
    if (!state.drop_pins.empty())
        forget_drop_slots(keeping_.pins->folder(state.drop_pins), known);
}

PeerStatisticsState PeerStatistics::state() const {
    PeerStatisticsState state;
    state.interface = static_cast<const NetworkInterface&>(interface_);
    state.tcp_pins = kept_tcp_.written();
    state.drop_pins = kept_drops_.written();
    state.tcp = tcp_accounting_.save();
    state.drops = drop_accounting_.save();
    state.wireguard_unknown = drop_accounting_.wireguard_unknown();
    state.tcp_losses = ended_tcp_losses_;
    state.drop_losses = ended_drop_losses_;
    return state;
}

void PeerStatistics::forget_written() {
    if (tcp_)
        std::ranges::for_each(retired_, [&](std::uint32_t slot) { tcp_->forget(slot); });
    if (drops_)
        drops_->forget(retired_);
    retired_.clear();
}

void PeerStatistics::attach(const WireGuardInterface& interface, const PeerPlaces& places,
                            const PeerTable& peers, SiteLedger& ledger) {
    interface_ = interface;
    // Another process may have been allowed more.
    const std::uint32_t room = std::max(max_peers_, peers.slots_needed());
    if (const auto filled = fill_lookup(places, room); !filled) {
        spdlog::warn("{}: no TCP statistics and no packet drops: {}", interface_.name,
                     filled.error().message());
        return finish(peers, ledger);
    }
    start_tcp(room, peers, ledger);
    start_drops(places.listen_port, room, peers, ledger);
    // libbpf has read the kernel's types several times, some megabytes each, which the heap would keep.
    malloc_trim(0);
}

// Before the programs that are replaced, which have their own, stop: otherwise what comes meanwhile is
// nobody's.
Result<void> PeerStatistics::fill_lookup(const PeerPlaces& places, std::uint32_t room) {
    auto lookup = PeerLookup::create(room);
    if (!lookup)
        return std::unexpected(lookup.error());
    lookup_ = std::move(*lookup);
    if (auto set = lookup_->set_routes(places.routes); !set)
        return set;
    return lookup_->set_endpoints(places.endpoints);
}

void PeerStatistics::start_tcp(std::uint32_t room, const PeerTable& peers, SiteLedger& ledger) {
    auto program = kept_tcp_.start<TcpProgram>(
        keeping_,
        [&](const std::optional<KeptPins>& pins) {
            return TcpProgram::load(interface_, *lookup_, room, pins);
        },
        [&](const PinFolder& pins) { credit_last_tcp(pins, peers, ledger); },
        [this] { tcp_accounting_.restart(); });
    if (program)
        tcp_ = std::move(*program);
    else
        spdlog::warn("{}: no TCP statistics: {}", interface_.name, program.error().message());
}

void PeerStatistics::start_drops(std::uint16_t listen_port, std::uint32_t room, const PeerTable& peers,
                                 SiteLedger& ledger) {
    const bool is_kernel = interface_.implementation == WireGuardImplementation::kernel;
    auto program = kept_drops_.start<DropProgram>(
        keeping_,
        [&](const std::optional<KeptPins>& pins) {
            auto loaded = DropProgram::load(interface_, *lookup_, room, pins);
            if (!loaded)
                return loaded;
            loaded->set_listen_port(listen_port);
            // As it is written down when the programs begin to count; those before count their last by
            // theirs.
            if (!pins || pins->before.empty())
                drop_accounting_.set_wireguard_unknown(is_kernel && !loaded->knows_wireguard());
            return loaded;
        },
        [&](const PinFolder& pins) { credit_last_drops(pins, peers, ledger); },
        [this] { drop_accounting_.restart(); });
    if (!program) {
        spdlog::warn("{}: no packet drops: {}", interface_.name, program.error().message());
        return;
    }
    drops_ = std::move(*program);
    drop_accounting_.set_wireguard_unknown(is_kernel && !drops_->knows_wireguard());
    reasons_.reset();
}

void PeerStatistics::note(const Result<void>& set) {
    if (!set)
        trouble_ = set.error();
}

void PeerStatistics::set_routes(const std::vector<Route>& routes) {
    if (lookup_)
        note(lookup_->set_routes(routes));
}

void PeerStatistics::set_endpoints(const std::vector<EndpointSlot>& endpoints) {
    if (lookup_)
        note(lookup_->set_endpoints(endpoints));
}

void PeerStatistics::set_listen_port(std::uint16_t port) {
    if (drops_)
        drops_->set_listen_port(port);
}

void PeerStatistics::set_namespace(const NetworkNamespace& netns) {
    interface_.netns = netns;
    if (tcp_)
        tcp_->set_namespace(netns);
}

Result<void> PeerStatistics::sample() {
    return tcp_ ? tcp_->sample() : Result<void>();
}

void PeerStatistics::finish(const PeerTable& peers, SiteLedger& ledger) {
    if (tcp_) {
        tcp_accounting_.credit(tcp_->read(), accounts_of(peers, ledger, true), now_);
        if (keeping_.pins == nullptr)
            ended_tcp_losses_ += tcp_->lost();
        tcp_.reset();
    }
    kept_tcp_.end(
        keeping_, [&](const PinFolder& pins) { credit_last_tcp(pins, peers, ledger); },
        [this] { tcp_accounting_.restart(); });
    if (drops_) {
        drop_accounting_.credit(drops_->read(), drops_->reasons(), accounts_of(peers, ledger, true));
        if (keeping_.pins == nullptr)
            ended_drop_losses_ += drops_->lost();
        reasons_ = drops_->reasons();
        drops_.reset();
    }
    kept_drops_.end(
        keeping_, [&](const PinFolder& pins) { credit_last_drops(pins, peers, ledger); },
        [this] { drop_accounting_.restart(); });
    lookup_.reset();
}

void PeerStatistics::credit(const PeerTable& peers, SiteLedger& ledger,
                            std::chrono::steady_clock::time_point now) {
    now_ = now;
    // Without the peers' slots of now, these would be credited to the peers of before.
    if (trouble_) {
        spdlog::error("{}: TCP statistics and packet drops end here: {}", interface_.name,
                      trouble_->message());
        trouble_.reset();
        return finish(peers, ledger);
    }
    const SlotAccounts accounts = accounts_of(peers, ledger, false);
    if (tcp_)
        tcp_accounting_.credit(tcp_->read(), accounts, now_);
    if (drops_)
        drop_accounting_.credit(drops_->read(), drops_->reasons(), accounts);
}

void PeerStatistics::credit_last_tcp(const PinFolder& pins, const PeerTable& peers, SiteLedger& ledger) {
    const LastTcpCounts last = read_last_tcp_counts(pins);
    tcp_accounting_.credit(last.counts, accounts_of(peers, ledger, true), now_);
    ended_tcp_losses_ += last.lost;
}

void PeerStatistics::credit_last_drops(const PinFolder& pins, const PeerTable& peers, SiteLedger& ledger) {
    const LastDropCounts last = read_last_drop_counts(pins);
    drop_accounting_.credit(last.counts, reasons(), accounts_of(peers, ledger, true));
    ended_drop_losses_ += last.lost;
}

void PeerStatistics::retire(const std::vector<TrackedPeer*>& gone, SiteLedger& ledger) {
    if (gone.empty() || !lookup_)
        return;
    // Some may have found the slots before they were taken out of the look-up.
    wait_for_running_programs();
    std::unordered_map<std::uint32_t, std::shared_ptr<SiteAccount>> owners;
    std::vector<SlotTcpCounts> last;
    for (const TrackedPeer* const peer : gone) {
        owners.emplace(peer->slot, peer->account != nullptr ? peer->account : ledger.of(unassigned_site_id));
        if (const auto counts = tcp_ ? tcp_->read(peer->slot) : std::nullopt)
            last.push_back({peer->slot, *counts});
        retired_.push_back(peer->slot);
    }
    const auto is_gone = [&](std::uint32_t slot) { return owners.contains(slot); };
    const SlotAccounts accounts = [&](std::uint32_t slot) {
        return is_gone(slot) ? owners.at(slot).get() : nullptr;
    };
    tcp_accounting_.credit(last, accounts, now_);
    if (drops_)
        drop_accounting_.credit(drops_->read(), drops_->reasons(), accounts);
    for (const auto& [slot, owner] : owners)
        tcp_accounting_.forget(slot);
    drop_accounting_.forget(is_gone);
}

const DropReasons& PeerStatistics::reasons() {
    if (drops_)
        return drops_->reasons();
    if (!reasons_)
        reasons_ = DropReasons::of_this_kernel();
    return *reasons_;
}

std::uint64_t PeerStatistics::tcp_losses() const {
    return ended_tcp_losses_ + (tcp_ ? tcp_->lost() : 0);
}

std::uint64_t PeerStatistics::drop_losses() const {
    return ended_drop_losses_ + (drops_ ? drops_->lost() : 0);
}

void PeerStatistics::describe(Snapshot& snapshot) const {
    snapshot.add_feature("tcp", tcp_.has_value());
    snapshot.add_feature("drops", drops_.has_value());
    if (tcp_)
        snapshot.add_attachments("tracepoint", tcp_->attachments());
    if (drops_)
        snapshot.add_attachments("tracepoint", 1);
}

}  // namespace pangolin
