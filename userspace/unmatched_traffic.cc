#include "userspace/unmatched_traffic.h"

#include <cstring>

#include "userspace/traffic_arithmetic.h"

namespace pangolin {
namespace {

// Peers are looked for every second or two; after this an address is nobody's.
constexpr std::chrono::seconds waiting_time{10};
// An address that sends nothing for so long makes room in the kernel's map.
constexpr std::chrono::seconds idle_time{60};

bool equal(const traffic_counts& a, const traffic_counts& b) {
    return std::memcmp(&a, &b, sizeof a) == 0;
}

}  // namespace

traffic_counts UnmatchedAccounting::credit(const TrafficProgram& program, const RouteTable& routes,
                                           PeerTable& peers, SiteAccount& unassigned,
                                           std::chrono::steady_clock::time_point now) {
    traffic_counts nobody{};
    std::map<IpAddress, Entry> kept;
    for (const UnmatchedTraffic& traffic : program.read_unmatched()) {
        const auto known = entries_.find(traffic.remote);
        Entry entry = known == entries_.end() ? Entry{.first_seen = now, .last_change = now} : known->second;
        if (began_anew(traffic.counts, entry.credited))
            entry.credited = {};
        if (!equal(entry.last, traffic.counts)) {
            entry.last = traffic.counts;
            entry.last_change = now;
        }
        const TrackedPeer* const peer = peers.at_slot(routes.find(traffic.remote));
        if (peer != nullptr && peer->traffic() != nullptr) {
            add(*peer->traffic(), difference(traffic.counts, entry.credited));
            entry.credited = traffic.counts;
            final_.push_back(traffic.remote);
            kept.emplace(traffic.remote, entry);
            continue;
        }
        if (peer == nullptr && now - entry.first_seen >= waiting_time) {
            add(nobody, difference(traffic.counts, entry.credited));
            entry.credited = traffic.counts;
        }
        if (peer == nullptr && now - entry.last_change >= idle_time)
            final_.push_back(traffic.remote);
        kept.emplace(traffic.remote, entry);
    }
    entries_ = std::move(kept);
    add(unassigned.traffic, nobody);
    return nobody;
}

void UnmatchedAccounting::forget_final(TrafficProgram& program) {
    for (const IpAddress& remote : final_) {
        program.forget_unmatched(remote);
        entries_.erase(remote);
    }
    final_.clear();
}

void UnmatchedAccounting::restore(const IpAddress& remote, const traffic_counts& credited) {
    const auto now = std::chrono::steady_clock::now();
    entries_.insert_or_assign(
        remote, Entry{.credited = credited, .first_seen = now, .last_change = now, .last = credited});
}

traffic_counts UnmatchedAccounting::credit_final(const TrafficProgram& program, const RouteTable& routes,
                                                 PeerTable& peers, SiteAccount& unassigned) {
    traffic_counts nobody{};
    for (const UnmatchedTraffic& traffic : program.read_unmatched()) {
        const auto known = entries_.find(traffic.remote);
        const traffic_counts credited = known == entries_.end() ? traffic_counts{} : known->second.credited;
        const TrackedPeer* const peer = peers.at_slot(routes.find(traffic.remote));
        add(peer != nullptr && peer->traffic() != nullptr ? *peer->traffic()
            : peer != nullptr                             ? unassigned.traffic
                                                          : nobody,
            difference(traffic.counts, credited));
    }
    entries_.clear();
    final_.clear();
    add(unassigned.traffic, nobody);
    return nobody;
}

}  // namespace pangolin
