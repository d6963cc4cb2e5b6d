// TCP statistics and packet drops of one interface, credited to the sites behind its peers.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include "loader/drop_program.h"
#include "loader/peer_lookup.h"
#include "loader/tcp_program.h"
#include "userspace/drop_accounting.h"
#include "userspace/keeping.h"
#include "userspace/peer_table.h"
#include "userspace/site_ledger.h"
#include "userspace/snapshot.h"
#include "userspace/state/peer_statistics_state.h"
#include "userspace/tcp_accounting.h"

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
    Result<void> fill_lookup(const PeerPlaces& places, std::uint32_t room);
    void start_tcp(std::uint32_t room, const PeerTable& peers, SiteLedger& ledger);
    void start_drops(std::uint16_t listen_port, std::uint32_t room, const PeerTable& peers,
                     SiteLedger& ledger);
    void note(const Result<void>& set);
    void credit_last_tcp(const PinFolder& pins, const PeerTable& peers, SiteLedger& ledger);
    void credit_last_drops(const PinFolder& pins, const PeerTable& peers, SiteLedger& ledger);
    const DropReasons& reasons();

    WireGuardInterface interface_;
    std::uint32_t max_peers_;
    MonitorKeeping keeping_;
    KeptPrograms kept_tcp_{PinRoot::programs_of(interface_, "tcp")};
    KeptPrograms kept_drops_{PinRoot::programs_of(interface_, "drops")};
    std::optional<PeerLookup> lookup_;
    std::optional<TcpProgram> tcp_;
    std::optional<DropProgram> drops_;
    TcpAccounting tcp_accounting_;
    DropAccounting drop_accounting_;
    // Of the kernel, while there is no program to ask.
    std::optional<DropReasons> reasons_;
    // Why `lookup_` is not what it should be.
    std::optional<Error> trouble_;
    // Slots that are to be forgotten.
    std::vector<std::uint32_t> retired_;
    // Of maps that are gone.
    std::uint64_t ended_tcp_losses_ = 0;
    std::uint64_t ended_drop_losses_ = 0;
    std::chrono::steady_clock::time_point now_;
};

}  // namespace pangolin
