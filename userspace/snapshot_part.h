// What is published beside sites and WireGuard: a part that watches something of its own.
#pragma once

#include <memory>

#include "userspace/metadata/site_directory.h"
#include "userspace/snapshot.h"

namespace pangolin {

// The Collector starts parts, asks them at each collection, and drops them at its end.
class SnapshotPart {
  public:
    SnapshotPart() = default;
    SnapshotPart(const SnapshotPart&) = delete;
    SnapshotPart& operator=(const SnapshotPart&) = delete;
    // Ends what start() began.
    virtual ~SnapshotPart() = default;
    // Looks once and starts threads, if it has any. Called once.
    virtual void start() = 0;
    // The directory that holds from now on; before start() and after it. From the thread that reads it.
    virtual void sites_changed(const std::shared_ptr<const SiteDirectory>& directory) {
        static_cast<void>(directory);
    }
    // Adds its fields and the states of its sources. From any thread; waits for nothing but a short lock.
    virtual void describe(Snapshot& snapshot) const = 0;
};

}  // namespace pangolin
