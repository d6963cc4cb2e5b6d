// What has been counted for each site, over all its peers, past and present.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "bpf/shared/traffic.h"
#include "userspace/account_table.h"
#include "userspace/site_health.h"
#include "userspace/wireguard/key.h"

namespace pangolin {

// Totals only grow. The flags are of the poll that is going on or was last.
struct SiteAccount {
    std::string site_id;
    traffic_counts traffic{};
    // Part of `traffic`: client traffic that gerbil relays to the site inside the tunnel.
    target_counts relay{};
    std::uint64_t tunnel_receive_bytes = 0;
    std::uint64_t tunnel_transmit_bytes = 0;
    // A peer of this site was seen at least once.
    bool had_peer = false;
    bool up = false;
    // Some peer of this site could not be read, so that "not up" means nothing.
    bool unknown = false;
    double uptime_seconds = 0;
    // When TCP last told a round-trip time.
    std::optional<std::chrono::steady_clock::time_point> last_tcp_latency;

    // A peer of this site is up.
    void saw_up(const WireGuardKey& key);
    void count_reconnect(ReconnectReason reason);

    // For changes. Most sites never have any, so that it is made when first asked for.
    SiteHealth& health();
    // Immutable from now on: a later change is made in a copy. Null when there never was anything.
    std::shared_ptr<const SiteHealth> share_health();

  private:
    friend class SiteLedger;
    template <class Archive>
    friend void fields(Archive& archive, SiteAccount& account);
    void settle(double elapsed_seconds);

    bool was_up_ = false;
    // It was up at the end of some poll.
    bool settled_up_ = false;
    // The peer that was up last, and whether it is the one that is up now; else another one that is.
    std::optional<WireGuardKey> key_;
    bool same_key_ = false;
    WireGuardKey other_key_;
    std::shared_ptr<SiteHealth> health_;
    bool health_is_shared_ = false;
};

inline std::array<std::string_view, 1> labels_of(const SiteAccount& account) {
    return {account.site_id};
}

// WireGuard's own counters of a peer, as last read.
struct TunnelReading {
    std::uint64_t receive_bytes = 0;
    std::uint64_t transmit_bytes = 0;
};

// Not thread-safe.
class SiteLedger {
  public:
    std::shared_ptr<SiteAccount> of(std::string_view site_id);
    // Calls `visit(SiteAccount&)`.
    template <class Visit>
    void for_each(Visit visit) const {
        accounts_.for_each(visit);
    }
    // See AccountTable.
    template <class IsLive>
    void forget_unused(const AccountReview& review, IsLive is_live) {
        accounts_.forget_unused(review, is_live);
    }

    // Readings that are in the accounts, of peers whose interface is not watched any more: an interface may
    // be lost from sight for a moment, and its counters go on meanwhile. take_reading() forgets what it
    // returns. At most max_readings are kept.
    static constexpr std::size_t max_readings = 65536;
    void keep_reading(const WireGuardKey& key, const TunnelReading& reading);
    std::optional<TunnelReading> take_reading(const WireGuardKey& key);
    const std::unordered_map<WireGuardKey, TunnelReading>& kept_readings() const { return readings_; }

    // A poll: all sites are down until a peer says otherwise; at its end, time since the last one is added to
    // the sites that were up at both, and those that came or went are counted.
    void begin_poll();
    void end_poll(std::chrono::steady_clock::time_point now);

  private:
    AccountTable<1, SiteAccount> accounts_;
    std::unordered_map<WireGuardKey, TunnelReading> readings_;
    std::optional<std::chrono::steady_clock::time_point> last_poll_;
};

}  // namespace pangolin
