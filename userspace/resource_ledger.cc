#include "userspace/resource_ledger.h"

namespace pangolin {

ResourceAccount& ResourceLedger::of(std::string_view site_id, std::string_view resource_id) {
    if (const auto found = resources_.find({site_id, resource_id}); found != resources_.end())
        return found->second;
    auto labels = std::make_shared<const ResourceLabels>(
        ResourceLabels{.site_id = std::string(site_id), .resource_id = std::string(resource_id)});
    ResourceAccount& account = resources_[{labels->site_id, labels->resource_id}];
    account.labels = std::move(labels);
    return account;
}

void ResourceLedger::begin_poll() {
    for (auto& [labels, account] : resources_)
        account.udp_flows.reset();
}

std::vector<ResourceAccount> ResourceLedger::resources() const {
    std::vector<ResourceAccount> result;
    result.reserve(resources_.size());
    for (const auto& [labels, account] : resources_)
        result.push_back(account);
    return result;
}

}  // namespace pangolin
