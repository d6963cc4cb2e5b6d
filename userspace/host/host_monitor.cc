#include "userspace/host/host_monitor.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <utility>

#include "loader/process_table.h"
#include "loader/traefik_process.h"

namespace pangolin {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds look_interval{2};
// A container that was restarted has its last run's storage until Traefik clears it, soon after its start.
constexpr std::chrono::seconds clearing_time{1};
// Traefik tries four times for 10 s each, with pauses, and unpacks in no time.
constexpr std::chrono::seconds longest_fetch{120};

std::vector<ProcessIdentity> traefik_processes() {
    std::vector<ProcessIdentity> processes;
    for (const pid_t pid : find_traefik_processes())
        if (const auto start = process_start_time(pid))
            processes.push_back({pid, *start});
    return processes;
}

}  // namespace

HostMonitor::HostMonitor(FindPangolin find_pangolin) : find_pangolin_(std::move(find_pangolin)) {}

HostMonitor::~HostMonitor() {
    thread_.request_stop();
    if (thread_.joinable())
        thread_.join();
}

void HostMonitor::start() {
    look();
    thread_ = std::jthread([this](const std::stop_token& stop) {
        std::unique_lock lock(wait_mutex_);
        while (!wake_.wait_for(lock, stop, look_interval, [&] { return stop.stop_requested(); })) {
            try {
                look();
            } catch (const std::exception& exception) {
                spdlog::error("unexpected: {}", exception.what());
            }
        }
    });
}

void HostMonitor::describe(Snapshot& snapshot) const {
    const std::lock_guard lock(mutex_);
    snapshot.host.pangolin_restarts = published_.pangolin_restarts;
    snapshot.host.plugins = published_.plugins;
}

namespace {

// What of a HostSnapshot is counted here.
template <class Archive, class Identity>
void counts(Archive& archive, Identity& pangolin, HostSnapshot& published) {
    archive(pangolin, published.pangolin_restarts, published.plugins);
}

}  // namespace

template <class Archive>
void fields(Archive& archive, ProcessIdentity& process) {
    archive(process.pid, process.start_time);
}

template <class Archive>
void fields(Archive& archive, PluginFetches& fetches) {
    archive(fetches.succeeded, fetches.failed);
}

void HostMonitor::save(ArchiveWriter& writer) const {
    const std::lock_guard lock(mutex_);
    HostSnapshot published = published_;
    auto pangolin = pangolin_;
    counts(writer, pangolin, published);
}

void HostMonitor::restore(ArchiveReader& reader) {
    HostSnapshot published;
    std::optional<ProcessIdentity> pangolin;
    counts(reader, pangolin, published);
    if (!reader.ok())
        return;
    const std::lock_guard lock(mutex_);
    published_ = std::move(published);
    pangolin_ = pangolin;
}

void HostMonitor::look() {
    look_at_pangolin();
    look_at_traefik();
    looked_before_ = true;
}

void HostMonitor::look_at_pangolin() {
    const auto found = find_pangolin_();
    if (!found)
        return;
    const std::lock_guard lock(mutex_);
    const bool restarted = pangolin_ && *found != *pangolin_;
    pangolin_ = found;
    if (!published_.pangolin_restarts)
        published_.pangolin_restarts = 0;
    *published_.pangolin_restarts += restarted ? 1 : 0;
}

void HostMonitor::look_at_traefik() {
    const std::vector<ProcessIdentity> processes = traefik_processes();
    std::erase_if(traefiks_, [&](const auto& known) {
        return std::ranges::find(processes, known.first) == processes.end();
    });
    for (const ProcessIdentity& process : processes) {
        if (!traefiks_.contains(process)) {
            std::vector<TraefikPlugin> plugins = configured_plugins(process.pid, ProcessFiles(process.pid));
            count(plugins, {});
            const bool counts = looked_before_ && !plugins.empty();
            traefiks_[process] =
                counts ? std::optional(Starting{std::move(plugins), Clock::now()}) : std::nullopt;
        }
        auto& starting = traefiks_[process];
        if (starting && judge(process, *starting))
            starting.reset();
    }
}

bool HostMonitor::judge(const ProcessIdentity& process, Starting& starting) {
    const auto age = Clock::now() - starting.since;
    if (age < clearing_time)
        return false;
    const ProcessFiles files(process.pid);
    const auto is_fetched = [&](const TraefikPlugin& plugin) {
        return plugin_state(files, plugin) == PluginState::fetched;
    };
    const bool all_fetched = std::ranges::all_of(starting.plugins, is_fetched);
    const bool is_empty = plugin_state(files, starting.plugins.front()) == PluginState::failed;
    const bool failed = (is_empty && starting.empty_before) || age > longest_fetch;
    starting.empty_before = is_empty;
    if (!all_fetched && !failed)
        return false;
    count(starting.plugins, is_fetched);
    return true;
}

// Without `good` the plugins are made known only, so that their first increase is seen.
void HostMonitor::count(const std::vector<TraefikPlugin>& plugins,
                        const std::function<bool(const TraefikPlugin&)>& good) {
    const std::lock_guard lock(mutex_);
    for (const TraefikPlugin& plugin : plugins) {
        if (!published_.plugins.contains(plugin.name) && published_.plugins.size() >= most_plugins)
            continue;
        PluginFetches& fetches = published_.plugins[plugin.name];
        if (good)
            ++(good(plugin) ? fetches.succeeded : fetches.failed);
    }
}

}  // namespace pangolin
