// The catalogue's families in prometheus-cpp's data model.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include "userspace/snapshot.h"

namespace pangolin {

// Makes one collection and returns its result; may take tens of milliseconds. Null: there is none yet.
using SnapshotProvider = std::function<std::shared_ptr<const Snapshot>()>;

std::vector<prometheus::MetricFamily> metric_families(const Snapshot& snapshot);

// The exporter's families for whoever works with prometheus-cpp (its exposers, gateways and serializers).
class SnapshotCollectable final : public prometheus::Collectable {
  public:
    explicit SnapshotCollectable(SnapshotProvider provider) : provider_(std::move(provider)) {}
    std::vector<prometheus::MetricFamily> Collect() const override;

  private:
    SnapshotProvider provider_;
};

}  // namespace pangolin
