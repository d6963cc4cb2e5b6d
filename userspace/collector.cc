#include "userspace/collector.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>

namespace pangolin {
namespace {

constexpr std::chrono::milliseconds shortest_poll_interval{1000};
// After a poll this many times its duration passes, so that polls take about 1 % of one CPU at most.
constexpr int pause_per_poll = 100;

Error no_interface(const std::string& netns) {
    return {.what = netns == "auto" ? "no WireGuard interface in any network namespace"
                                    : "no WireGuard interface in network namespace '" + netns + "'",
            .hint = "Start gerbil (or set metrics.wireguard.netns); the exporter keeps looking.",
            .code = ENODEV};
}

std::shared_ptr<const SiteIndex> no_sites() {
    return std::make_shared<const SiteIndex>(std::make_shared<const SiteDirectory>());
}

SiteSnapshot describe_account(const Site* site, const SiteAccount& account) {
    SiteSnapshot described;
    described.site = site;
    described.traffic = account.traffic;
    if (account.had_peer) {
        described.tunnel_receive_bytes = account.tunnel_receive_bytes;
        described.tunnel_transmit_bytes = account.tunnel_transmit_bytes;
    }
    return described;
}

}  // namespace

Collector::Collector(CollectorOptions options)
    : options_(std::move(options)),
      namespaces_(options_.netns),
      interfaces_(options_.interfaces),
      sites_(no_sites()),
      sites_state_(options_.sites ? options_.sites->name() : "sites") {}

Collector::~Collector() {
    poll_thread_.request_stop();
    metadata_thread_.request_stop();
    wake_.notify_all();
    // Before the members that the threads use.
    if (poll_thread_.joinable())
        poll_thread_.join();
    if (metadata_thread_.joinable())
        metadata_thread_.join();
}

void Collector::start() {
    if (options_.sites)
        refresh_sites();
    discover();
    {
        const std::lock_guard lock(mutex_);
        poll();
    }
    poll_thread_ = std::jthread([this](const std::stop_token& stop) { run_polls(stop); });
    if (options_.sites)
        metadata_thread_ = std::jthread([this](const std::stop_token& stop) { run_metadata(stop); });
}

bool Collector::wait(const std::stop_token& stop, std::chrono::milliseconds time) {
    std::unique_lock lock(wait_mutex_);
    wake_.wait_for(lock, stop, time, [] { return false; });
    return !stop.stop_requested();
}

void Collector::run_polls(const std::stop_token& stop) {
    std::chrono::milliseconds interval = shortest_poll_interval;
    while (wait(stop, interval)) {
        const auto begin = std::chrono::steady_clock::now();
        discover();
        {
            const std::lock_guard lock(mutex_);
            poll();
        }
        const auto spent = std::chrono::steady_clock::now() - begin;
        interval = std::max(shortest_poll_interval,
                            std::chrono::duration_cast<std::chrono::milliseconds>(spent * pause_per_poll));
    }
}

void Collector::run_metadata(const std::stop_token& stop) {
    while (wait(stop, options_.metadata_refresh))
        refresh_sites();
}

// Outside the lock for as long as the source is read: a slow database delays no scrape.
void Collector::refresh_sites() {
    auto directory = options_.sites->read();
    std::shared_ptr<const SiteIndex> index;
    if (directory)
        index =
            std::make_shared<const SiteIndex>(std::make_shared<const SiteDirectory>(std::move(*directory)));
    const std::lock_guard lock(mutex_);
    if (index) {
        set_sites(std::move(index));
        sites_state_.succeeded();
    } else {
        sites_state_.failed(directory.error());
    }
}

void Collector::set_sites(std::shared_ptr<const SiteIndex> sites) {
    sites_ = std::move(sites);
    site_accounts_.clear();
    for (const Site& site : sites_->directory()->sites)
        site_accounts_.push_back(&ledger_.of(site.site_id));
}

void Collector::discover() {
    Result<std::vector<WireGuardInterface>> found;
    if (const auto namespaces = namespaces_.find())
        found = interfaces_.find(*namespaces);
    else
        found = std::unexpected(namespaces.error());

    const std::lock_guard lock(mutex_);
    if (!found) {
        wireguard_state_.failed(found.error());
        return;
    }
    reconcile(*found);
}

void Collector::reconcile(const std::vector<WireGuardInterface>& found) {
    std::erase_if(monitors_, [&](const std::unique_ptr<InterfaceMonitor>& monitor) {
        const auto same = std::ranges::find_if(found, [&](const WireGuardInterface& interface) {
            return interface.same_as(monitor->interface());
        });
        if (same == found.end())
            end_monitor(*monitor);
        else
            monitor->set_namespace(same->netns);
        return same == found.end();
    });
    Result<void> attached;
    for (const WireGuardInterface& interface : found) {
        const bool known = std::ranges::any_of(
            monitors_, [&](const auto& monitor) { return interface.same_as(monitor->interface()); });
        if (known)
            continue;
        auto monitor = InterfaceMonitor::open(interface, options_.attach, options_.max_peers);
        if (monitor)
            monitors_.push_back(std::move(*monitor));
        else if (monitor.error().code != ENODEV)
            attached = std::unexpected(monitor.error());
    }
    if (monitors_.empty() && attached)
        wireguard_state_.failed(no_interface(options_.netns));
    else
        kernel_state_.set(attached);
}

void Collector::end_monitor(InterfaceMonitor& monitor) {
    spdlog::info("interface {} in network namespace {} is gone", monitor.interface().name,
                 monitor.interface().netns.name);
    monitor.finish(ledger_);
    ended_losses_ += monitor.losses();
    ended_refused_peers_ += monitor.refused_peers();
}

void Collector::poll() {
    ledger_.begin_poll();
    const PollTime now = PollTime::now();
    Result<void> outcome;
    bool any_read = false;
    std::erase_if(monitors_, [&](const std::unique_ptr<InterfaceMonitor>& monitor) {
        const auto polled = monitor->poll(now, *sites_, ledger_);
        if (polled) {
            own_exit_nodes_.insert(monitor->public_key());
            any_read = true;
            return false;
        }
        if (polled.error().code != ENODEV) {
            outcome = std::unexpected(polled.error());
            return false;
        }
        end_monitor(*monitor);
        return true;
    });
    if (!outcome)
        wireguard_state_.failed(outcome.error());
    else if (any_read)
        wireguard_state_.succeeded();
    else if (wireguard_state_.up())
        wireguard_state_.failed(no_interface(options_.netns));
    ledger_.end_poll(now.steady);
}

bool Collector::served_here(const Site& site) const {
    if (site.type == SiteType::local)
        return false;
    if (!site.exit_node_public_key || own_exit_nodes_.contains(*site.exit_node_public_key))
        return true;
    return own_exit_nodes_.empty() && sites_->single_exit_node();
}

void Collector::describe_sites(Snapshot& snapshot) const {
    const std::vector<Site>& sites = snapshot.directory->sites;
    const bool readable =
        std::ranges::all_of(monitors_, [](const auto& monitor) { return monitor->readable(); });
    std::map<std::string_view, std::uint64_t> active;
    snapshot.sites.reserve(sites.size() + 1);
    for (std::size_t position = 0; position < sites.size(); ++position) {
        const Site& site = sites[position];
        const SiteAccount& account = *site_accounts_[position];
        SiteSnapshot described = describe_account(&site, account);
        if (served_here(site)) {
            described.uptime_seconds = account.uptime_seconds;
            if (readable) {
                described.tunnel_up = account.up;
                active[site.region.empty() ? site.exit_node : site.region] += account.up ? 1 : 0;
            }
        }
        snapshot.sites.push_back(described);
    }
    snapshot.sites.push_back(describe_account(nullptr, unassigned_account_));
    for (const auto& [region, count] : active)
        snapshot.active_sites.push_back({std::string(region), count});
}

void Collector::describe_losses(Snapshot& snapshot) const {
    TrafficLosses sum = ended_losses_;
    std::uint64_t refused_peers = ended_refused_peers_;
    for (const auto& monitor : monitors_) {
        sum += monitor->losses();
        refused_peers += monitor->refused_peers();
    }
    snapshot.lost_updates = {
        {"unmatched", "full", sum.loss[TRAFFIC_LOSS_UNMATCHED_FULL]},
        {"counters", "gso_header", sum.loss[TRAFFIC_LOSS_GSO_HEADER]},
        {"counters", "missing", sum.loss[TRAFFIC_LOSS_COUNTER]},
        {"counters", "max_peers", refused_peers},
    };
}

std::shared_ptr<const Snapshot> Collector::collect() {
    const auto begin = std::chrono::steady_clock::now();
    auto snapshot = std::make_shared<Snapshot>();
    const std::lock_guard lock(mutex_);
    poll();
    snapshot->time = std::chrono::system_clock::now();
    snapshot->directory = sites_->directory();
    bool tcx = false;
    bool clsact = false;
    for (const auto& monitor : monitors_) {
        monitor->describe(*snapshot);
        tcx |= snapshot->interfaces.back().hook == to_string(HookKind::tcx);
        clsact |= snapshot->interfaces.back().hook == to_string(HookKind::clsact);
    }
    describe_sites(*snapshot);
    describe_losses(*snapshot);
    snapshot->features = {{"tcx", tcx}, {"clsact", clsact}};
    snapshot->sources = {wireguard_state_.status(), kernel_state_.status()};
    if (options_.sites)
        snapshot->sources.push_back(sites_state_.status());
    snapshot->collection_seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    collections_seconds_ += snapshot->collection_seconds;
    snapshot->collections = ++collections_;
    snapshot->collections_seconds_sum = collections_seconds_;
    return snapshot;
}

std::vector<std::string> Collector::problems() const {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> result;
    for (const SourceState* state : {&wireguard_state_, &kernel_state_}) {
        if (!state->up() && !state->error().empty())
            result.push_back(std::string(state->name()) + ": " + state->error());
    }
    if (options_.sites && !sites_state_.up())
        result.push_back(std::string(sites_state_.name()) + ": " + sites_state_.error());
    return result;
}

}  // namespace pangolin
