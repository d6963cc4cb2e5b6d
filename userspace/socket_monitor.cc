#include "userspace/socket_monitor.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

namespace pangolin {

void SocketMonitor::attach(const HttpOptions& http) {
    SocketProgramOptions options;
    options.max_targets = max_targets_;
    auto program = SocketProgram::attach(options);
    if (!program) {
        spdlog::warn("no connections to targets: {}", program.error().message());
        http_.attach(http, -1, max_targets_);
        return;
    }
    program_ = std::move(*program);
    if (const auto& trouble = program_->connect_trouble())
        spdlog::warn("connections for which there is no route are not seen: {}", trouble->message());
    http_.attach(http, program_->sockets_fd(), max_targets_);
}

void SocketMonitor::poll(const SiteIndex* sites, const std::vector<CountedTunnels>& tunnels, Ledger& ledger,
                         std::chrono::steady_clock::time_point now) {
    if (!program_)
        return;
    const Result<void> sampled = program_->sample();
    if (sampled)
        trouble_.clear();
    warn_once(sampled);
    accounting_.credit(program_->read(), now);
    http_.credit(accounting_);
    const std::vector<std::uint32_t> finished = accounting_.finished(now);
    for (const std::uint32_t index : finished)
        accounting_.retire(index, program_->take(index), now);
    http_.forget(finished);
    if (sites != nullptr)
        follow(*sites, tunnels, ledger);
    follow_namespaces(tunnels);
}

void SocketMonitor::follow(const SiteIndex& sites, const std::vector<CountedTunnels>& tunnels,
                           Ledger& ledger) {
    std::vector<Tunnels> now;
    for (const CountedTunnels& each : tunnels)
        now.push_back({each.key, static_cast<std::uint32_t>(each.netns.id.inode)});
    // While there is no interface the proxy goes on dialling, in vain: errors that count.
    if (now.empty())
        now = tunnels_;
    if (directory_ == sites.directory() && tunnels_ == now)
        return;
    directory_ = sites.directory();
    tunnels_ = std::move(now);
    const std::vector<SocketTarget> targets = accounting_.follow(sites.targets(), tunnels_, ledger);
    http_.follow(accounting_);
    warn_once(program_->set_targets(targets));
}

void SocketMonitor::follow_namespaces(const std::vector<CountedTunnels>& tunnels) {
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
        return;
    const Result<void> set = program_->set_namespaces(now);
    warn_once(set);
    if (set)
        namespaces_ = std::move(now);
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
