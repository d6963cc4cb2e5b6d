#include "userspace/host/postgres_monitor.h"

#include <spdlog/spdlog.h>

#include "loader/cgroup.h"

namespace pangolin {

void PostgresMonitor::start() {
    auto loaded = PostgresWaitProgram::load();
    if (!loaded) {
        spdlog::info("the time that Pangolin waits for its database is not published: {}",
                     loaded.error().message());
        return;
    }
    const std::lock_guard lock(mutex_);
    program_.emplace(std::move(*loaded));
}

void PostgresMonitor::follow(const std::optional<PangolinProcess>& pangolin) {
    const std::lock_guard lock(mutex_);
    // While there is none the last one's network namespace is watched, where nobody is.
    if (!program_ || !pangolin || pangolin == pangolin_)
        return;
    const auto root = find_cgroup_root();
    const auto watching = root ? program_->watch(pangolin->netns.id.inode, port_, *root + pangolin->cgroup)
                               : std::unexpected(root.error());
    if (!watching) {
        if (const std::string message = watching.error().message(); message != trouble_)
            spdlog::warn("the time that Pangolin waits for its database cannot be told: {}", message);
        trouble_ = watching.error().message();
        return;
    }
    trouble_.clear();
    pangolin_ = pangolin;
    watched_ = true;
}

void PostgresMonitor::describe(Snapshot& snapshot) const {
    const std::lock_guard lock(mutex_);
    snapshot.add_feature("database_wait", program_.has_value());
    if (!program_ || !watched_)
        return;
    const postgres_wait wait = program_->read();
    snapshot.host.database_wait_seconds = static_cast<double>(wait.wait_ns) / 1e9;
    snapshot.lost_updates.push_back({"postgres_connections", "full", wait.lost});
    snapshot.lost_updates.push_back({"postgres_connections", "encrypted", wait.encrypted});
    snapshot.add_attachments("cgroup", 2);
    snapshot.add_attachments("tracepoint", 1);
}

}  // namespace pangolin
