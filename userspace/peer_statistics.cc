#include "userspace/peer_statistics.h"

#include <malloc.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "loader/grace_period.h"

namespace pangolin {

std::size_t PeerStatistics::DropKeyHash::operator()(const drop_key& key) const {
    return std::hash<std::uint64_t>{}(std::uint64_t{key.slot} << 32 ^ std::uint64_t{key.reason} << 8 ^
                                      key.direction << 4 ^ key.place);
}

bool PeerStatistics::DropKeyEqual::operator()(const drop_key& a, const drop_key& b) const {
    return std::memcmp(&a, &b, sizeof a) == 0;
}

void PeerStatistics::restore(const PeerStatisticsState& state, const PeerTable& peers) {
    kept_tcp_.restore(state.tcp_pins);
    kept_drops_.restore(state.drop_pins);
    for (const TcpCredit& credit : state.tcp)
        tcp_credited_[credit.slot] = from_credit(credit).counts;
    for (const DropCount& drop : state.drops)
        drops_credited_[drop.key] = drop.packets;
    wireguard_unknown_ = state.wireguard_unknown;
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
    state.tcp.reserve(tcp_credited_.size());
    for (const auto& [slot, counts] : tcp_credited_)
        state.tcp.push_back(to_credit({slot, counts}));
    state.drops.reserve(drops_credited_.size());
    for (const auto& [key, packets] : drops_credited_)
        state.drops.push_back({key, packets});
    state.wireguard_unknown = wireguard_unknown_;
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
        [this] { tcp_credited_.clear(); });
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
                wireguard_unknown_ = is_kernel && !loaded->knows_wireguard();
            return loaded;
        },
        [&](const PinFolder& pins) { credit_last_drops(pins, peers, ledger); },
        [this] { drops_credited_.clear(); });
    if (!program) {
        spdlog::warn("{}: no packet drops: {}", interface_.name, program.error().message());
        return;
    }
    drops_ = std::move(*program);
    wireguard_unknown_ = is_kernel && !drops_->knows_wireguard();
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
        credit_tcp(tcp_->read(), peers, ledger, true);
        if (keeping_.pins == nullptr)
            ended_tcp_losses_ += tcp_->lost();
        tcp_.reset();
    }
    kept_tcp_.end(
        keeping_, [&](const PinFolder& pins) { credit_last_tcp(pins, peers, ledger); },
        [this] { tcp_credited_.clear(); });
    if (drops_) {
        credit_drops(drops_->read(), peers, ledger, true);
        if (keeping_.pins == nullptr)
            ended_drop_losses_ += drops_->lost();
        reasons_ = drops_->reasons();
        drops_.reset();
    }
    kept_drops_.end(
        keeping_, [&](const PinFolder& pins) { credit_last_drops(pins, peers, ledger); },
        [this] { drops_credited_.clear(); });
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
    if (tcp_)
        credit_tcp(tcp_->read(), peers, ledger, false);
    if (drops_)
        credit_drops(drops_->read(), peers, ledger, false);
}

SiteAccount* PeerStatistics::account_of(std::uint32_t slot, const PeerTable& peers, SiteLedger& ledger,
                                        bool final) {
    if (slot == TRAFFIC_SLOT_UNMATCHED)
        return ledger.of(unassigned_site_id).get();
    const TrackedPeer* const peer = peers.at_slot(slot);
    // What is nobody's was credited when its peer went.
    if (peer == nullptr)
        return nullptr;
    if (peer->account != nullptr)
        return peer->account.get();
    return final ? ledger.of(unassigned_site_id).get() : nullptr;
}

void PeerStatistics::credit_tcp(const std::vector<SlotTcpCounts>& counts, const PeerTable& peers,
                                SiteLedger& ledger, bool final) {
    for (const SlotTcpCounts& now : counts) {
        if (SiteAccount* const account = account_of(now.slot, peers, ledger, final))
            credit_tcp_slot(now, *account);
    }
}

