#include "userspace/peer_table.h"

namespace pangolin {
namespace {

constexpr std::chrono::seconds handshake_lifetime{180};
constexpr std::chrono::seconds packet_lifetime{25};

// A hash of who is allowed which IPs, in WireGuard's order, which is stable while nothing changes. (FNV-1a
// over 64-bit words; a wrong "unchanged" needs a collision of 2^-64.)
class Fingerprint {
  public:
    void add(std::uint64_t word) { value_ = (value_ ^ word) * 0x100000001b3ULL ^ value_ >> 47; }
    void add(const WireGuardPeer& peer) {
        add(std::hash<WireGuardKey>{}(peer.public_key));
        for (const IpPrefix& prefix : peer.allowed_ips) {
            add(prefix.network.high);
            add(prefix.network.low);
            add(std::uint64_t{prefix.length} << 1 | (prefix.network.family == IpFamily::v6 ? 1U : 0U));
        }
    }
    std::uint64_t value() const { return value_; }

  private:
    std::uint64_t value_ = 0xcbf29ce484222325ULL;
};

}  // namespace

bool TrackedPeer::up(const PollTime& now) const {
    if (last_handshake_ns == 0)
        return false;
    const auto handshake_age = now.wall.time_since_epoch() - std::chrono::nanoseconds(last_handshake_ns);
    return handshake_age < handshake_lifetime || (last_packet && now.steady - *last_packet < packet_lifetime);
}

bool PeerTable::update(const WireGuardDevice& device) {
    ++poll_;
    Fingerprint fingerprint;
    std::size_t refused_now = 0;
    bool changed = false;
    for (const WireGuardPeer& peer : device.peers) {
        fingerprint.add(peer);
        TrackedPeer* tracked = find(peer.public_key);
        if (tracked == nullptr) {
            // A refused peer may get its place later without any change of allowed IPs.
            tracked = insert(peer.public_key);
            changed |= tracked != nullptr;
        }
        if (tracked == nullptr)
            ++refused_now;
        else
            tracked->seen_in_poll = poll_;
    }
    if (refused_now > refused_now_)
        refused_ += refused_now - refused_now_;
    refused_now_ = refused_now;
    changed |= fingerprint.value() != fingerprint_;
    fingerprint_ = fingerprint.value();
    return changed;
}

TrackedPeer* PeerTable::find(const WireGuardKey& key) {
    const auto found = peers_.find(key);
    return found == peers_.end() ? nullptr : &found->second;
}

const TrackedPeer* PeerTable::find(const WireGuardKey& key) const {
    const auto found = peers_.find(key);
    return found == peers_.end() ? nullptr : &found->second;
}

TrackedPeer* PeerTable::at_slot(std::uint32_t slot) {
    return slot < by_slot_.size() ? by_slot_[slot] : nullptr;
}

const TrackedPeer* PeerTable::at_slot(std::uint32_t slot) const {
    return slot < by_slot_.size() ? by_slot_[slot] : nullptr;
}

std::vector<TrackedPeer*> PeerTable::unseen() {
    std::vector<TrackedPeer*> gone;
    for (auto& [key, peer] : peers_) {
        if (peer.seen_in_poll != poll_)
            gone.push_back(&peer);
    }
    return gone;
}

TrackedPeer* PeerTable::insert(const WireGuardKey& key) {
    if (peers_.size() >= max_peers_)
        return nullptr;
    TrackedPeer& peer = peers_[key];
    if (free_slots_.empty()) {
        put(peer, next_slot_++);
    } else {
        put(peer, free_slots_.back());
        free_slots_.pop_back();
    }
    return &peer;
}

void PeerTable::put(TrackedPeer& peer, std::uint32_t slot) {
    peer.slot = slot;
    if (by_slot_.size() <= slot)
        by_slot_.resize(slot + 1);
    by_slot_[slot] = &peer;
}

bool PeerTable::can_restore(std::uint32_t slot) const {
    // Twice what metrics.limits.max_peers may be: those that are gone keep theirs for a moment.
    constexpr std::uint32_t greatest_slot = 1U << 21;
    return slot >= TRAFFIC_FIRST_PEER_SLOT && slot <= greatest_slot && at_slot(slot) == nullptr;
}

TrackedPeer& PeerTable::restore(const WireGuardKey& key, std::uint32_t slot) {
    for (; next_slot_ < slot; ++next_slot_)
        free_slots_.push_back(next_slot_);
    if (slot == next_slot_)
        ++next_slot_;
    std::erase(free_slots_, slot);
    TrackedPeer& peer = peers_[key];
    put(peer, slot);
    return peer;
}

std::vector<Route> PeerTable::routes(const WireGuardDevice& device) const {
    std::vector<Route> result;
    for (const WireGuardPeer& peer : device.peers) {
        const auto tracked = peers_.find(peer.public_key);
        if (tracked == peers_.end())
            continue;
        for (const IpPrefix& prefix : peer.allowed_ips)
            result.push_back({prefix, tracked->second.slot});
    }
    return result;
}

}  // namespace pangolin
