#include "userspace/metadata/unique_labels.h"

#include <fmt/format.h>

namespace pangolin {
namespace {

// Replaces each label that is in `shared`, after adding those that are there twice.
template <class MakeLabel>
void replace_shared(std::vector<std::string>& labels, std::set<std::string>& shared, MakeLabel make_label) {
    std::set<std::string_view> seen;
    for (const std::string& label : labels)
        if (!seen.insert(label).second)
            shared.insert(label);
    for (std::size_t i = 0; i < labels.size(); ++i)
        if (shared.contains(labels[i]))
            labels[i] = make_label(i);
}

}  // namespace

UniqueLabels::UniqueLabels(std::string_view reserved)
    : reserved_{std::string(reserved)}, shared_(reserved_), shared_in_organisation_(reserved_) {}

std::vector<std::string> UniqueLabels::make(const std::vector<LabelCandidate>& candidates) {
    const auto with_organisation = [&](std::size_t i) {
        return fmt::format("{}/{}", candidates[i].organisation, candidates[i].label);
    };
    std::vector<std::string> labels;
    labels.reserve(candidates.size());
    for (const LabelCandidate& candidate : candidates)
        labels.push_back(candidate.label);
    replace_shared(labels, shared_, with_organisation);
    replace_shared(labels, shared_in_organisation_, [&](std::size_t i) {
        return fmt::format("{}#{}", with_organisation(i), candidates[i].id);
    });
    // Still shared by names that were made up to collide.
    std::set<std::string_view> taken(reserved_.begin(), reserved_.end());
    for (std::size_t i = 0; i < labels.size(); ++i) {
        while (taken.contains(labels[i]))
            labels[i] += fmt::format("#{}", candidates[i].id);
        taken.insert(labels[i]);
    }
    return labels;
}

}  // namespace pangolin
