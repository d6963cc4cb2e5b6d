#include "userspace/backend_checks.h"

namespace pangolin {

void BackendChecks::follow(const SiteDirectory& directory, Ledger& ledger) {
    checks_.clear();
    for (const Target& target : directory.targets) {
        const bool used = target.enabled && directory.resources[target.resource].enabled;
        if (!used || !target.dialled || !target.site || !target.health_checked ||
            target.health == TargetHealth::unknown)
            continue;
        const Site& site = directory.sites[*target.site];
        checks_.push_back({.backend = ledger.resources.backend(site.site_id, target.dialled->to_string()),
                           .tunnel = site.type == SiteType::local ? nullptr : ledger.sites.of(site.site_id),
                           .healthy = target.health == TargetHealth::healthy});
    }
}

void BackendChecks::apply() const {
    for (const Check& check : checks_)
        if (check.tunnel == nullptr || check.tunnel->up)
            check.backend->check(check.healthy);
}

}  // namespace pangolin
