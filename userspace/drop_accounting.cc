#include "userspace/drop_accounting.h"

#include <cstring>

namespace pangolin {
namespace {

std::string name_of(const drop_key& key, const DropReasons& reasons) {
    std::string reason = reasons.name(key.reason);
    if (key.place == DROP_IN_UNDERLAY)
        return "underlay_" + reason;
    if (key.place != DROP_IN_WIREGUARD)
        return reason;
    // wg_xmit() (drivers/net/wireguard/device.c) drops without saying why: no peer has the address, the peer
    // has no endpoint, or (which no routed packet is) it is neither IPv4 nor IPv6.
    const bool unspecified = reasons.unspecified(key.reason);
    return unspecified && key.direction == TRAFFIC_EGRESS ? "wireguard_no_endpoint" : "wireguard_" + reason;
}

// What a closed socket has in its receive queue is thrown away with it: as a rule the FIN of the other side.
bool was_delivered(const drop_key& key, const DropReasons& reasons) {
    return key.place == DROP_IN_TUNNEL && key.direction == TRAFFIC_INGRESS &&
           reasons.name(key.reason) == "queue_purge";
}

// For an address without a peer: InterfaceMonitor counts these itself, for every kind of WireGuard. Where
// nothing tells which drops are WireGuard's, it is those without a reason.
bool is_no_peer(const drop_key& key, const DropReasons& reasons, bool wireguard_unknown) {
    if (key.slot != TRAFFIC_SLOT_UNMATCHED || key.direction != TRAFFIC_EGRESS)
        return false;
    if (key.place == DROP_IN_WIREGUARD)
        return true;
    return key.place == DROP_IN_TUNNEL && wireguard_unknown && reasons.unspecified(key.reason);
}

}  // namespace

std::size_t DropAccounting::KeyHash::operator()(const drop_key& key) const {
    return std::hash<std::uint64_t>{}(std::uint64_t{key.slot} << 32 ^ std::uint64_t{key.reason} << 8 ^
                                      key.direction << 4 ^ key.place);
}

bool DropAccounting::KeyEqual::operator()(const drop_key& a, const drop_key& b) const {
    return std::memcmp(&a, &b, sizeof a) == 0;
}

bool DropAccounting::is_lost(const drop_key& key, const DropReasons& reasons) const {
    return !is_no_peer(key, reasons, wireguard_unknown_) && !was_delivered(key, reasons);
}

void DropAccounting::credit(std::span<const DropCount> counts, const DropReasons& reasons,
                            const SlotAccounts& accounts) {
    for (const auto& [key, packets] : counts) {
        SiteAccount* const account = accounts(key.slot);
        if (account == nullptr)
            continue;
        std::uint64_t& before = credited_[key];
        if (packets == before)
            continue;
        if (is_lost(key, reasons))
            account->health().add_drops(static_cast<traffic_direction>(key.direction), name_of(key, reasons),
                                        packets - before);
        before = packets;
    }
}

void DropAccounting::forget(const std::function<bool(std::uint32_t slot)>& is_gone) {
    std::erase_if(credited_, [&](const auto& entry) { return is_gone(entry.first.slot); });
}

std::vector<DropCount> DropAccounting::save() const {
    std::vector<DropCount> credited;
    credited.reserve(credited_.size());
    for (const auto& [key, packets] : credited_)
        credited.push_back({key, packets});
    return credited;
}

void DropAccounting::restore(const std::vector<DropCount>& credited) {
    for (const DropCount& drop : credited)
        credited_[drop.key] = drop.packets;
}

}  // namespace pangolin
