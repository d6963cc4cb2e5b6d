// One WireGuard interface: its peers, its programs, and what they counted credited to sites.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "loader/base/error.h"
#include "loader/traffic_program.h"
#include "loader/wireguard_interface.h"
#include "userspace/keeping.h"
#include "userspace/ledger.h"
#include "userspace/peer_table.h"
#include "userspace/site_index.h"
#include "userspace/snapshot.h"
#include "userspace/state/interface_state.h"
#include "userspace/target_traffic.h"
#include "userspace/tunnel_health.h"
#include "userspace/unmatched_traffic.h"
#include "userspace/wireguard/device.h"

namespace pangolin {

struct MonitorLimits {
    std::uint32_t max_peers = 16384;
    std::uint32_t max_targets = 65536;
};

// Detaches at its end, unless its programs are pinned. Not thread-safe. Holds a socket in the interface's
// namespace: end it when the interface is gone.
class InterfaceMonitor {
  public:
    // Reads the peers; attach() comes next, and all else after it.
    static Result<std::unique_ptr<InterfaceMonitor>> open(const WireGuardInterface& interface,
                                                          const MonitorLimits& limits,
                                                          const MonitorKeeping& keeping = {});

    // A monitor as another process has written it down; fails when its maps cannot be read. resume() comes
    // next, or finish() when the interface is gone.
    static Result<std::unique_ptr<InterfaceMonitor>> restore(const InterfaceState& state,
                                                             const MonitorLimits& limits,
                                                             const MonitorKeeping& keeping, Ledger& ledger);
    // Goes on where the other process was, with programs of this one: each packet is counted once.
    // `interface` is that of restore(), as it is found now. Fails when the programs are not attached any
    // more, too.
    Result<void> resume(const WireGuardInterface& interface, HookMode mode, HandshakeMode handshakes,
                        Ledger& ledger);

    // To be written down at any moment between two calls of this class, and in write_state().
    InterfaceState state() const;
    HealthState health_state() const { return health_.state(); }
    PeerStatisticsState statistics_state() const { return health_.statistics_state(); }
    // What belongs to a restored monitor; before resume().
    void restore_health(const HealthState& state) { health_.restore(state); }
    void restore_statistics(const PeerStatisticsState& state) { health_.restore(state, peers_); }
    // Whether something was credited for good that is to be forgotten once it is written down.
    bool has_final() const;
    void forget_written();

    // Loads programs with the peers' routes, and with room for the targets of `sites`, and attaches them.
    // Fails when traffic cannot be counted; what else this host lacks is logged and left out.
    Result<void> attach(HookMode mode, HandshakeMode handshakes, const SiteIndex& sites, Ledger& ledger);

    // False when somebody has removed the programs from the interface.
    bool attached() const { return program_->attached(); }
    // Whether there is a state() to write down.
    bool loaded() const { return program_.has_value(); }

    // Follows the peers, credits what was counted since the last poll and marks accounts as up. With null
    // `sites` (not known yet) nothing is credited: the kernel keeps the counts. After an error (ENODEV: the
    // interface is gone) what the kernel counted is credited all the same.
    Result<void> poll(const PollTime& now, const SiteIndex* sites, Ledger& ledger);

    // The interface is gone or given up: credits the last counts. No poll may follow.
    void finish(Ledger& ledger);
    // Its programs, after finish(), to be unpinned when that is written down.
    TrafficProgram take_program() {
        TrafficProgram program = std::move(*program_);
        program_.reset();
        return program;
    }

    const WireGuardInterface& interface() const { return interface_; }
    // The same interface as it is found now: its namespace may be entered by another path.
    void set_namespace(const NetworkNamespace& netns);
    // The interface's own key, of the last read that succeeded.
    const WireGuardKey& public_key() const { return public_key_; }
    // Of the last poll; false after an error.
    bool readable() const { return readable_; }
    // Losses since open(), by reason, those of replaced programs included.
    TrafficLosses losses() const;
    // The part of it that was lost by maps that are gone.
    const TrafficLosses& replaced_losses() const { return replaced_losses_; }
    HealthLosses health_losses() const { return health_.losses(); }
    // Peers beyond max_peers.
    std::uint64_t refused_peers() const { return peers_.refused(); }
    // Targets beyond max_targets.
    std::uint64_t refused_targets() const { return targets_.refused(); }

    // Appends to peers, interfaces and maps of `snapshot`. Its sites are those of the directory that the last
    // poll was given; all else is copied.
    void describe(Snapshot& snapshot) const;

  private:
    InterfaceMonitor(WireGuardInterface interface, const MonitorLimits& limits, MonitorKeeping keeping)
        : interface_(std::move(interface)),
          keeping_(std::move(keeping)),
          peers_(limits.max_peers),
          targets_(limits.max_targets),
          health_(interface_, limits.max_peers, keeping_) {}

    Result<void> open_reader();
    void restore_peers(const InterfaceState& state, Ledger& ledger);
    void watch_health(HookMode mode, HandshakeMode handshakes, Ledger& ledger);
    static TrafficCapacity roomy(std::uint32_t slots, const RouteCapacity& routes,
                                 const TargetCapacity& targets);
    std::uint32_t newest_generation() const;
    std::optional<PinFolder> unfinished_pins() const;
    Result<TrafficProgram> load_program(const TrafficCapacity& capacity);
    Result<void> resume_with_other_maps(Ledger& ledger);
    void credit_replaced(TrafficProgram larger, Ledger& ledger);
    void resolve_sites(const SiteIndex& sites, Ledger& ledger);
    void follow_targets(const SiteIndex& sites, Ledger& ledger);
    Result<void> follow_routes(Ledger& ledger);
    Result<void> replace_program(const TrafficCapacity& capacity, const std::vector<Route>& routes,
                                 Ledger& ledger);
    void forget_gone(Ledger& ledger);
    void credit_all(const PollTime& now, Ledger& ledger);
    void credit_counters(const PollTime& now, Ledger& ledger);
    void credit_slot(TrackedPeer& peer, traffic_counts& total) const;
    void credit_tunnels(const PollTime& now, Ledger& ledger);
    traffic_counts credit_unmatched_slot(SiteAccount& unassigned);
    void credit_last_unmatched(SiteAccount& unassigned);
    void count_no_peer(const traffic_counts& nobody, SiteAccount& unassigned) const;
    void mark_unknown();
    void follow_endpoint(const WireGuardPeer& reported, TrackedPeer& peer, bool up);

    WireGuardInterface interface_;
    MonitorKeeping keeping_;
    std::unique_ptr<WireGuardReader> reader_;
    WireGuardDevice device_;
    WireGuardKey public_key_;
    PeerTable peers_;
    TargetTraffic targets_;
    std::optional<RouteTable> routes_;
    // False while the device's peers or the directory's targets are not in force in the kernel.
    bool routes_current_ = false;
    std::optional<TrafficProgram> program_;
    TunnelHealth health_;
    UnmatchedAccounting unmatched_;
    // Part of TRAFFIC_SLOT_UNMATCHED's counts that is in the ledger already.
    traffic_counts unmatched_credited_{};
    TrafficLosses replaced_losses_;
    // The directory that TrackedPeer::site points into, and the key whose targets are followed.
    std::shared_ptr<const SiteDirectory> directory_;
    WireGuardKey targets_key_;
    bool readable_ = false;
    // Slots whose counters are to be cleared.
    std::vector<std::uint32_t> retired_slots_;
};

}  // namespace pangolin
