// HTTP on the host's sockets: the programs that read it, what they counted of targets, and Pangolin's own
// services.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "loader/http_program.h"
#include "loader/pangolin_process.h"
#include "loader/socket_program.h"
#include "userspace/control_plane/control_plane.h"
#include "userspace/keeping.h"
#include "userspace/metadata/site_directory.h"
#include "userspace/snapshot.h"
#include "userspace/socket_accounting.h"
#include "userspace/state/socket_state.h"

namespace pangolin {

struct HttpOptions {
    bool enabled = true;
    // Null where the default ports are Pangolin's.
    std::shared_ptr<PangolinProcessFinder> pangolin;
    // See HttpProgramOptions.
    std::vector<std::string> cgroups;
};

// Detaches at its end, but what is pinned. A host that cannot read HTTP is logged, and all else goes on. Not
// thread-safe.
class HttpMonitor {
  public:
    // What another process has written down; before attach().
    void restore(HttpState state);
    HttpState state() const;

    // Connections to targets are those in a SocketProgram's map; -1 where there is none. Credits what was
    // counted by programs that end now. start() comes next.
    void attach(const HttpOptions& options, int sockets_fd, std::uint32_t max_targets,
                const MonitorKeeping& keeping, const SocketAccounting& accounting);
    // The control plane's events are taken from now on, until stop().
    void start();
    void stop();

    // The directory that holds from now on; after attach().
    void sites_changed(const std::shared_ptr<const SiteDirectory>& directory);

    // Credits what was counted to whom `accounting` says that the targets are: before these change.
    void credit(const SocketAccounting& accounting);
    // The targets have changed.
    void follow(const SocketAccounting& accounting);
    // Targets that have no connections any more: retired at once, and forgotten once that is written down.
    void retire(const std::vector<std::uint32_t>& indexes);
    void forget(const std::vector<std::uint32_t>& indexes);
    // Counts of which no target is known, as another process has left them.
    void forget_unknown(const SocketAccounting& accounting);

    // Pangolin's control plane over the end of a process; between attach() and start(). Nothing is written
    // where it is not observed.
    bool observes_control_plane() const { return control_plane_ != nullptr; }
    void save(ArchiveWriter& writer) const { control_plane_->save(writer); }
    void restore(ArchiveReader& reader) { control_plane_->restore(reader); }

    // Adds to the attachments and features of `snapshot`, and the counts of what was not looked into.
    void describe(Snapshot& snapshot) const;

  private:
    using Key = HttpState::Key;

    Result<HttpProgram> start_program(const HttpProgramOptions& options, const HttpEventHandler& handler,
                                      const MonitorKeeping& keeping, const SocketAccounting& accounting);
    void credit(const HttpCounts& counts, const SocketAccounting& accounting);
    void credit_targets(const HttpCounts& counts, const SocketAccounting& accounting);
    void restart();

    KeptPrograms kept_{"http"};
    std::optional<HttpProgram> program_;
    // Its thread uses `program_` until its end.
    std::unique_ptr<ControlPlane> control_plane_;
    // Part of the counts that is in the ledger already.
    std::map<Key, std::uint64_t> requests_;
    std::map<Key, latency_histogram> durations_;
    std::map<std::uint32_t, http_target_counts> targets_;
};

}  // namespace pangolin
