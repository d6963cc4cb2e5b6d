// Traffic that came before its peer was known.
#pragma once

#include <chrono>
#include <map>
#include <vector>

#include "loader/traffic_program.h"
#include "userspace/peer_table.h"
#include "userspace/site_ledger.h"

namespace pangolin {

// Gives what the kernel has counted by address to the peer that turned out to own the address, or, when none
// has appeared for a while, to the unassigned account. Nothing is credited twice. Not thread-safe.
class UnmatchedAccounting {
  public:
    // What was credited in another process, of elements that are still in the kernel's map.
    void restore(const IpAddress& remote, const traffic_counts& credited);
    // Calls `visit(const IpAddress&, const traffic_counts& credited)` for each that has something credited.
    template <class Visit>
    void for_each_credited(Visit visit) const {
        for (const auto& [remote, entry] : entries_)
            visit(remote, entry.credited);
    }

    // `routes` are in force in `program`, so that the counts of addresses with a route are final. Returns
    // what went to the unassigned account because no peer has the address.
    traffic_counts credit(const TrafficProgram& program, const RouteTable& routes, PeerTable& peers,
                          SiteAccount& unassigned, std::chrono::steady_clock::time_point now);
    // For a program that counts no more: what has no peer is unassigned at once.
    traffic_counts credit_final(const TrafficProgram& program, const RouteTable& routes, PeerTable& peers,
                                SiteAccount& unassigned);

    // Elements that are credited for good stay in the kernel's map until forget().
    bool has_final() const { return !final_.empty(); }
    void forget_final(TrafficProgram& program);

    // Addresses in the kernel's map at the last credit().
    std::size_t size() const { return entries_.size(); }

  private:
    struct Entry {
        traffic_counts credited{};
        std::chrono::steady_clock::time_point first_seen;
        std::chrono::steady_clock::time_point last_change;
        traffic_counts last{};
    };
    std::map<IpAddress, Entry> entries_;
    std::vector<IpAddress> final_;
};

}  // namespace pangolin
