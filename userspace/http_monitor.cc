#include "userspace/http_monitor.h"

#include <spdlog/spdlog.h>

#include <array>
#include <cstddef>
#include <string_view>
#include <utility>

namespace pangolin {
namespace {

// By enum http_loss.
constexpr std::array<std::string_view, HTTP_LOSSES> loss_names{
    "connections_full", "statuses_full", "durations_full", "targets_full", "pipeline_full", "unsolicited",
    "sequence",         "malformed",     "bound",          "concurrent",   "unreadable",    "events_full",
};
static_assert(HTTP_LOSS_CONNECTIONS_FULL == 0 && HTTP_LOSS_SEQUENCE == 6 && HTTP_LOSS_EVENTS_FULL == 11);

}  // namespace

HttpMonitor::HttpMonitor(HttpMonitorOptions options)
    : options_(std::move(options)), control_plane_(options_.pangolin) {}

void HttpMonitor::start() {
    auto program = HttpProgram::attach({.cgroups = options_.cgroups},
                                       [this](const http_event& event) { control_plane_.handle(event); });
    if (!program) {
        spdlog::warn("HTTP is not observed: {}", program.error().message());
        return;
    }
    program_.emplace(std::move(*program));
    attached_ = true;
    control_plane_.start(*program_);
}

void HttpMonitor::sites_changed(const std::shared_ptr<const SiteDirectory>& directory) {
    control_plane_.sites_changed(directory);
}

void HttpMonitor::describe(Snapshot& snapshot) const {
    const bool attached = attached_;
    snapshot.add_feature("http", attached);
    if (!attached)
        return;
    // One sees the ends of connections, the others their packets.
    snapshot.add_attachments("tracepoint", 1);
    snapshot.add_attachments("cgroup_skb", program_->attachments() - 1);
    const HttpTotals totals = program_->totals();
    for (std::size_t loss = 0; loss < loss_names.size(); ++loss)
        snapshot.lost_updates.push_back({"http", loss_names[loss], totals.lost[loss]});
    control_plane_.describe(snapshot);
}

}  // namespace pangolin
