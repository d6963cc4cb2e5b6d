// What is published beside sites and WireGuard: a part that watches something of its own.
#pragma once

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
    // Adds its fields and the states of its sources. From any thread; waits for nothing but a short lock.
    virtual void describe(Snapshot& snapshot) const = 0;
};

}  // namespace pangolin
