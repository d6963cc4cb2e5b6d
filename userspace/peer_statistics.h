// TCP statistics and packet drops of one interface, credited to the sites behind its peers.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "loader/drop_program.h"
#include "loader/peer_lookup.h"
#include "loader/tcp_program.h"
#include "userspace/keeping.h"
#include "userspace/peer_table.h"
#include "userspace/site_ledger.h"
#include "userspace/snapshot.h"
#include "userspace/state/peer_statistics_state.h"

namespace pangolin {

// Whose an address, an endpoint and a UDP port are.
struct PeerPlaces {
    std::vector<Route> routes;
    std::vector<EndpointSlot> endpoints;
    // Of the interface; 0 for none.
    std::uint16_t listen_port = 0;
};

// Attaches what this host offers; what it lacks, or what fails later, is logged and off. Not thread-safe.
class PeerStatistics {
  public:
    PeerStatistics(const WireGuardInterface& interface, std::uint32_t max_peers,
                   const MonitorKeeping& keeping)
        : interface_(interface), max_peers_(max_peers), keeping_(keeping) {}

    // What another process has written down, and the peers that it had; before attach(). What the kernel has
    // of others was credited, and the process ended before it forgot it.
    void restore(const PeerStatisticsState& state, const PeerTable& peers);
    // To be written down at any moment between two calls of this class, and in write_state().
    PeerStatisticsState state() const;
    // What was retired is written down: its elements may be another's.
    void forget_written();

    // Goes on where the other process was. `interface` as it is found now.
    void attach(const WireGuardInterface& interface, const PeerPlaces& places, const PeerTable& peers,
                SiteLedger& ledger);

    void set_routes(const std::vector<Route>& routes);
    void set_endpoints(const std::vector<EndpointSlot>& endpoints);
    void set_listen_port(std::uint16_t port);
    void set_namespace(const NetworkNamespace& netns);

    // Adds the round-trip times of live connections.
    Result<void> sample();
    // What was counted since the last time; that of peers without an account stays in the kernel. To be
    // called after set_routes() and set_endpoints(): when these failed, all ends here.
    void credit(const PeerTable& peers, SiteLedger& ledger, std::chrono::steady_clock::time_point now);
    // Peers that routes and endpoints lead to no more: credits their last counts. Their slots may be others'
    // after forget_written().
    void retire(const std::vector<TrackedPeer*>& gone, SiteLedger& ledger);
    // Credits the last counts, and lets go of what is pinned.
    void finish(const PeerTable& peers, SiteLedger& ledger);

    // What could not be counted.
    std::uint64_t tcp_losses() const;
    std::uint64_t drop_losses() const;
    // Adds to the attachments and features of `snapshot`.
    void describe(Snapshot& snapshot) const;

  private:
    struct DropKeyHash {
        std::size_t operator()(const drop_key& key) const;
    };
    struct DropKeyEqual {
        bool operator()(const drop_key& a, const drop_key& b) const;
    };

    Result<void> fill_lookup(const PeerPlaces& places, std::uint32_t room);
    void start_tcp(std::uint32_t room, const PeerTable& peers, SiteLedger& ledger);
    void start_drops(std::uint16_t listen_port, std::uint32_t room, const PeerTable& peers,
                     SiteLedger& ledger);
    void note(const Result<void>& set);
    void credit_tcp(const std::vector<SlotTcpCounts>& counts, const PeerTable& peers, SiteLedger& ledger,
                    bool final);
    void credit_tcp_slot(const SlotTcpCounts& now, SiteAccount& account);
    void credit_drops(const std::vector<DropCount>& counts, const PeerTable& peers, SiteLedger& ledger,
                      bool final);
    void credit_drop(const DropCount& now, SiteAccount& account);
    void credit_last_tcp(const PinFolder& pins, const PeerTable& peers, SiteLedger& ledger);
    void credit_last_drops(const PinFolder& pins, const PeerTable& peers, SiteLedger& ledger);
    const DropReasons& reasons();
    bool was_delivered(const drop_key& key);
    bool is_no_peer(const drop_key& key);
    std::string name_of(const drop_key& key);
    // Whose account a slot's counts go to; null while that is not known.
    static SiteAccount* account_of(std::uint32_t slot, const PeerTable& peers, SiteLedger& ledger,
                                   bool final);

    WireGuardInterface interface_;
    std::uint32_t max_peers_;
    MonitorKeeping keeping_;
    KeptPrograms kept_tcp_{PinRoot::programs_of(interface_, "tcp")};
    KeptPrograms kept_drops_{PinRoot::programs_of(interface_, "drops")};
    std::optional<PeerLookup> lookup_;
    std::optional<TcpProgram> tcp_;
    std::optional<DropProgram> drops_;
    // Of the kernel, while there is no program to ask.
    std::optional<DropReasons> reasons_;
    // Drops by the kernel's WireGuard cannot be told from others without a reason.
    bool wireguard_unknown_ = false;
    // Why `lookup_` is not what it should be.
    std::optional<Error> trouble_;
    // Parts that are in the ledger already.
    std::unordered_map<std::uint32_t, tcp_counts> tcp_credited_;
    std::unordered_map<drop_key, std::uint64_t, DropKeyHash, DropKeyEqual> drops_credited_;
    // Slots that are to be forgotten.
    std::vector<std::uint32_t> retired_;
    // Of maps that are gone.
    std::uint64_t ended_tcp_losses_ = 0;
    std::uint64_t ended_drop_losses_ = 0;
    std::chrono::steady_clock::time_point now_;
};

}  // namespace pangolin
