// HTTP on this host's sockets as a part of the snapshot: Pangolin's own services.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "loader/http_program.h"
#include "loader/pangolin_process.h"
#include "userspace/control_plane/control_plane.h"
#include "userspace/snapshot_part.h"

namespace pangolin {

struct HttpMonitorOptions {
    PangolinPorts pangolin;
    // As HttpProgramOptions has it.
    std::vector<std::string> cgroups;
};

class HttpMonitor final : public SnapshotPart {
  public:
    explicit HttpMonitor(HttpMonitorOptions options);

    // Where the kernel does not take the programs this logs why, and describe() adds no more than that the
    // feature "http" is off.
    void start() override;
    void sites_changed(const std::shared_ptr<const SiteDirectory>& directory) override;
    void describe(Snapshot& snapshot) const override;

  private:
    HttpMonitorOptions options_;
    // Before `control_plane_`, whose thread uses it until its end.
    std::optional<HttpProgram> program_;
    // From then on others may read `program_`.
    std::atomic<bool> attached_ = false;
    ControlPlane control_plane_;
};

}  // namespace pangolin
