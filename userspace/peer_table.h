// The peers of one interface as they come and go, and the kernel slots that count them.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "bpf/shared/traffic.h"
#include "loader/route_table.h"
#include "userspace/ledger.h"
#include "userspace/metadata/site_directory.h"
#include "userspace/wireguard/device.h"

namespace pangolin {

// The moment of a poll on both clocks: WireGuard's handshake times are wall time, ages of traffic are not.
struct PollTime {
    std::chrono::steady_clock::time_point steady;
    std::chrono::system_clock::time_point wall;
    static PollTime now() { return {std::chrono::steady_clock::now(), std::chrono::system_clock::now()}; }
};

// A peer that has a slot.
struct TrackedPeer {
    std::uint32_t slot = TRAFFIC_SLOT_UNMATCHED;
    // Part of the slot's counts that is in the ledger already.
    traffic_counts credited{};
    // WireGuard's counters at the last poll that credited them, the first of which sets `reported`.
    bool reported = false;
    TunnelReading reading;
    std::int64_t last_handshake_ns = 0;
    // When reading.receive_bytes was last seen to grow; none when it never did.
    std::optional<std::chrono::steady_clock::time_point> last_packet;
    // As last reported.
    std::optional<Endpoint> endpoint;
    const Site* site = nullptr;
    // Null until the sites are known.
    std::shared_ptr<SiteAccount> account;
    // Where its traffic is credited, if the peer is a client; else in `account`.
    std::shared_ptr<ClientAccount> client;
    // Null as `account`.
    traffic_counts* traffic() const {
        return client ? &client->traffic : account ? &account->traffic : nullptr;
    }
    std::uint64_t seen_in_poll = 0;

    // A handshake in the last 180 s (WireGuard rejects older keys: REJECT_AFTER_TIME, section 6.1 of the
    // WireGuard paper), or after one a packet in the last 25 s (five of newt's keepalives).
    bool up(const PollTime& now) const;
};

// Slots are handed out from TRAFFIC_FIRST_PEER_SLOT; a released one is used again. Not thread-safe.
class PeerTable {
  public:
    explicit PeerTable(std::uint32_t max_peers) : max_peers_(max_peers) {}

    // Follows the device's list: new peers get slots. Returns true when the routes have changed.
    bool update(const WireGuardDevice& device);

    // Whether a slot is one of a peer, and free.
    bool can_restore(std::uint32_t slot) const;
    // Puts a peer where it was in another process; all of them before the first update().
    TrackedPeer& restore(const WireGuardKey& key, std::uint32_t slot);

    // The peer's entry, or null for one beyond max_peers.
    TrackedPeer* find(const WireGuardKey& key);
    const TrackedPeer* find(const WireGuardKey& key) const;
    TrackedPeer* at_slot(std::uint32_t slot);
    const TrackedPeer* at_slot(std::uint32_t slot) const;
    // Those that the last update() did not see.
    std::vector<TrackedPeer*> unseen();
    // Calls `visit(TrackedPeer&)` for each peer that the last update() did not see and forgets it. Its slot
    // may be given away at the next update().
    template <class Visit>
    void retire_unseen(Visit visit);
    // Calls `visit(const WireGuardKey&, TrackedPeer&)`.
    template <class Visit>
    void for_each(Visit visit) {
        for (auto& [key, peer] : peers_)
            visit(key, peer);
    }

    template <class Visit>
    void for_each(Visit visit) const {
        for (const auto& [key, peer] : peers_)
            visit(key, peer);
    }

    // The routes of the last update().
    std::vector<Route> routes(const WireGuardDevice& device) const;
    // One more than the highest slot in use.
    std::uint32_t slots_needed() const { return next_slot_; }
    std::size_t size() const { return peers_.size(); }
    // Peers that found no slot, counted each time that one was new.
    std::uint64_t refused() const { return refused_; }
    // Whether the last update() left some without.
    bool refuses() const { return refused_now_ > 0; }

  private:
    TrackedPeer* insert(const WireGuardKey& key);
    void put(TrackedPeer& peer, std::uint32_t slot);

    std::uint32_t max_peers_;
    std::unordered_map<WireGuardKey, TrackedPeer> peers_;
    std::vector<TrackedPeer*> by_slot_;
    std::vector<std::uint32_t> free_slots_;
    std::uint32_t next_slot_ = TRAFFIC_FIRST_PEER_SLOT;
    std::uint64_t poll_ = 0;
    std::uint64_t fingerprint_ = 0;
    std::size_t refused_now_ = 0;
    std::uint64_t refused_ = 0;
};

template <class Visit>
void PeerTable::retire_unseen(Visit visit) {
    for (auto entry = peers_.begin(); entry != peers_.end();) {
        TrackedPeer& peer = entry->second;
        if (peer.seen_in_poll == poll_) {
            ++entry;
            continue;
        }
        visit(peer);
        by_slot_[peer.slot] = nullptr;
        free_slots_.push_back(peer.slot);
        entry = peers_.erase(entry);
    }
}

}  // namespace pangolin
