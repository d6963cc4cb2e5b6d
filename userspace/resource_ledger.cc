#include "userspace/resource_ledger.h"

#include <utility>

namespace pangolin {
namespace {

// What connections showed counts as the state of a backend for so long.
constexpr std::chrono::seconds observation_lifetime{60};

template <std::size_t label_count, class Account>
std::vector<Account> copied(const AccountTable<label_count, Account>& accounts) {
    std::vector<Account> result;
    result.reserve(accounts.size());
    accounts.for_each([&](const Account& account) { result.push_back(account); });
    return result;
}

// `Labels` are those of the account.
template <class Account, class Labels>
std::shared_ptr<Account> made(Labels labels) {
    auto account = std::make_shared<Account>();
    account->labels = std::make_shared<const Labels>(std::move(labels));
    return account;
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

std::shared_ptr<ResourceAccount> ResourceLedger::of(std::string_view site_id, std::string_view resource_id) {
    return resources_.of({site_id, resource_id}, [&] {
        return made<ResourceAccount>(
            ResourceLabels{.site_id = std::string(site_id), .resource_id = std::string(resource_id)});
    });
}

std::shared_ptr<TargetAccount> ResourceLedger::target(std::string_view site_id, std::string_view resource_id,
                                                      std::string_view backend) {
    return targets_.of({site_id, resource_id, backend}, [&] {
        return made<TargetAccount>(TargetLabels{.site_id = std::string(site_id),
                                                .resource_id = std::string(resource_id),
                                                .backend = std::string(backend)});
    });
}

std::shared_ptr<BackendAccount> ResourceLedger::backend(std::string_view site_id, std::string_view backend) {
    return backends_.of({site_id, backend}, [&] {
        return made<BackendAccount>(
            BackendLabels{.site_id = std::string(site_id), .backend = std::string(backend)});
    });
}

void ResourceLedger::begin_poll() {
    resources_.for_each([](ResourceAccount& account) {
        account.udp_flows.reset();
        account.tcp_connections.reset();
        account.http_requests.reset();
        account.websockets.reset();
    });
    backends_.for_each([](BackendAccount& account) {
        account.checked_.reset();
        account.live_ = 0;
    });
}

void ResourceLedger::end_poll(std::chrono::steady_clock::time_point now) {
    backends_.for_each([&](BackendAccount& account) { account.settle(now); });
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
