// How the tunnels of one interface are doing, as far as this host's kernel lets us see.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loader/wireguard_probe.h"
#include "userspace/handshake_accounting.h"
#include "userspace/keeping.h"
#include "userspace/peer_statistics.h"
#include "userspace/peer_table.h"
#include "userspace/site_ledger.h"
#include "userspace/snapshot.h"
#include "userspace/state/health_state.h"
#include "userspace/wireguard/device.h"

namespace pangolin {

struct HealthOptions {
    HandshakeMode handshakes = HandshakeMode::automatic;
    // For the underlay's handshakes.
    HookMode hooks = HookMode::automatic;
};

// What could not be counted, by map.
struct HealthLosses {
    std::uint64_t handshakes = 0;
    std::uint64_t handshake_counts = 0;
    std::uint64_t tcp = 0;
    std::uint64_t drops = 0;

    void add_handshakes(const HandshakeLosses& lost);
    HealthLosses& operator+=(const HealthLosses& other);
};

// Attaches what this host offers; what it lacks, or what fails later, is logged and off, and all else goes
// on. Not thread-safe.
class TunnelHealth {
  public:
    TunnelHealth(const WireGuardInterface& interface, std::uint32_t max_peers, const MonitorKeeping& keeping)
        : interface_(interface),
          keeping_(keeping),
          statistics_(interface, max_peers, keeping),
          handshakes_(max_peers) {}

    // What another process has written down, and its peers; before attach().
    void restore(const HealthState& state);
    void restore(const PeerStatisticsState& state, const PeerTable& peers);
    // To be written down at any moment between two calls of this class, and in write_state().
    HealthState state() const;
    PeerStatisticsState statistics_state() const { return statistics_.state(); }
    void forget_written();

    // Before it nothing is observed. Goes on where the other process was.
    // `interface` as it is found now.
    void attach(const WireGuardInterface& interface, const WireGuardDevice& device,
                const HealthOptions& options, const PeerTable& peers, SiteLedger& ledger);

    // The peers' allowed IPs have changed.
    void set_routes(const std::vector<Route>& routes);
    // A peer of `peers` is seen at another endpoint than before.
    void set_endpoint(const Endpoint& endpoint, const WireGuardKey& key, const PeerTable& peers);
    void set_namespace(const NetworkNamespace& netns);

    // Follows the peers and credits what was counted since the last poll. While sites are not known,
    // handshakes wait, and TCP and drops of peers without an account.
    void poll(const WireGuardDevice& device, PeerTable& peers, SiteLedger& ledger, bool sites_known,
              std::chrono::steady_clock::time_point now);
    // The second half of poll(), for when the peers cannot be read.
    void credit(PeerTable& peers, SiteLedger& ledger, bool sites_known,
                std::chrono::steady_clock::time_point now);
    // The peers are gone: credits their last counts. Their slots may be others' after forget_written().
    void retire(const std::vector<TrackedPeer*>& gone, SiteLedger& ledger) {
        statistics_.retire(gone, ledger);
    }
    // The interface is gone: credits the last counts, and lets go of what is pinned. No poll may follow.
    void finish(PeerTable& peers, SiteLedger& ledger);

    HealthLosses losses() const;
    // Adds to the attachments and features of `snapshot`.
    void describe(Snapshot& snapshot) const;

  private:
    void start_probe(const WireGuardDevice& device, const HealthOptions& options);
    void end_probe();
    void follow(const WireGuardDevice& device, PeerTable& peers);
    void warn_once(std::string_view what, const Result<void>& result, std::string& last) const;

    WireGuardInterface interface_;
    MonitorKeeping keeping_;
    KeptPrograms kept_probe_{PinRoot::programs_of(interface_, "handshakes")};
    // What the probe has taken, while it is not there.
    HandshakeReadings readings_;
    std::unique_ptr<WireGuardProbe> probe_;
    PeerStatistics statistics_;
    HandshakeAccounting handshakes_;
    bool endpoints_changed_ = true;
    // Of the last time, so that it is logged once.
    std::string follow_trouble_;
    std::string sample_trouble_;
    // Of probes that have ended.
    HealthLosses ended_;
};

}  // namespace pangolin
