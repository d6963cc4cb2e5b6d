// From rows of Pangolin's tables to a SiteDirectory, whichever database they were read from.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "userspace/metadata/row_fields.h"
#include "userspace/metadata/rows.h"
#include "userspace/metadata/site_directory.h"
#include "userspace/metadata/unique_labels.h"

namespace pangolin {

// Interprets rows. A field that makes no sense is left out with a warning; its row stays if it can.
//
// Labels follow UniqueLabels. Sites without the chosen column, and resources and clients without a niceId
// (resources have it since 1.10.0), are called by their number.
//
// Not thread-safe.
class DirectoryReader {
  public:
    explicit DirectoryReader(SiteLabel label) : label_(label) {}

    SiteDirectory read(const Rows& rows);

    // What was wrong in the last read().
    const std::set<std::string>& problems() const { return problems_.all(); }

  private:
    // From a row's id to its place in the directory.
    using Places = std::map<std::int64_t, std::uint32_t>;

    template <class Row>
    RowFields fields(std::string_view kind, const Row& row);
    template <class Row, class Label, class Interpret, class Thing>
    Places read_labelled(std::string_view kind, const std::vector<Row>& rows, UniqueLabels& labels,
                         Label label_of, Interpret interpret, std::vector<Thing>& things,
                         std::string Thing::* label);

    std::string label_of(const SiteRow& row);
    Site interpret(const SiteRow& row);
    Resource interpret(const ResourceRow& row);
    Client interpret(const ClientRow& row);
    void read_targets(const Rows& rows, const Places& sites, const Places& resources,
                      SiteDirectory& directory);
    Target interpret(const TargetRow& row, const Resource& resource, const Site* site);
    void add_health(const HealthCheckRow& row, Target& target);

    SiteLabel label_;
    UniqueLabels site_labels_{unassigned_site_id};
    UniqueLabels resource_labels_;
    UniqueLabels client_labels_;
    RowProblems problems_;
};

}  // namespace pangolin