void PeerStatistics::credit_tcp_slot(const SlotTcpCounts& now, SiteAccount& account) {
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

void PeerStatistics::credit_drops(const std::vector<DropCount>& counts, const PeerTable& peers,
                                  SiteLedger& ledger, bool final) {
    for (const DropCount& now : counts) {
        if (SiteAccount* const account = account_of(now.key.slot, peers, ledger, final))
            credit_drop(now, *account);
    }
}

void PeerStatistics::credit_drop(const DropCount& now, SiteAccount& account) {
    std::uint64_t& before = drops_credited_[now.key];
    if (now.packets == before)
        return;
    if (!is_no_peer(now.key) && !was_delivered(now.key))
        account.health().add_drops(static_cast<traffic_direction>(now.key.direction), name_of(now.key),
                                   now.packets - before);
    before = now.packets;
}

void PeerStatistics::credit_last_tcp(const PinFolder& pins, const PeerTable& peers, SiteLedger& ledger) {
    const LastTcpCounts last = read_last_tcp_counts(pins);
    credit_tcp(last.counts, peers, ledger, true);
    ended_tcp_losses_ += last.lost;
}

void PeerStatistics::credit_last_drops(const PinFolder& pins, const PeerTable& peers, SiteLedger& ledger) {
    const LastDropCounts last = read_last_drop_counts(pins);
    credit_drops(last.counts, peers, ledger, true);
    ended_drop_losses_ += last.lost;
}

void PeerStatistics::retire(const std::vector<TrackedPeer*>& gone, SiteLedger& ledger) {
    if (gone.empty() || !lookup_)
        return;
    // Some may have found the slots before they were taken out of the look-up.
    wait_for_running_programs();
    std::unordered_map<std::uint32_t, std::shared_ptr<SiteAccount>> accounts;
    for (const TrackedPeer* const peer : gone) {
        const auto account = peer->account != nullptr ? peer->account : ledger.of(unassigned_site_id);
        accounts.emplace(peer->slot, account);
        if (const auto last = tcp_ ? tcp_->read(peer->slot) : std::nullopt)
            credit_tcp_slot({peer->slot, *last}, *account);
        tcp_credited_.erase(peer->slot);
        retired_.push_back(peer->slot);
    }
    for (const DropCount& last : drops_ ? drops_->read() : std::vector<DropCount>()) {
        if (const auto account = accounts.find(last.key.slot); account != accounts.end())
            credit_drop(last, *account->second);
    }
    std::erase_if(drops_credited_, [&](const auto& entry) { return accounts.contains(entry.first.slot); });
}

const DropReasons& PeerStatistics::reasons() {
    if (drops_)
        return drops_->reasons();
    if (!reasons_)
        reasons_ = DropReasons::of_this_kernel();
    return *reasons_;
}

std::string PeerStatistics::name_of(const drop_key& key) {
    std::string reason = reasons().name(key.reason);
    if (key.place == DROP_IN_UNDERLAY)
        return "underlay_" + reason;
    if (key.place != DROP_IN_WIREGUARD)
        return reason;
    // wg_xmit() (drivers/net/wireguard/device.c) drops without saying why: no peer has the address, the peer
    // has no endpoint, or (which no routed packet is) it is neither IPv4 nor IPv6.
    const bool unspecified = reasons().unspecified(key.reason);
    return unspecified && key.direction == TRAFFIC_EGRESS ? "wireguard_no_endpoint" : "wireguard_" + reason;
}

// What a closed socket has in its receive queue is thrown away with it: as a rule the FIN of the other side.
bool PeerStatistics::was_delivered(const drop_key& key) {
    return key.place == DROP_IN_TUNNEL && key.direction == TRAFFIC_INGRESS &&
           reasons().name(key.reason) == "queue_purge";
}

// For an address without a peer: InterfaceMonitor counts these itself, for every kind of WireGuard. Where
// nothing tells which drops are WireGuard's, it is those without a reason.
bool PeerStatistics::is_no_peer(const drop_key& key) {
    if (key.slot != TRAFFIC_SLOT_UNMATCHED || key.direction != TRAFFIC_EGRESS)
        return false;
    if (key.place == DROP_IN_WIREGUARD)
        return true;
    return key.place == DROP_IN_TUNNEL && wireguard_unknown_ && reasons().unspecified(key.reason);
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
