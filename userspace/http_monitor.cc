#include "userspace/http_monitor.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <set>
#include <utility>

namespace pangolin {
namespace {

// What is open was counted up and down on several CPUs: a reading may fall between the two.
std::uint64_t at_least_0(std::int64_t open) {
    return open > 0 ? static_cast<std::uint64_t>(open) : 0;
}

template <class Map>
void erase_target(Map& map, std::uint32_t index) {
    map.erase(map.lower_bound({index, 0}), map.lower_bound({index + 1, 0}));
}

}  // namespace

void HttpMonitor::restore(HttpState state) {
    kept_.restore(std::move(state.pins));
    requests_ = std::move(state.requests);
    durations_ = std::move(state.durations);
    targets_ = std::move(state.targets);
}

HttpState HttpMonitor::state() const {
    return {.pins = kept_.written(), .requests = requests_, .durations = durations_, .targets = targets_};
}

Result<HttpProgram> HttpMonitor::start_program(const HttpProgramOptions& options,
                                               const HttpEventHandler& handler, const MonitorKeeping& keeping,
                                               const SocketAccounting& accounting) {
    const auto load = [&](const std::optional<KeptPins>& pins) {
        HttpProgramOptions with_pins = options;
        with_pins.pins = pins;
        return HttpProgram::load(with_pins, handler);
    };
    return kept_.start<HttpProgram>(
        keeping, load, [&](const PinFolder& pins) { credit(HttpProgram::read_pinned(pins), accounting); },
        [this] { restart(); });
}

void HttpMonitor::attach(const HttpOptions& options, int sockets_fd, std::uint32_t max_targets,
                         const MonitorKeeping& keeping, const SocketAccounting& accounting) {
    if (!options.enabled) {
        kept_.end(
            keeping, [&](const PinFolder& pins) { credit(HttpProgram::read_pinned(pins), accounting); },
            [this] { restart(); });
        return;
    }
    HttpProgramOptions of_program;
    of_program.sockets_fd = sockets_fd;
    of_program.cgroups = options.cgroups;
    of_program.max_targets = max_targets;
    auto control_plane = std::make_unique<ControlPlane>(
        options.pangolin ? options.pangolin : std::make_shared<PangolinProcessFinder>(PangolinPorts{}));
    auto program = start_program(
        of_program, [handler = control_plane.get()](const http_event& event) { handler->handle(event); },
        keeping, accounting);
    if (!program) {
        spdlog::warn("HTTP is not observed: {}", program.error().message());
        return;
    }
    program_ = std::move(*program);
    control_plane_ = std::move(control_plane);
}

void HttpMonitor::start() {
    if (control_plane_)
        control_plane_->start(*program_);
}

void HttpMonitor::stop() {
    if (control_plane_)
        control_plane_->stop();
}

void HttpMonitor::restart() {
    requests_.clear();
    durations_.clear();
    targets_.clear();
}

void HttpMonitor::sites_changed(const std::shared_ptr<const SiteDirectory>& directory) {
    if (control_plane_)
        control_plane_->sites_changed(directory);
}

void HttpMonitor::credit(const SocketAccounting& accounting) {
    if (program_)
        credit(program_->read(), accounting);
}

void HttpMonitor::credit(const HttpCounts& counts, const SocketAccounting& accounting) {
    for (const HttpRequests& each : counts.requests) {
        const auto accounts = accounting.accounts_of(each.key.target);
        if (!accounts)
            continue;
        const std::uint32_t detail = std::uint32_t{each.key.method} << 16 | each.key.status;
        std::uint64_t& before = requests_[{each.key.target, detail}];
        accounts->target->http.add_requests(each.key.method, each.key.status, each.requests - before);
        before = each.requests;
    }
    for (const HttpDurations& each : counts.durations) {
        const auto accounts = accounting.accounts_of(each.key.target);
        if (!accounts)
            continue;
        latency_histogram& before = durations_[{each.key.target, each.key.method}];
        const auto method = static_cast<std::uint16_t>(each.key.method);
        accounts->target->http.durations[method].add_growth(each.histogram, before);
        before = each.histogram;
    }
    credit_targets(counts, accounting);
}

void HttpMonitor::credit_targets(const HttpCounts& counts, const SocketAccounting& accounting) {
    for (const HttpTargetCounts& each : counts.targets) {
        const auto accounts = accounting.accounts_of(each.target);
        if (!accounts)
            continue;
        http_target_counts& before = targets_[each.target];
        HttpResponseSizes& sizes = accounts->backend->response_sizes;
        for (std::size_t bucket = 0; bucket < HTTP_SIZE_BUCKETS; ++bucket)
            sizes.bucket[bucket] += each.counts.size_bucket[bucket] - before.size_bucket[bucket];
        sizes.sum += each.counts.size_sum - before.size_sum;
        accounts->target->http.aborted += each.counts.aborted - before.aborted;
        before = each.counts;
        ResourceAccount& resource = *accounts->resource;
        resource.http_requests = resource.http_requests.value_or(0) + at_least_0(each.counts.open_requests);
        resource.websockets = resource.websockets.value_or(0) + at_least_0(each.counts.open_websockets);
    }
}

void HttpMonitor::follow(const SocketAccounting& accounting) {
    if (!program_)
        return;
    program_->set_target_ports(accounting.http_ports());
    if (const auto set = program_->set_hosts(accounting.http_hosts()); !set)
        spdlog::warn("HTTP: {}", set.error().message());
}

void HttpMonitor::retire(const std::vector<std::uint32_t>& indexes) {
    for (const std::uint32_t index : indexes) {
        erase_target(requests_, index);
        erase_target(durations_, index);
        targets_.erase(index);
    }
}

void HttpMonitor::forget(const std::vector<std::uint32_t>& indexes) {
    if (program_ && !indexes.empty())
        program_->forget(indexes);
}

void HttpMonitor::forget_unknown(const SocketAccounting& accounting) {
    if (!program_)
        return;
    std::set<std::uint32_t> unknown;
    const auto look_at = [&](std::uint32_t target) {
        if (!accounting.knows(target))
            unknown.insert(target);
    };
    const HttpCounts counts = program_->read();
    for (const HttpRequests& each : counts.requests)
        look_at(each.key.target);
    for (const HttpDurations& each : counts.durations)
        look_at(each.key.target);
    for (const HttpTargetCounts& each : counts.targets)
        look_at(each.target);
    forget({unknown.begin(), unknown.end()});
}

void HttpMonitor::describe(Snapshot& snapshot) const {
    snapshot.add_feature("http", program_.has_value());
    if (!program_)
        return;
    snapshot.add_attachments("tracepoint", 1);
    snapshot.add_attachments("cgroup", program_->attachments() - 1);
    const HttpTotals totals = program_->totals();
    std::ranges::copy(totals.opaque, snapshot.http_opaque.emplace().begin());
    const auto lost = [&](std::string_view map, std::string_view reason, http_loss loss) {
        snapshot.lost_updates.push_back({map, reason, totals.lost[loss]});
    };
    lost("http_connections", "full", HTTP_LOSS_CONNECTIONS_FULL);
    lost("http_connections", "pipeline_full", HTTP_LOSS_PIPELINE_FULL);
    lost("http_connections", "unsolicited", HTTP_LOSS_UNSOLICITED);
    lost("http_connections", "sequence", HTTP_LOSS_SEQUENCE);
    lost("http_connections", "malformed", HTTP_LOSS_MALFORMED);
    lost("http_connections", "bound", HTTP_LOSS_BOUND);
    lost("http_connections", "concurrent", HTTP_LOSS_CONCURRENT);
    lost("http_connections", "unreadable", HTTP_LOSS_UNREADABLE);
    lost("http_statuses", "full", HTTP_LOSS_STATUSES_FULL);
    lost("http_durations", "full", HTTP_LOSS_DURATIONS_FULL);
    lost("http_targets", "full", HTTP_LOSS_TARGETS_FULL);
    lost("http_events", "full", HTTP_LOSS_EVENTS_FULL);
    control_plane_->describe(snapshot);
}

}  // namespace pangolin
