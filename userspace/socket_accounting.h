// Connections to targets, as the host's sockets show them, credited to resources and backends.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "loader/http_program.h"
#include "loader/socket_program.h"
#include "userspace/ledger.h"
#include "userspace/state/socket_state.h"
#include "userspace/target_index.h"
#include "userspace/wireguard/key.h"

namespace pangolin {

// An interface that is counted, and where it is.
struct Tunnels {
    WireGuardKey key;
    // Inode of its network namespace.
    std::uint32_t netns = 0;

    auto operator<=>(const Tunnels&) const = default;
};

// What a connection did belongs to who owned its target then: call credit() before follow(). A target that is
// gone stays until its last connection has ended. Not thread-safe.
class SocketAccounting {
  public:
    // `max_targets` beyond which targets are not watched.
    explicit SocketAccounting(std::uint32_t max_targets) : max_targets_(max_targets) {}

    // Follows the directory. Returns what the kernel is to look for: the targets behind `tunnels` and those
    // of local sites. With one interface the proxy may dial its targets from any of its namespaces; with
    // several, whose addresses may be equal, from the interface's own.
    std::vector<SocketTarget> follow(const TargetIndex& index, std::span<const Tunnels> tunnels,
                                     Ledger& ledger);

    // Puts targets where they were in another process: before the first follow().
    void restore(const SocketState& state, Ledger& ledger);
    // Fills `state`, but what is not this class's.
    void save(SocketState& state) const;
    // The counts of all targets begin anew at zero.
    void restart();

    // Once a poll. `counts` are SocketProgram::read().
    void credit(std::span<const TargetSocketCounts> counts, std::chrono::steady_clock::time_point now);

    // Indexes of targets that are gone for so long that attempts to connect have ended, too, and have no
    // connections: to be retired, and their counts forgotten.
    std::vector<std::uint32_t> finished(std::chrono::steady_clock::time_point now) const;
    void retire(std::uint32_t index);

    // Whose a target is.
    struct Accounts {
        ResourceAccount* resource = nullptr;
        TargetAccount* target = nullptr;
        BackendAccount* backend = nullptr;
    };
    std::optional<Accounts> accounts_of(std::uint32_t index) const;
    bool knows(std::uint32_t index) const { return by_index_.contains(index); }
    // Changes with each new target.
    std::uint32_t next_index() const { return next_index_; }

    // Of HTTP targets, those included that are gone and may still have connections.
    std::vector<std::uint16_t> http_ports() const;
    // Where HTTP resources share an address: what the host of a request says about whose it is. A domain is
    // one resource's alone, so the path need not be looked at. What is not told apart is the first
    // resource's: connections, and requests for other names (as those of a wildcard domain).
    const std::vector<HttpHost>& http_hosts() const { return http_hosts_; }

    std::size_t size() const { return targets_.size(); }
    // Targets that found no room, counted each time that one more did not.
    std::uint64_t refused() const { return refused_; }

  private:
    struct Key {
        DialledAddress dialled;
        std::uint32_t netns = 0;
        // Of a target that shares the address with another one, which has none; see http_hosts().
        std::string host{};
        auto operator<=>(const Key&) const = default;
    };
    struct Watched {
        // Never another one's: connections keep it.
        std::uint32_t index = 0;
        std::uint64_t listing = 0;
        // Part of the counts that is in the ledger already.
        ConnectionCounts credited;
        std::uint64_t live = 0;
        // None while it is listed.
        std::optional<std::chrono::steady_clock::time_point> gone_since;
        std::shared_ptr<ResourceAccount> resource;
        std::shared_ptr<TargetAccount> target;
        std::shared_ptr<BackendAccount> backend;
        // None unless it is a local one, which has no packets in a tunnel.
        std::shared_ptr<SiteAccount> local_site;
        bool raw_tcp = false;
        bool http = false;
    };

    using Targets = std::map<Key, Watched>;

    Watched* watch(const Key& key);
    // Null when there is no room.
    Watched* list(const DialledTarget& each, const Key& key, Ledger& ledger);
    void list(const TargetIndex& index, const DialledTarget& each, std::uint32_t netns, Ledger& ledger,
              std::vector<SocketTarget>& listed);
    static void credit(Watched& watched, const socket_counts& now,
                       std::chrono::steady_clock::time_point time);

    std::uint32_t max_targets_;
    Targets targets_;
    std::unordered_map<std::uint32_t, Targets::iterator> by_index_;
    std::vector<HttpHost> http_hosts_;
    std::uint32_t next_index_ = 1;
    std::uint64_t listing_ = 0;
    std::uint64_t refused_now_ = 0;
    std::uint64_t refused_ = 0;
};

}  // namespace pangolin
