// Labels that name one thing only.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace pangolin {

struct LabelCandidate {
    std::int64_t id = 0;
    // What it would be called if nobody else were.
    std::string label;
    std::string organisation;
};

// Pangolin's niceId is unique within an organisation, and a name not even that. All that share a label become
// "ORGANISATION/LABEL", and all that share what this gives "ORGANISATION/LABEL#ID". None of them keeps the
// label, and none gets it back when it is the last one: it would continue the series of one that was deleted.
class UniqueLabels {
  public:
    UniqueLabels() = default;
    // A label that nobody may have.
    explicit UniqueLabels(std::string_view reserved);

    // The labels of one reading, in the order of `candidates`.
    std::vector<std::string> make(const std::vector<LabelCandidate>& candidates);

  private:
    std::set<std::string> reserved_;
    // Labels that are nobody's any more, as the column gives them and with the organisation.
    std::set<std::string> shared_;
    std::set<std::string> shared_in_organisation_;
};

}  // namespace pangolin
