#include "userspace/site_ledger.h"

namespace pangolin {

SiteAccount& SiteLedger::of(std::string_view site_id) {
    if (const auto found = accounts_.find(site_id); found != accounts_.end())
        return found->second;
    return accounts_.emplace(site_id, SiteAccount{}).first->second;
}

const SiteAccount* SiteLedger::find(std::string_view site_id) const {
    const auto found = accounts_.find(site_id);
    return found == accounts_.end() ? nullptr : &found->second;
}

void SiteLedger::begin_poll() {
    for (auto& [site_id, account] : accounts_)
        account.up = false;
}

void SiteLedger::end_poll(std::chrono::steady_clock::time_point now) {
    const double elapsed = last_poll_ ? std::chrono::duration<double>(now - *last_poll_).count() : 0.0;
    last_poll_ = now;
    for (auto& [site_id, account] : accounts_) {
        if (account.up && account.was_up_)
            account.uptime_seconds += elapsed;
        account.was_up_ = account.up;
    }
}

}  // namespace pangolin
