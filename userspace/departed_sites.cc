#include "userspace/departed_sites.h"

#include <set>
#include <string_view>

namespace pangolin {

void DepartedSites::follow(const SiteDirectory& before, const SiteDirectory& now, SiteLedger& ledger,
                           std::chrono::steady_clock::time_point time) {
    std::set<std::string_view> present;
    for (const Site& site : now.sites)
        present.insert(site.site_id);
    std::erase_if(sites_, [&](const DepartedSite& each) { return present.contains(each.site->site_id); });
    for (const Site& site : before.sites) {
        if (present.contains(site.site_id))
            continue;
        auto last = std::make_shared<Site>(site);
        last->online.reset();
        sites_.push_back({.site = std::move(last), .account = ledger.of(site.site_id), .since = time});
    }
}

void DepartedSites::forget(const AccountReview& review) {
    // The ledger's, and this one's: nobody else credits it.
    constexpr long idle = 2;
    std::erase_if(sites_, [&](const DepartedSite& each) {
        return review.is_over(each.since) && each.account.use_count() <= idle;
    });
}

}  // namespace pangolin
