// Sites that the directory does not have any more, until their last totals were published.
#pragma once

#include <memory>
#include <vector>

#include "userspace/account_table.h"
#include "userspace/metadata/site_directory.h"
#include "userspace/site_ledger.h"

namespace pangolin {

struct DepartedSite {
    // As it was last, but whether it was online.
    std::shared_ptr<const Site> site;
    std::shared_ptr<SiteAccount> account;
    std::chrono::steady_clock::time_point since;
};

// Not thread-safe.
class DepartedSites {
  public:
    // `now` replaces `before`.
    void follow(const SiteDirectory& before, const SiteDirectory& now, SiteLedger& ledger,
                std::chrono::steady_clock::time_point time);
    void forget(const AccountReview& review);
    const std::vector<DepartedSite>& sites() const { return sites_; }

  private:
    std::vector<DepartedSite> sites_;
};

}  // namespace pangolin
