// The host's connections to targets: the programs that watch them, where, and what they counted.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "loader/network_namespace.h"
#include "loader/socket_program.h"
#include "userspace/http_monitor.h"
#include "userspace/keeping.h"
#include "userspace/ledger.h"
#include "userspace/site_index.h"
#include "userspace/snapshot.h"
#include "userspace/socket_accounting.h"
#include "userspace/state/socket_state.h"

namespace pangolin {

enum class PollScope : std::uint8_t {
    // Before totals are published or written down.
    all,
    // So that nothing is missed.
    between_scrapes,
};

// An interface that is counted.
struct CountedTunnels {
    WireGuardKey key;
    NetworkNamespace netns;
};

// Detaches at its end, but what is pinned. A host that cannot watch sockets is logged, and all else goes on.
// Not thread-safe.
class SocketMonitor {
  public:
    explicit SocketMonitor(std::uint32_t max_targets) : max_targets_(max_targets), accounting_(max_targets) {}

    // What another process has written down; before attach().
    void restore(const SocketState& state, Ledger& ledger);
    // To be written down at any moment between two calls of this class, and in write_state().
    SocketState state() const;
    // Whether something was credited for good that is to be forgotten once it is written down.
    bool has_final() const { return !retired_.empty(); }
    void forget_written();

    // Before it nothing is watched. Goes on where the other process was.
    void attach(const HttpOptions& http, const MonitorKeeping& keeping);

    // The directory that holds from now on; after attach().
    void sites_changed(const std::shared_ptr<const SiteDirectory>& directory) {
        http_.sites_changed(directory);
    }

    // Where proxies dial, besides the namespaces of tunnels.
    void set_proxies(std::vector<NetworkNamespace> proxies) { proxies_ = std::move(proxies); }

    // Credits what was counted, and then follows the tunnels and the directory; with null `sites` (not known
    // yet) nothing is watched.
    void poll(const SiteIndex* sites, const std::vector<CountedTunnels>& tunnels, Ledger& ledger,
              std::chrono::steady_clock::time_point now, PollScope scope);

    HttpMonitor& http() { return http_; }

    SocketLosses losses() const { return program_ ? program_->lost() : SocketLosses{}; }
    // Targets beyond max_targets.
    std::uint64_t refused_targets() const { return accounting_.refused(); }
    // Adds to the attachments and features of `snapshot`.
    void describe(Snapshot& snapshot) const;

  private:
    Result<SocketProgram> start_program();
    void forget_unknown();
    std::vector<Tunnels> dialled_through(const std::vector<CountedTunnels>& tunnels) const;
    // Whether these are not what was followed last.
    bool is_other(const SiteIndex& sites, const std::vector<Tunnels>& tunnels) const;
    void follow(const SiteIndex& sites, std::vector<Tunnels> now, Ledger& ledger);
    // Whether they are others than before.
    bool follow_namespaces(const std::vector<CountedTunnels>& tunnels);
    void sample(std::chrono::steady_clock::time_point now);
    void warn_once(const Result<void>& result);

    std::uint32_t max_targets_;
    MonitorKeeping keeping_;
    KeptPrograms kept_{"sockets"};
    std::optional<SocketProgram> program_;
    SocketAccounting accounting_;
    HttpMonitor http_;
    std::vector<NetworkNamespace> proxies_;
    // What was followed last.
    std::shared_ptr<const SiteDirectory> directory_;
    std::vector<Tunnels> tunnels_;
    std::vector<NetworkNamespace> namespaces_;
    std::chrono::steady_clock::time_point next_sample_;
    // Targets whose counts are to be forgotten.
    std::vector<std::uint32_t> retired_;
    // Of the last time, so that it is logged once.
    std::string trouble_;
};

}  // namespace pangolin
