// Requests to backends whose HTTP nobody else can read, from Traefik's access log.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

#include "userspace/access_log/access_log_accounts.h"
#include "userspace/access_log/log_tail.h"
#include "userspace/folder_watch.h"
#include "userspace/snapshot_part.h"
#include "userspace/source_state.h"

namespace pangolin {

// Source "access_log". A thread of its own between start() and destruction.
class AccessLogMonitor : public SnapshotPart {
  public:
    explicit AccessLogMonitor(std::string path);
    AccessLogMonitor(const AccessLogMonitor&) = delete;
    AccessLogMonitor& operator=(const AccessLogMonitor&) = delete;
    ~AccessLogMonitor() override;

    void start() override;
    void sites_changed(const std::shared_ptr<const SiteDirectory>& directory) override;
    // With the place in the file up to which lines are in the counts: what is written meanwhile is read
    // later.
    std::string_view kept_as() const override { return "access_log"; }
    void save(ArchiveWriter& writer) const override;
    void restore(ArchiveReader& reader) override;
    // After whoever says whether the kernel reads HTTP.
    void describe(Snapshot& snapshot) const override;

    // Whether the file's last line is one of an access log in JSON: what `check` says. 0 bytes are none.
    static Result<std::uint64_t> inspect(const std::string& path);

  private:
    void run(const std::stop_token& stop);
    // True when there is more to read at once.
    bool look();

    // Of the thread.
    LogTail tail_;
    FolderWatch folder_;

    mutable std::mutex mutex_;
    AccessLogAccounts accounts_;
    LogTail::Position position_;
    std::uint64_t malformed_ = 0;
    std::uint64_t too_long_ = 0;
    // Of earlier processes.
    std::uint64_t too_long_before_ = 0;
    SourceState state_{"access_log"};
    std::jthread thread_;
};

}  // namespace pangolin
