#include "userspace/collector.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <exception>
#include <map>

#include "loader/traefik_process.h"

namespace pangolin {
namespace {

constexpr std::chrono::milliseconds shortest_poll_interval{1000};
// What changes on the host is noticed within this time, however much work a poll is.
constexpr std::chrono::milliseconds longest_poll_interval{2000};
// In between, this many times a poll's CPU time passes before the next one.
constexpr int pause_per_poll = 100;
// Proxies are mostly where tunnels are; the others are looked for at this interval.
constexpr std::chrono::seconds proxy_search_interval{5};
// What is gone is looked for at this interval.
constexpr std::chrono::seconds review_interval{30};
// A source of sites that cannot be read at the start gets this long before traffic counts as unassigned.
constexpr std::chrono::seconds patience_for_sites{60};
// Published as off while there is no interface.
constexpr std::array feature_names{"tcx", "clsact", "handshakes_module", "handshakes_underlay",
                                   "tcp", "drops",  "sockets",           "http"};

Error no_interface(const std::string& netns) {
    return {.what = netns == "auto" ? "no WireGuard interface in any network namespace"
                                    : "no WireGuard interface in network namespace '" + netns + "'",
            .hint = "Start gerbil (or set metrics.wireguard.netns); the exporter keeps looking.",
            .code = ENODEV};
}

std::shared_ptr<const SiteIndex> no_sites() {
    return std::make_shared<const SiteIndex>(std::make_shared<const SiteDirectory>());
}

std::chrono::nanoseconds thread_cpu_time() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

// A round of a thread that lasts as long as the program: what it throws (out of memory) ends the round only.
template <class Round>
void guarded(Round round) {
    try {
        round();
    } catch (const std::exception& exception) {
        spdlog::error("unexpected: {}", exception.what());
    }
}

SiteSnapshot describe_account(const Site* site, SiteAccount& account) {
    SiteSnapshot described;
    described.site = site;
    described.traffic = account.traffic;
    described.relay = account.relay;
    described.had_peer = account.had_peer;
    described.health = account.share_health();
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
      sockets_(options_.limits.max_targets),
      sites_state_(options_.sites ? options_.sites->name() : "sites") {
    restore();
}

Collector::~Collector() {
    poll_thread_.request_stop();
    metadata_thread_.request_stop();
    wake_.notify_all();
    // Before the members that the threads use.
    sockets_.http().stop();
    if (poll_thread_.joinable())
        poll_thread_.join();
    if (metadata_thread_.joinable())
        metadata_thread_.join();
    if (!options_.persistence)
        return;
    guarded([&] {
        const std::lock_guard lock(mutex_);
        poll(PollScope::all);
        write_state(WriteReason::end);
    });
}

void Collector::start() {
    started_ = std::chrono::steady_clock::now();
    if (options_.sites)
        refresh_sites();
    discover();
    {
        // Scrapes come already. The programs for sockets take longest to load: traffic is counted before.
        const std::lock_guard lock(mutex_);
        attach_sockets();
        for (const auto& part : options_.parts)
            part->attach(keeping());
        poll(PollScope::between_scrapes);
    }
    for (const auto& part : options_.parts)
        part->start();
    poll_thread_ = std::jthread([this](const std::stop_token& stop) { run_polls(stop); });
    if (options_.sites)
        metadata_thread_ = std::jthread([this](const std::stop_token& stop) { run_metadata(stop); });
}

void Collector::attach_sockets() {
    sockets_.attach(options_.http, keeping());
    sockets_.sites_changed(sites_->directory());
    if (sockets_.http().observes_control_plane() && !kept_control_plane_.empty()) {
        ArchiveReader reader(kept_control_plane_);
        sockets_.http().restore(reader);
    }
    sockets_.http().start();
}

bool Collector::wait(const std::stop_token& stop, std::chrono::nanoseconds time, const bool& wake_up) {
    std::unique_lock lock(wait_mutex_);
    wake_.wait_for(lock, stop, time, [&] { return wake_up; });
    return !stop.stop_requested();
}

void Collector::run_polls(const std::stop_token& stop) {
    std::chrono::nanoseconds interval = shortest_poll_interval;
    while (wait(stop, interval, look_again_)) {
        {
            const std::lock_guard lock(wait_mutex_);
            look_again_ = false;
        }
        guarded([&] {
            discover();
            const std::lock_guard lock(mutex_);
            const std::chrono::nanoseconds begin = thread_cpu_time();
            const bool writes = options_.persistence && options_.persistence->due();
            poll(writes ? PollScope::all : PollScope::between_scrapes);
            forget_departed_now_and_then();
            interval = std::clamp<std::chrono::nanoseconds>((thread_cpu_time() - begin) * pause_per_poll,
                                                            shortest_poll_interval, longest_poll_interval);
        });
    }
}

void Collector::run_metadata(const std::stop_token& stop) {
    constexpr bool never = false;
    while (wait(stop, options_.metadata_refresh, never))
        guarded([&] { refresh_sites(); });
}

// Outside the lock for as long as the source is read: a slow database delays no scrape.
void Collector::refresh_sites() {
    auto directory = options_.sites->read();
    if (directory)
        target_names_.resolve(*directory);
    std::shared_ptr<const SiteIndex> index;
    if (directory)
        index =
            std::make_shared<const SiteIndex>(std::make_shared<const SiteDirectory>(std::move(*directory)));
    const std::lock_guard lock(mutex_);
    if (index) {
        set_sites(std::move(index));
        sites_read_ = true;
        sites_state_.succeeded();
    } else {
        sites_state_.failed(directory.error());
    }
}

void Collector::set_sites(std::shared_ptr<const SiteIndex> sites) {
    departed_sites_.follow(*sites_->directory(), *sites->directory(), ledger_.sites,
                           std::chrono::steady_clock::now());
    sites_ = std::move(sites);
    site_accounts_.clear();
    for (const Site& site : sites_->directory()->sites)
        site_accounts_.push_back(ledger_.sites.of(site.site_id));
    backend_checks_.follow(*sites_->directory(), ledger_);
    sockets_.sites_changed(sites_->directory());
    for (const auto& part : options_.parts)
        part->sites_changed(sites_->directory());
}

void Collector::forget_departed_now_and_then() {
    const auto now = std::chrono::steady_clock::now();
    if (!sites_read_ || now < next_review_)
        return;
    next_review_ = now + review_interval;
    const AccountReview review{.now = now, .published = published_};
    departed_sites_.forget(review);
    ledger_.forget_unused(*sites_->directory(), review);
}

// Outside the lock: there may be thousands of processes.
void Collector::find_proxies_now_and_then() {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_proxy_search_)
        return;
    next_proxy_search_ = now + proxy_search_interval;
    std::vector<NetworkNamespace> proxies;
    for (TraefikProcess& process : find_dialling_traefiks())
        proxies.push_back(std::move(process.netns));
    const std::lock_guard lock(mutex_);
    sockets_.set_proxies(std::move(proxies));
}

void Collector::discover() {
    find_proxies_now_and_then();
    Result<std::vector<WireGuardInterface>> found;
    if (const auto namespaces = namespaces_.find())
        found = interfaces_.find(*namespaces);
    else
        found = std::unexpected(namespaces.error());

    const std::lock_guard lock(mutex_);
    discovered_ = {};
    const Result<void>& complete = namespaces_.looked_into_processes();
    if (complete)
        processes_state_.succeeded();
    else
        processes_state_.failed(complete.error());
    if (found)
        reconcile(*found, complete.has_value());
    else
        discovered_ = std::unexpected(found.error());
    // The chosen namespace is not there: whoever still watched it would keep it from ending.
    if (!found && found.error().code == ENOENT)
        reconcile({}, true);
}

// What is not among the found is gone only when they are all that there are.
void Collector::reconcile(const std::vector<WireGuardInterface>& found, bool complete) {
    resume_paused(found, complete);
    looked_ |= complete || paused_.empty();
    if (complete)
        drop_missing(found);
    add_new(found);
    if (complete)
        remove_unknown_pins();
}

void Collector::drop_missing(const std::vector<WireGuardInterface>& found) {
    const auto gone = std::erase_if(monitors_, [&](const std::unique_ptr<InterfaceMonitor>& monitor) {
        const auto same = std::ranges::find_if(found, [&](const WireGuardInterface& interface) {
            return interface.same_as(monitor->interface());
        });
        if (same != found.end()) {
            monitor->set_namespace(same->netns);
            if (monitor->attached())
                return false;
            spdlog::warn("the programs were removed from {}: attaching again", same->name);
        }
        end_monitor(*monitor);
        return true;
    });
    if (gone > 0)
        write_state(WriteReason::change);
}

void Collector::add_new(const std::vector<WireGuardInterface>& found) {
    opened_ = {};
    attached_ = {};
    for (const WireGuardInterface& interface : found) {
        const bool known = std::ranges::any_of(
            monitors_, [&](const auto& monitor) { return interface.same_as(monitor->interface()); });
        if (known)
            continue;
        auto monitor = InterfaceMonitor::open(interface, options_.limits, keeping());
        if (!monitor) {
            if (monitor.error().code != ENODEV)
                opened_ = std::unexpected(monitor.error());
            continue;
        }
        // Before it attaches, for it is written down then.
        monitors_.push_back(std::move(*monitor));
        const auto attached =
            monitors_.back()->attach(options_.attach, options_.handshakes, *sites_, ledger_);
        if (attached) {
            attached_once_ = true;
            continue;
        }
        monitors_.pop_back();
        if (attached.error().code != ENODEV)
            attached_ = attached;
    }
}

void Collector::end_monitor(InterfaceMonitor& monitor) {
    spdlog::info("interface {} in network namespace {} is gone", monitor.interface().name,
                 monitor.interface().netns.name);
    monitor.finish(ledger_);
    ended_losses_ += monitor.losses();
    ended_health_losses_ += monitor.health_losses();
    ended_refused_peers_ += monitor.refused_peers();
    ended_refused_targets_ += monitor.refused_targets();
    ended_programs_.push_back(monitor.take_program());
}

const SiteIndex* Collector::sites_to_credit(const PollTime& now) const {
    const bool too_early = options_.sites && !sites_read_ && now.steady - started_ < patience_for_sites;
    return too_early ? nullptr : sites_.get();
}

void Collector::poll(PollScope scope) {
    const PollTime now = PollTime::now();
    ledger_.begin_poll();
    // Until the interfaces of the process before are found, or seen to be gone, their sites are not down.
    if (!looked_)
        ledger_.sites.for_each([](SiteAccount& account) { account.unknown = true; });
    // That the directory lacks a site says nothing of its tunnel.
    for (const DepartedSite& departed : departed_sites_.sites())
        departed.account->unknown = true;
    const Result<void> reads = poll_monitors(now);
    poll_sockets(now, scope);
    backend_checks_.apply();
    ledger_.end_poll(now.steady);
    update_states(reads);
    if (!ended_programs_.empty() || sockets_.has_final() ||
        std::ranges::any_of(monitors_, [](const auto& each) { return each->has_final(); }))
        write_state(WriteReason::change);
    else if (options_.persistence && options_.persistence->due())
        write_state(WriteReason::publishing);
}

Result<void> Collector::poll_monitors(const PollTime& now) {
    Result<void> reads;
    const SiteIndex* const sites = sites_to_credit(now);
    const auto gone = std::erase_if(monitors_, [&](const std::unique_ptr<InterfaceMonitor>& monitor) {
        const auto polled = monitor->poll(now, sites, ledger_);
        own_exit_nodes_.insert(monitor->public_key());
        if (polled)
            return false;
        if (polled.error().code != ENODEV) {
            reads = polled;
            return false;
        }
        end_monitor(*monitor);
        return true;
    });
    if (gone > 0) {
        const std::lock_guard lock(wait_mutex_);
        look_again_ = true;
        wake_.notify_all();
    }
    return reads;
}

void Collector::poll_sockets(const PollTime& now, PollScope scope) {
    std::vector<CountedTunnels> tunnels;
    for (const auto& monitor : monitors_)
        tunnels.push_back({monitor->public_key(), monitor->interface().netns});
    sockets_.poll(sites_to_credit(now), tunnels, ledger_, now.steady, scope);
}

void Collector::update_states(const Result<void>& reads) {
    if (!discovered_ && !processes_state_.up())
        wireguard_state_.failed_with(discovered_.error());
    else if (!discovered_)
        wireguard_state_.failed(discovered_.error());
    else if (!opened_)
        wireguard_state_.failed(opened_.error());
    else if (!reads)
        wireguard_state_.failed(reads.error());
    else if (!looked_ && monitors_.empty())
        wireguard_state_.idle();
    else if (monitors_.empty() && attached_)
        wireguard_state_.failed(no_interface(options_.netns));
    else
        wireguard_state_.succeeded();
    if (!attached_)
        kernel_state_.failed(attached_.error());
    else if (!monitors_.empty())
        kernel_state_.succeeded();
    else
        kernel_state_.idle();

    std::vector<std::string> problems;
    const auto look_at = [&](const SourceState& state) {
        if (!state.up())
            problems.push_back(std::string(state.name()) + ": " +
                               (state.error().empty() ? "nothing attached yet" : state.error()));
    };
    look_at(wireguard_state_);
    look_at(kernel_state_);
    if (options_.sites)
        look_at(sites_state_);
    const std::lock_guard lock(problems_mutex_);
    problems_ = std::move(problems);
}

bool Collector::served_here(const Site& site) const {
    if (site.type == SiteType::local)
        return false;
    if (!site.exit_node_public_key || own_exit_nodes_.contains(*site.exit_node_public_key))
        return true;
    return own_exit_nodes_.empty() && sites_->single_exit_node();
}

bool Collector::can_judge(const Site& site) const {
    const bool looked = discovered_ || discovered_.error().code == ENOENT;
    if (!attached_once_ || !looked || !opened_ || !attached_)
        return false;
    return std::ranges::all_of(monitors_, [&](const auto& monitor) {
        const bool other = site.exit_node_public_key && *site.exit_node_public_key != monitor->public_key();
        return other || monitor->readable();
    });
}

void Collector::describe_sites(Snapshot& snapshot) const {
    const std::vector<Site>& sites = snapshot.directory->sites;
    std::map<std::string_view, std::uint64_t> active;
    snapshot.sites.reserve(sites.size() + 1);
    for (std::size_t position = 0; position < sites.size(); ++position) {
        const Site& site = sites[position];
        SiteAccount& account = *site_accounts_[position];
        SiteSnapshot described = describe_account(&site, account);
        if (served_here(site)) {
            described.uptime_seconds = account.uptime_seconds;
            if (account.up || can_judge(site)) {
                described.tunnel_up = account.up;
                active[site.region.empty() ? site.exit_node : site.region] += account.up ? 1 : 0;
            }
        }
        snapshot.sites.push_back(std::move(described));
    }
    for (const DepartedSite& departed : departed_sites_.sites()) {
        snapshot.departed_sites.push_back(departed.site);
        SiteSnapshot described = describe_account(departed.site.get(), *departed.account);
        if (described.had_peer)
            described.uptime_seconds = departed.account->uptime_seconds;
        snapshot.sites.push_back(std::move(described));
    }
    snapshot.sites.push_back(describe_account(nullptr, *unassigned_account_));
    for (const auto& [region, count] : active)
        snapshot.active_sites.push_back({std::string(region), count});
}

void Collector::describe_resources(Snapshot& snapshot) const {
    snapshot.resources = ledger_.resources.resources();
    snapshot.targets = ledger_.resources.targets();
    snapshot.backends = ledger_.resources.backends();
    ledger_.clients.for_each([&](const ClientAccount& account) {
        snapshot.clients.push_back({account.client_id, account.traffic});
    });
}

void Collector::describe_losses(Snapshot& snapshot) const {
    TrafficLosses sum = ended_losses_;
    HealthLosses health = ended_health_losses_;
    std::uint64_t refused_peers = ended_refused_peers_;
    std::uint64_t refused_targets = ended_refused_targets_;
    const SocketLosses sockets = sockets_.losses();
    for (const auto& monitor : monitors_) {
        sum += monitor->losses();
        health += monitor->health_losses();
        refused_peers += monitor->refused_peers();
        refused_targets += monitor->refused_targets();
    }
    snapshot.lost_updates = {
        {"unmatched", "full", sum.loss[TRAFFIC_LOSS_UNMATCHED_FULL]},
        {"counters", "gso_header", sum.loss[TRAFFIC_LOSS_GSO_HEADER]},
        {"counters", "missing", sum.loss[TRAFFIC_LOSS_COUNTER]},
        {"counters", "max_peers", refused_peers},
        {"target_counters", "max_targets", refused_targets},
        {"first_fragments", "missing", sum.loss[TRAFFIC_LOSS_FRAGMENT]},
        {"udp_flows", "full", sum.loss[TRAFFIC_LOSS_FLOWS_FULL]},
        {"socket_counts", "full", sockets.counts_full},
        {"sockets", "full", sockets.sockets_full},
        {"sockets", "end_missed", sockets.ends_missed},
        {"socket_targets", "max_targets", sockets_.refused_targets()},
        {"handshakes", "full", health.handshakes},
        {"handshake_counts", "full", health.handshake_counts},
        {"tcp_counts", "full", health.tcp},
        {"drop_counts", "full", health.drops},
    };
}

std::shared_ptr<const Snapshot> Collector::collect() {
    const auto begin = std::chrono::steady_clock::now();
    auto snapshot = std::make_shared<Snapshot>();
    const std::lock_guard lock(mutex_);
    poll(PollScope::all);
    snapshot->time = std::chrono::system_clock::now();
    snapshot->directory = sites_->directory();
    for (const std::string_view feature : feature_names)
        snapshot->add_feature(feature, false);
    for (const auto& monitor : monitors_)
        monitor->describe(*snapshot);
    describe_sites(*snapshot);
    describe_resources(*snapshot);
    describe_losses(*snapshot);
    snapshot->sources = {wireguard_state_.status(), kernel_state_.status(), processes_state_.status()};
    sockets_.describe(*snapshot);
    if (options_.sites)
        snapshot->sources.push_back(sites_state_.status());
    for (const auto& part : options_.parts)
        part->describe(*snapshot);
    // After all was described: what is counted meanwhile may be in the state, but not the other way round.
    write_state(WriteReason::publishing);
    published_ = std::chrono::steady_clock::now();
    snapshot->collection_seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    collections_seconds_ += snapshot->collection_seconds;
    snapshot->collections = ++collections_;
    snapshot->collections_seconds_sum = collections_seconds_;
    return snapshot;
}

std::vector<std::string> Collector::problems() const {
    const std::lock_guard lock(problems_mutex_);
    return problems_;
}

}  // namespace pangolin
