// Observes Pangolin's control plane: finds Pangolin, tells the HTTP programs where to look, reads their
// events.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>

#include "bpf/shared/http.h"
#include "loader/base/error.h"
#include "loader/http_program.h"
#include "loader/pangolin_process.h"
#include "userspace/control_plane/control_accounts.h"
#include "userspace/metadata/site_directory.h"
#include "userspace/snapshot.h"
#include "userspace/source_state.h"
#include "userspace/state/archive.h"

namespace pangolin {

// A thread of its own waits for events. All functions but start() may be called from any thread.
class ControlPlane {
  public:
    // `finder` may be shared with others.
    explicit ControlPlane(std::shared_ptr<PangolinProcessFinder> finder);
    ControlPlane(const ControlPlane&) = delete;
    ControlPlane& operator=(const ControlPlane&) = delete;
    // Ends the thread.
    ~ControlPlane();

    // The handler of the program's events.
    void handle(const http_event& event);
    // Looks for Pangolin and starts the thread, which alone sets the program's services and consumes its
    // events from then on. `program` must outlive this.
    void start(HttpProgram& program);
    // No event is taken any more; what was is in no memory but the counts.
    void stop();

    void sites_changed(const std::shared_ptr<const SiteDirectory>& directory);
    // Adds the counts, and the source "pangolin": up while there is a Pangolin whose events can be read.
    void describe(Snapshot& snapshot) const;
    // What has been counted so far, for the next process.
    void save(ArchiveWriter& writer) const;
    void restore(ArchiveReader& reader);

  private:
    void run(HttpProgram& program, const std::stop_token& stop);
    Result<void> wait_for_events(HttpProgram& program);
    void look_for_pangolin(HttpProgram& program);
    Result<void> erase_events(HttpProgram& program);

    // Used by start() and then by the thread alone.
    std::shared_ptr<PangolinProcessFinder> finder_;
    std::optional<PangolinProcess> pangolin_;
    // Events were consumed that still stand in the ring; another process's may do so.
    bool has_consumed_ = true;

    mutable std::mutex mutex_;
    ControlAccounts accounts_;
    SourceState state_{"pangolin"};
    std::jthread thread_;
};

}  // namespace pangolin
