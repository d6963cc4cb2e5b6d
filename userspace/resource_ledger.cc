#include "userspace/resource_ledger.h"

namespace pangolin {
namespace {

// What connections showed counts as the state of a backend for so long.
constexpr std::chrono::seconds observation_lifetime{60};

template <class Accounts>
auto copied(const Accounts& accounts) {
    std::vector<typename Accounts::mapped_type> result;
    result.reserve(accounts.size());
    for (const auto& [labels, account] : accounts)
        result.push_back(account);
    return result;
}

}  // namespace

void BackendAccount::observe(std::uint64_t good, std::uint64_t bad, std::uint64_t live,
                             std::chrono::steady_clock::time_point now) {
    live_ += live;
    if (good == 0 && bad == 0)
        return;
    observed_ = now;
    observed_healthy_ = good > bad;
}

void BackendAccount::settle(std::chrono::steady_clock::time_point now) {
    healthy.reset();
    if (checked_)
        healthy = checked_;
    else if (observed_ && now - *observed_ < observation_lifetime)
        healthy = observed_healthy_;
    else if (live_ > 0)
        healthy = true;
}

ResourceAccount& ResourceLedger::of(std::string_view site_id, std::string_view resource_id) {
    if (const auto found = resources_.find({site_id, resource_id}); found != resources_.end())
        return found->second;
    auto labels = std::make_shared<const ResourceLabels>(
        ResourceLabels{.site_id = std::string(site_id), .resource_id = std::string(resource_id)});
    ResourceAccount& account = resources_[{labels->site_id, labels->resource_id}];
    account.labels = std::move(labels);
    return account;
}

TargetAccount& ResourceLedger::target(std::string_view site_id, std::string_view resource_id,
                                      std::string_view backend) {
    if (const auto found = targets_.find({site_id, resource_id, backend}); found != targets_.end())
        return found->second;
    auto labels = std::make_shared<const TargetLabels>(TargetLabels{.site_id = std::string(site_id),
                                                                    .resource_id = std::string(resource_id),
                                                                    .backend = std::string(backend)});
    TargetAccount& account = targets_[{labels->site_id, labels->resource_id, labels->backend}];
    account.labels = std::move(labels);
    return account;
}

BackendAccount& ResourceLedger::backend(std::string_view site_id, std::string_view backend) {
    if (const auto found = backends_.find({site_id, backend}); found != backends_.end())
        return found->second;
    auto labels = std::make_shared<const BackendLabels>(
        BackendLabels{.site_id = std::string(site_id), .backend = std::string(backend)});
    BackendAccount& account = backends_[{labels->site_id, labels->backend}];
    account.labels = std::move(labels);
    return account;
}

void ResourceLedger::begin_poll() {
    for (auto& [labels, account] : resources_) {
        account.udp_flows.reset();
        account.tcp_connections.reset();
        account.http_requests.reset();
        account.websockets.reset();
    }
    for (auto& [labels, account] : backends_) {
        account.checked_.reset();
        account.live_ = 0;
    }
}

void ResourceLedger::end_poll(std::chrono::steady_clock::time_point now) {
    for (auto& [labels, account] : backends_)
        account.settle(now);
}

std::vector<ResourceAccount> ResourceLedger::resources() const {
    return copied(resources_);
}

std::vector<TargetAccount> ResourceLedger::targets() const {
    return copied(targets_);
}

std::vector<BackendAccount> ResourceLedger::backends() const {
    return copied(backends_);
}

}  // namespace pangolin
