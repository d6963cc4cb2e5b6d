// A snapshot as its publication reads it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "userspace/snapshot.h"

namespace pangolin {

// A snapshot with what has to be worked out once for all families.
class SnapshotView {
  public:
    explicit SnapshotView(const Snapshot& snapshot);

    const Snapshot& snapshot() const { return snapshot_; }

    // The label `interface`: the interface's name, or "name@namespace" where the snapshot has several of that
    // name. (Not always: a container's namespace has a new name after each restart, and series should not.)
    std::string_view interface_label(std::uint32_t interface) const;

  private:
    const Snapshot& snapshot_;
    std::vector<std::string> interface_labels_;
};

}  // namespace pangolin
