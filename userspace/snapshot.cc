#include "userspace/snapshot.h"

#include <algorithm>

namespace pangolin {

void Snapshot::add_feature(std::string_view name, bool enabled) {
    const auto known = std::ranges::find(features, name, &FeatureStatus::name);
    if (known == features.end())
        features.push_back({name, enabled});
    else
        known->enabled |= enabled;
}

void Snapshot::add_attachments(std::string_view hook, std::uint64_t count) {
    const auto known = std::ranges::find(attachments, hook, &Attachments::hook);
    if (known == attachments.end())
        attachments.push_back({hook, count});
    else
        known->count += count;
}

}  // namespace pangolin
