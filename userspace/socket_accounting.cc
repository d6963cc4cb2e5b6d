#include "userspace/socket_accounting.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "userspace/target_traffic.h"

namespace pangolin {
namespace {

// The kernel gives up a connection attempt after two minutes (tcp_syn_retries) unless told otherwise.
constexpr std::chrono::seconds longest_attempt{150};

// What of a target's counts is nobody's mistake but the target's or the way's.
template <class Counts>
ConnectionErrors errors_of(const Counts& counts) {
    ConnectionErrors errors{};
    const auto set = [&](ConnectionError error, std::uint64_t count) {
        errors[static_cast<std::size_t>(error)] = count;
    };
    set(ConnectionError::connect_timeout, counts.failures[SOCKET_FAILURE_TIMEOUT]);
    set(ConnectionError::connect_refused, counts.failures[SOCKET_FAILURE_REFUSED]);
    set(ConnectionError::reset, counts.ends[SOCKET_END_RESET]);
    set(ConnectionError::early_close, counts.ends[SOCKET_END_EARLY]);
    set(ConnectionError::unreachable,
        counts.failures[SOCKET_FAILURE_UNREACHABLE] + counts.ends[SOCKET_END_UNREACHABLE]);
    return errors;
}

std::uint64_t sum(const ConnectionErrors& errors) {
    std::uint64_t total = 0;
    for (const std::uint64_t count : errors)
        total += count;
    return total;
}

// Traefik speaks it to the browser gateway, too, which is that of ssh, rdp and vnc resources.
bool speaks_http(const DialledTarget& each) {
    const std::string& protocol = each.resource->protocol;
    return protocol != "tcp" && protocol != "udp" && each.target->method != "h2c";
}

}  // namespace

SocketAccounting::Watched* SocketAccounting::watch(const Key& key) {
    const auto found = targets_.find(key);
    if (found != targets_.end())
        return &found->second;
    if (targets_.size() >= max_targets_)
        return nullptr;
    const auto added = targets_.try_emplace(key).first;
    added->second.index = next_index_++;
    by_index_.emplace(added->second.index, added);
    return &added->second;
}

SocketAccounting::Watched* SocketAccounting::list(const DialledTarget& each, const Key& key, Ledger& ledger) {
    Watched* const watched = watch(key);
    if (watched == nullptr) {
        ++refused_now_;
        return nullptr;
    }
    const std::string_view site_id = site_id_of(each);
    const std::string backend = each.target->dialled->to_string();
    watched->listing = listing_;
    watched->resource = ledger.resources.of(site_id, each.resource->resource_id);
    watched->target = ledger.resources.target(site_id, each.resource->resource_id, backend);
    watched->backend = ledger.resources.backend(site_id, backend);
    watched->http = speaks_http(each);
    return watched;
}

void SocketAccounting::list(const TargetIndex& index, const DialledTarget& each, std::uint32_t netns,
                            Ledger& ledger, std::vector<SocketTarget>& listed) {
    if (each.target == nullptr || each.dialled.protocol != TargetProtocol::tcp)
        return;
    Watched* const watched = list(each, {each.dialled, netns}, ledger);
    if (watched == nullptr)
        return;
    const bool local = each.site != nullptr && each.site->type == SiteType::local;
    watched->local_site = local ? ledger.sites.of(site_id_of(each)) : nullptr;
    watched->raw_tcp = each.resource->protocol == "tcp";
    watched->resource->counted |= local;
    listed.push_back({.address = each.dialled.address,
                      .port = each.dialled.port,
                      .netns = netns,
                      .index = watched->index,
                      .http = watched->http});
    if (!watched->http)
        return;
    for (const DialledTarget& other : index.sharing(each)) {
        const std::string& domain = other.resource->domain;
        if (!speaks_http(other) || domain.empty() || domain == each.resource->domain)
            continue;
        if (const Watched* const its = list(other, {each.dialled, netns, domain}, ledger))
            http_hosts_.push_back({.target = watched->index, .name = domain, .owner = its->index});
    }
}

void SocketAccounting::restore(const SocketState& state, Ledger& ledger) {
    for (const SocketTargetState& written : state.targets) {
        const auto target = targets_.try_emplace(Key{written.dialled, written.netns, written.host}).first;
        Watched& watched = target->second;
        watched.index = written.index;
        watched.credited = written.credited;
        watched.resource = ledger.resources.of(written.site_id, written.resource_id);
        watched.target = ledger.resources.target(written.site_id, written.resource_id, written.backend);
        watched.backend = ledger.resources.backend(written.site_id, written.backend);
        watched.local_site = written.is_local ? ledger.sites.of(written.site_id) : nullptr;
        watched.raw_tcp = written.raw_tcp;
        watched.http = written.http;
        by_index_.insert_or_assign(written.index, target);
    }
    next_index_ = state.next_index;
}

void SocketAccounting::save(SocketState& state) const {
    state.next_index = next_index_;
    state.targets.reserve(targets_.size());
    for (const auto& [key, watched] : targets_) {
        const TargetLabels& labels = *watched.target->labels;
        state.targets.push_back({.index = watched.index,
                                 .dialled = key.dialled,
                                 .netns = key.netns,
                                 .host = key.host,
                                 .credited = watched.credited,
                                 .site_id = labels.site_id,
                                 .resource_id = labels.resource_id,
                                 .backend = labels.backend,
                                 .is_local = watched.local_site != nullptr,
                                 .raw_tcp = watched.raw_tcp,
                                 .http = watched.http});
    }
}

void SocketAccounting::restart() {
    for (auto& [key, watched] : targets_)
        watched.credited = {};
}

std::vector<std::uint16_t> SocketAccounting::http_ports() const {
    std::vector<std::uint16_t> ports;
    for (const auto& [key, watched] : targets_) {
        if (watched.http)
            ports.push_back(key.dialled.port);
    }
    return ports;
}

std::vector<SocketTarget> SocketAccounting::follow(const TargetIndex& index, std::span<const Tunnels> tunnels,
                                                   Ledger& ledger) {
    ++listing_;
    http_hosts_.clear();
    const std::uint64_t refused_before = std::exchange(refused_now_, 0);
    std::vector<SocketTarget> listed;
    // Of what is dialled both ways the tunnels' goes before: the last one counts.
    for (const DialledTarget& each : index.of_local_sites())
        list(index, each, 0, ledger, listed);
    for (const Tunnels& interface : tunnels)
        for (const DialledTarget& each : index.in_tunnels(interface.key))
            list(index, each, tunnels.size() > 1 ? interface.netns : 0, ledger, listed);
    if (refused_now_ > refused_before) {
        refused_ += refused_now_ - refused_before;
        spdlog::warn("connections of {} targets are not counted (HINT: Raise metrics.limits.max_targets.)",
                     refused_now_);
    }
    return listed;
}

void SocketAccounting::credit(Watched& watched, const socket_counts& now,
                              std::chrono::steady_clock::time_point time) {
    const auto grown = [](auto now_value, auto& before) {
        return now_value - std::exchange(before, now_value);
    };
    ConnectionCounts growth;
    growth.established = grown(now.established, watched.credited.established);
    growth.found = grown(now.found, watched.credited.found);
    for (int failure = 0; failure < SOCKET_FAILURES; ++failure)
        growth.failures[failure] = grown(now.failures[failure], watched.credited.failures[failure]);
    for (int end = 0; end < SOCKET_ENDS; ++end)
        growth.ends[end] = grown(now.ends[end], watched.credited.ends[end]);
    for (int direction = 0; direction < TRAFFIC_DIRECTIONS; ++direction) {
        growth.bytes[direction] = grown(now.bytes[direction], watched.credited.bytes[direction]);
        if (watched.local_site != nullptr) {
            watched.resource->traffic.count[direction].bytes += growth.bytes[direction];
            watched.local_site->traffic.count[direction][TRAFFIC_TCP].bytes += growth.bytes[direction];
        }
    }
    const ConnectionErrors errors = errors_of(growth);
    for (std::size_t error = 0; error < connection_errors; ++error) {
        watched.target->errors[error] += errors[error];
        watched.backend->errors[error] += errors[error];
    }
    watched.live = live_connections(now);
    // A connection that newt accepts and closes is none that was made.
    const std::uint64_t early = growth.ends[SOCKET_END_EARLY];
    watched.backend->observe(growth.established > early ? growth.established - early : 0, sum(errors), 0,
                             time);
}

void SocketAccounting::credit(std::span<const TargetSocketCounts> counts,
                              std::chrono::steady_clock::time_point now) {
    for (const TargetSocketCounts& each : counts) {
        if (const auto watched = by_index_.find(each.index); watched != by_index_.end())
            credit(watched->second->second, each.counts, now);
    }
    for (auto& [key, watched] : targets_) {
        watched.backend->observe(0, 0, watched.live, now);
        const bool listed = watched.listing == listing_;
        if (listed)
            watched.gone_since.reset();
        else if (!watched.gone_since)
            watched.gone_since = now;
        if (watched.raw_tcp && (listed || watched.live > 0))
            watched.resource->tcp_connections = watched.resource->tcp_connections.value_or(0) + watched.live;
    }
}

std::optional<SocketAccounting::Accounts> SocketAccounting::accounts_of(std::uint32_t index) const {
    const auto watched = by_index_.find(index);
    if (watched == by_index_.end())
        return {};
    const Watched& of = watched->second->second;
    return Accounts{.resource = of.resource.get(), .target = of.target.get(), .backend = of.backend.get()};
}

std::vector<std::uint32_t> SocketAccounting::finished(std::chrono::steady_clock::time_point now) const {
    std::vector<std::uint32_t> result;
    for (const auto& [key, watched] : targets_)
        if (watched.gone_since && now - *watched.gone_since >= longest_attempt && watched.live == 0)
            result.push_back(watched.index);
    return result;
}

void SocketAccounting::retire(std::uint32_t index) {
    const auto watched = by_index_.find(index);
    if (watched == by_index_.end())
        return;
    targets_.erase(watched->second);
    by_index_.erase(watched);
}

}  // namespace pangolin
