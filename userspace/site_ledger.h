// What has been counted for each site, over all its peers, past and present.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "bpf/shared/traffic.h"
#include "userspace/wireguard/key.h"

namespace pangolin {

// Totals only grow. The flags are of the poll that is going on or was last.
struct SiteAccount {
    traffic_counts traffic{};
    std::uint64_t tunnel_receive_bytes = 0;
    std::uint64_t tunnel_transmit_bytes = 0;
    // A peer of this site was seen at least once.
    bool had_peer = false;
    bool up = false;
    double uptime_seconds = 0;

  private:
    friend class SiteLedger;
    bool was_up_ = false;
};

// WireGuard's own counters of a peer, as last read.
struct TunnelReading {
    std::uint64_t receive_bytes = 0;
    std::uint64_t transmit_bytes = 0;
};

// Not thread-safe. References that of() returns stay valid for the ledger's life.
class SiteLedger {
  public:
    SiteAccount& of(std::string_view site_id);

    // Readings that are in the accounts, of peers whose interface is not watched any more: an interface may
    // be lost from sight for a moment, and its counters go on meanwhile. take_reading() forgets what it
    // returns. At most max_readings are kept.
    static constexpr std::size_t max_readings = 65536;
    void keep_reading(const WireGuardKey& key, const TunnelReading& reading);
    std::optional<TunnelReading> take_reading(const WireGuardKey& key);

    // A poll: all sites are down until a peer says otherwise; at its end, time since the last one is added to
    // the sites that were up at both.
    void begin_poll();
    void end_poll(std::chrono::steady_clock::time_point now);

  private:
    struct Hash {
        using is_transparent = void;
        std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
    };
    // Every poll walks over all accounts, so they lie together.
    std::deque<SiteAccount> accounts_;
    std::unordered_map<std::string, SiteAccount*, Hash, std::equal_to<>> by_id_;
    std::unordered_map<WireGuardKey, TunnelReading> readings_;
    std::optional<std::chrono::steady_clock::time_point> last_poll_;
};

}  // namespace pangolin
