// Brings it all together: finds interfaces, follows peers and sites, produces snapshots.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "userspace/backend_checks.h"
#include "userspace/departed_sites.h"
#include "userspace/interface_monitor.h"
#include "userspace/ledger.h"
#include "userspace/metadata/site_directory.h"
#include "userspace/metadata/target_names.h"
#include "userspace/persistence.h"
#include "userspace/site_index.h"
#include "userspace/snapshot.h"
#include "userspace/snapshot_part.h"
#include "userspace/socket_monitor.h"
#include "userspace/source_state.h"

namespace pangolin {

struct CollectorOptions {
    // metrics.wireguard.netns and .interfaces, see find_network_namespaces() and find_wireguard_interfaces().
    std::string netns = "auto";
    std::vector<std::string> interfaces;
    HookMode attach = HookMode::automatic;
    HandshakeMode handshakes = HandshakeMode::automatic;
    // Null: no sites are known and all traffic is unassigned.
    std::unique_ptr<SiteSource> sites;
    std::chrono::milliseconds metadata_refresh{std::chrono::seconds(10)};
    // What carries totals over restarts; null: nothing does.
    std::unique_ptr<Persistence> persistence;
    // For each interface; max_targets also for the sockets of the host.
    MonitorLimits limits;
    // metrics.http.
    HttpOptions http;
    // Whatever else is to be in snapshots.
    std::vector<std::shared_ptr<SnapshotPart>> parts;
};

// Two threads of its own: one looks for interfaces and polls them every second or so (less often when that is
// much work), one reads the site source. All public functions may be called from any thread.
class Collector {
  public:
    explicit Collector(CollectorOptions options);
    Collector(const Collector&) = delete;
    Collector& operator=(const Collector&) = delete;
    // Detaches from all interfaces, unless what is there is to outlive this process.
    ~Collector();

    // Reads sites and interfaces once and starts the threads. Sources that are down are retried by them.
    void start();

    // A new collection, made in the calling thread: some milliseconds for thousands of peers.
    std::shared_ptr<const Snapshot> collect();

    // Why the exporter is not ready, a line each; empty when it is attached and sites are loaded. Does not
    // wait for a collection.
    std::vector<std::string> problems() const;

  private:
    void run_polls(const std::stop_token& stop);
    void run_metadata(const std::stop_token& stop);
    // Until `time` has passed or `wake_up` (guarded by wait_mutex_) is set; false when it is time to end.
    bool wait(const std::stop_token& stop, std::chrono::nanoseconds time, const bool& wake_up);

    void restore();
    MonitorKeeping keeping();
    void restore_part(ArchiveReader& block);
    void write_parts(ArchiveWriter& writer);
    void resume_paused(const std::vector<WireGuardInterface>& found, bool complete);
    // Writes down all totals and what kernel elements they come from, and then lets go of what is final.
    void write_state(WriteReason reason);
    void remove_unknown_pins();

    void attach_sockets();
    void refresh_sites();
    void discover();
    void reconcile(const std::vector<WireGuardInterface>& found, bool complete);
    void drop_missing(const std::vector<WireGuardInterface>& found);
    void add_new(const std::vector<WireGuardInterface>& found);
    void poll(PollScope scope);
    Result<void> poll_monitors(const PollTime& now);
    void poll_sockets(const PollTime& now, PollScope scope);
    void find_proxies_now_and_then();
    void update_states(const Result<void>& reads);
    void end_monitor(InterfaceMonitor& monitor);
    // What the monitors are to credit to: null while it is too early to say that sites are unknown.
    const SiteIndex* sites_to_credit(const PollTime& now) const;
    bool served_here(const Site& site) const;
    // Whether the absence of an up tunnel means that it is down.
    bool can_judge(const Site& site) const;
    void set_sites(std::shared_ptr<const SiteIndex> sites);
    // Of what sites and targets that are gone leave behind.
    void forget_departed_now_and_then();
    void describe_sites(Snapshot& snapshot) const;
    void describe_resources(Snapshot& snapshot) const;
    void describe_losses(Snapshot& snapshot) const;

    CollectorOptions options_;
    // Used by start() and then by the poll thread alone.
    NetworkNamespaceFinder namespaces_;
    WireGuardInterfaceFinder interfaces_;
    std::chrono::steady_clock::time_point next_proxy_search_;
    // Used by start() and then by the metadata thread alone.
    TargetNames target_names_;

    // Serialises collections and guards all below.
    mutable std::mutex mutex_;
    std::shared_ptr<const SiteIndex> sites_;
    std::vector<std::unique_ptr<InterfaceMonitor>> monitors_;
    // Of the process before, until the first discovery.
    std::vector<std::unique_ptr<InterfaceMonitor>> paused_;
    // Of monitors that have ended, until that is written down.
    std::vector<TrafficProgram> ended_programs_;
    bool pins_looked_through_ = false;
    // See MonitorKeeping.
    bool resumes_ = false;
    // Of the control plane before, until its programs are attached, and for good where they cannot be.
    std::vector<std::uint8_t> kept_control_plane_;
    // Interfaces were looked for, successfully.
    bool looked_ = false;
    Ledger ledger_;
    SocketMonitor sockets_;
    BackendChecks backend_checks_;
    // Accounts of the directory's sites, in its order.
    std::vector<std::shared_ptr<SiteAccount>> site_accounts_;
    std::shared_ptr<SiteAccount> unassigned_account_{ledger_.sites.of(unassigned_site_id)};
    DepartedSites departed_sites_;
    std::optional<std::chrono::steady_clock::time_point> published_;
    std::chrono::steady_clock::time_point next_review_;
    // Keys of interfaces seen on this host: exit nodes that are here.
    std::set<WireGuardKey> own_exit_nodes_;
    SourceState wireguard_state_{"wireguard"};
    SourceState kernel_state_{"kernel"};
    SourceState processes_state_{"processes"};
    SourceState sites_state_;
    // Of the last discovery: finding interfaces, reading new ones, attaching to them.
    Result<void> discovered_;
    Result<void> opened_;
    Result<void> attached_;
    bool sites_read_ = false;
    bool attached_once_ = false;
    std::chrono::steady_clock::time_point started_;
    // Losses of monitors that have ended.
    TrafficLosses ended_losses_;
    HealthLosses ended_health_losses_;
    std::uint64_t ended_refused_peers_ = 0;
    std::uint64_t ended_refused_targets_ = 0;
    std::uint64_t collections_ = 0;
    double collections_seconds_ = 0;

    mutable std::mutex problems_mutex_;
    std::vector<std::string> problems_{"starting"};

    std::mutex wait_mutex_;
    std::condition_variable_any wake_;
    // An interface has gone: look at once whether it is there again.
    bool look_again_ = false;
    std::jthread poll_thread_;
    std::jthread metadata_thread_;
};

}  // namespace pangolin
