#include "userspace/socket_monitor.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

namespace pangolin {
namespace {

// Bytes of open connections are read this often at least.
constexpr std::chrono::seconds sample_interval{5};

}  // namespace

void SocketMonitor::restore(const SocketState& state, Ledger& ledger) {
    kept_.restore(state.pins);
    accounting_.restore(state, ledger);
    http_.restore(state.http);
}

SocketState SocketMonitor::state() const {
    SocketState state;
    accounting_.save(state);
    state.pins = kept_.written();
    state.http = http_.state();
    return state;
}

Result<SocketProgram> SocketMonitor::start_program() {
    const auto load = [&](const std::optional<KeptPins>& pins) {
        SocketProgramOptions options;
        options.max_targets = max_targets_;
        options.pins = pins;
        return SocketProgram::load(options);
    };
    const auto credit = [&](const PinFolder& pins) {
        accounting_.credit(SocketProgram::read_pinned(pins), std::chrono::steady_clock::now());
    };
    return kept_.start<SocketProgram>(keeping_, load, credit, [&] { accounting_.restart(); });
}

void SocketMonitor::attach(const HttpOptions& http, const MonitorKeeping& keeping) {
    keeping_ = keeping;
    auto program = start_program();
    if (!program) {
        spdlog::warn("no connections to targets: {}", program.error().message());
        http_.attach(http, -1, max_targets_, keeping_, accounting_);
        return;
    }
    program_ = std::move(*program);
    if (const auto& trouble = program_->connect_trouble())
        spdlog::warn("connections for which there is no route are not seen: {}", trouble->message());
    http_.attach(http, program_->sockets_fd(), max_targets_, keeping_, accounting_);
    forget_unknown();
}

// What nobody has was credited, and the other process ended before it forgot it.
void SocketMonitor::forget_unknown() {
    for (const TargetSocketCounts& each : program_->read()) {
        if (!accounting_.knows(each.index))
            program_->take(each.index);
    }
    http_.forget_unknown(accounting_);
}

void SocketMonitor::forget_written() {
    if (program_) {
        for (const std::uint32_t index : retired_)
            program_->take(index);
    }
    http_.forget(retired_);
    retired_.clear();
}

// HTTP's maps and the host's sockets are the most to go through, and an idle host has them too: between
// scrapes they are left alone, unless targets change hands.
void SocketMonitor::poll(const SiteIndex* sites, const std::vector<CountedTunnels>& tunnels, Ledger& ledger,
                         std::chrono::steady_clock::time_point now, PollScope scope) {
    if (!program_)
        return;
    const bool hands_over = sites != nullptr && is_other(*sites, dialled_through(tunnels));
    if (scope == PollScope::all || hands_over || now >= next_sample_)
        sample(now);
    accounting_.credit(program_->read(), now);
    const std::vector<std::uint32_t> finished = accounting_.finished(now);
    if (scope == PollScope::all || hands_over || !finished.empty())
        http_.credit(accounting_);
    for (const std::uint32_t index : finished)
        accounting_.retire(index);
    http_.retire(finished);
    retired_.insert(retired_.end(), finished.begin(), finished.end());
    if (sites != nullptr)
        follow(*sites, dialled_through(tunnels), ledger);
    // There may be connections already.
    if (follow_namespaces(tunnels) || hands_over)
        sample(now);
}

void SocketMonitor::sample(std::chrono::steady_clock::time_point now) {
    const Result<void> sampled = program_->sample();
    next_sample_ = now + sample_interval;
    if (sampled)
        trouble_.clear();
    warn_once(sampled);
}

std::vector<Tunnels> SocketMonitor::dialled_through(const std::vector<CountedTunnels>& tunnels) const {
    std::vector<Tunnels> now;
    for (const CountedTunnels& each : tunnels)
        now.push_back({each.key, static_cast<std::uint32_t>(each.netns.id.inode)});
    // While there is no interface the proxy goes on dialling, in vain: errors that count.
    return now.empty() ? tunnels_ : now;
}

bool SocketMonitor::is_other(const SiteIndex& sites, const std::vector<Tunnels>& tunnels) const {
    return directory_ != sites.directory() || tunnels_ != tunnels;
}

void SocketMonitor::follow(const SiteIndex& sites, std::vector<Tunnels> now, Ledger& ledger) {
    if (!is_other(sites, now))
        return;
    directory_ = sites.directory();
    tunnels_ = std::move(now);
    const std::uint32_t known = accounting_.next_index();
    const std::vector<SocketTarget> targets = accounting_.follow(sites.targets(), tunnels_, ledger);
    if (accounting_.next_index() != known)
        keeping_.write_state();
    http_.follow(accounting_);
    warn_once(program_->set_targets(targets));
}

bool SocketMonitor::follow_namespaces(const std::vector<CountedTunnels>& tunnels) {
    std::vector<NetworkNamespace> now;
    const auto add = [&](const NetworkNamespace& netns) {
        if (std::ranges::find(now, netns.id, &NetworkNamespace::id) == now.end())
            now.push_back(netns);
    };
    for (const CountedTunnels& each : tunnels)
        add(each.netns);
    std::ranges::for_each(proxies_, add);
    const auto same = [](const NetworkNamespace& a, const NetworkNamespace& b) {
        return a.id == b.id && a.path == b.path;
    };
    if (std::ranges::equal(now, namespaces_, same))
        return false;
    const Result<void> set = program_->set_namespaces(now);
    warn_once(set);
    if (set)
        namespaces_ = std::move(now);
    return set.has_value();
}

void SocketMonitor::warn_once(const Result<void>& result) {
    if (result)
        return;
    if (result.error().what != trouble_)
        spdlog::warn("connections to targets: {}", result.error().message());
    trouble_ = result.error().what;
}

void SocketMonitor::describe(Snapshot& snapshot) const {
    snapshot.add_feature("sockets", program_.has_value());
    http_.describe(snapshot);
    if (!program_)
        return;
    // Two of them watch connect().
    const std::size_t of_cgroup = program_->connect_trouble() ? 0 : 2;
    snapshot.add_attachments("cgroup", of_cgroup);
    snapshot.add_attachments("tracepoint", program_->attachments() - of_cgroup);
}

}  // namespace pangolin
