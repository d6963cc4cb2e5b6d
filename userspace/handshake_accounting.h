// Credits handshakes, which the kernel knows by key or by endpoint, to the sites of the peers that made them.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "loader/base/endpoint.h"
#include "loader/wireguard_probe.h"
#include "userspace/peer_table.h"
#include "userspace/site_ledger.h"
#include "userspace/state/health_state.h"

namespace pangolin {

// Not thread-safe.
class HandshakeAccounting {
  public:
    explicit HandshakeAccounting(std::size_t max_peers) : max_endpoints_(4 * max_peers) {}

    // A peer of `peers` is seen at this endpoint. Earlier ones are remembered, for handshakes that the kernel
    // still holds.
    void learn(const Endpoint& endpoint, const WireGuardKey& key, const PeerTable& peers);

    // Takes everything from `probe`. What belongs to a peer that is not known yet, or to one whose site is
    // not, waits; after waiting_time it is nobody's, unless `sites_known` is false.
    void credit(WireGuardProbe& probe, PeerTable& peers, SiteLedger& ledger, bool sites_known,
                std::chrono::steady_clock::time_point now);
    // The same of maps that count no more.
    void take(const LastHandshakes& last);
    // No probe is there any more: what nobody is known for goes to the unassigned.
    void finish(PeerTable& peers, SiteLedger& ledger);

    // What is not in the ledger, over the end of a process.
    void save(HandshakeState& state) const;
    void restore(const HandshakeState& state);

    // Peers are read every second or two.
    static constexpr std::chrono::seconds waiting_time{10};
    // Without TCP for so long, handshakes tell the tunnel's latency.
    static constexpr std::chrono::seconds tcp_silence{60};

  private:
    struct Outcome {
        handshake_identity identity{};
        // None: packets dropped because too many waited for a handshake.
        std::optional<handshake_result> result;
        std::uint64_t count = 0;
        std::optional<std::uint64_t> latency_us;
        std::chrono::steady_clock::time_point since;
    };

    void take(const std::vector<handshake>& handshakes, const std::vector<HandshakeCount>& counts,
              std::chrono::steady_clock::time_point now);
    void take(WireGuardProbe& probe, std::chrono::steady_clock::time_point now);
    // What nobody is known for waits for `patience` from when it was taken.
    void credit_waiting(PeerTable& peers, SiteLedger& ledger, std::chrono::nanoseconds patience,
                        std::chrono::steady_clock::time_point now);
    // The account of whom the identity names; null when he is not known (yet).
    SiteAccount* account_of(const handshake_identity& identity, PeerTable& peers) const;

    std::size_t max_endpoints_;
    std::unordered_map<Endpoint, WireGuardKey> endpoints_;
    std::vector<Outcome> waiting_;
};

}  // namespace pangolin
