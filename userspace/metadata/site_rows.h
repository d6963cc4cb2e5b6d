// From rows of Pangolin's table `sites` to a SiteDirectory, whichever database they were read from.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "userspace/metadata/site_directory.h"

namespace pangolin {

// One row as the database gave it. None: NULL, or a column that this version of Pangolin does not have.
struct SiteRow {
    std::int64_t site_id = 0;
    std::optional<std::string> nice_id;
    std::optional<std::string> name;
    std::optional<std::string> organisation;
    std::optional<std::string> type;
    std::optional<std::string> public_key;
    std::optional<std::string> subnet;
    std::optional<std::int64_t> online;
    std::optional<std::string> exit_node;
    std::optional<std::string> region;
    std::optional<std::string> exit_node_public_key;
};

// Interprets rows. A field that makes no sense is left out with a warning; its site stays.
//
// The label site_id must name one site only, but Pangolin's niceId is unique per organisation and a name not
// even that. All sites that share a label become "ORGANISATION/LABEL", and all that share what this gives
// "ORGANISATION/LABEL#SITEID". None of them keeps the label, and none gets it back when it is the last
// one: it would continue the series of a site that was deleted. Sites without the chosen column are
// called by their siteId.
//
// Not thread-safe.
class SiteRowReader {
  public:
    explicit SiteRowReader(SiteLabel label) : label_(label) {}

    // `rows` in the order of site_id. The result is in the order of its labels.
    SiteDirectory read(const std::vector<SiteRow>& rows);

    // What was wrong in the last read(); a problem is logged when it appears, not each time it is seen.
    const std::set<std::string>& problems() const { return problems_; }

  private:
    Site interpret(const SiteRow& row);
    std::string label_of(const SiteRow& row);
    std::vector<std::string> unique_labels(const std::vector<SiteRow>& rows);
    std::string text(const SiteRow& row, std::string_view column, const std::optional<std::string>& value);
    std::optional<WireGuardKey> key(const SiteRow& row, std::string_view column,
                                    const std::optional<std::string>& value);
    void report(const SiteRow& row, std::string_view what);

    SiteLabel label_;
    // Labels that are no site's any more, as the column gives them and with the organisation.
    std::set<std::string> shared_{std::string(unassigned_site_id)};
    std::set<std::string> shared_in_organisation_{std::string(unassigned_site_id)};
    std::set<std::string> problems_;
    std::set<std::string> known_problems_;
};

}  // namespace pangolin
