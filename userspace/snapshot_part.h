// What is published beside sites and WireGuard: a part that watches something of its own.
#pragma once

#include <memory>
#include <string_view>

#include "userspace/keeping.h"
#include "userspace/metadata/site_directory.h"
#include "userspace/snapshot.h"
#include "userspace/state/archive.h"

namespace pangolin {

// The Collector starts parts, asks them at each collection, and drops them at its end.
class SnapshotPart {
  public:
    SnapshotPart() = default;
    SnapshotPart(const SnapshotPart&) = delete;
    SnapshotPart& operator=(const SnapshotPart&) = delete;
    // Ends what start() began.
    virtual ~SnapshotPart() = default;
    // Attaches programs that count on after the end of this process, as far as `keeping` says so. Called
    // once, between restore() and start(), while nothing else of the part is called but save() by `keeping`.
    virtual void attach(const MonitorKeeping& keeping) { static_cast<void>(keeping); }
    // Looks once and starts threads, if it has any. Called once.
    virtual void start() = 0;
    // The directory that holds from now on; before start() and after it. From the thread that reads it.
    virtual void sites_changed(const std::shared_ptr<const SiteDirectory>& directory) {
        static_cast<void>(directory);
    }
    // What its counts need to go on in the next process, under a name that is its own in the state file;
    // empty for a part that counts nothing. restore() comes before start(), and what it cannot read leaves
    // the part as it was. From any thread.
    virtual std::string_view kept_as() const { return {}; }
    virtual void save(ArchiveWriter& writer) const { static_cast<void>(writer); }
    virtual void restore(ArchiveReader& reader) { static_cast<void>(reader); }
    // Adds its fields and the states of its sources. From any thread; waits for nothing but a short lock.
    virtual void describe(Snapshot& snapshot) const = 0;
};

}  // namespace pangolin
