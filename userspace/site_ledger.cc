#include "userspace/site_ledger.h"

namespace pangolin {

SiteAccount& SiteLedger::of(std::string_view site_id) {
    if (const auto found = by_id_.find(site_id); found != by_id_.end())
        return *found->second;
    SiteAccount& account = accounts_.emplace_back();
    by_id_.emplace(site_id, &account);
    return account;
}

void SiteLedger::keep_reading(const WireGuardKey& key, const TunnelReading& reading) {
    // Keys that never come back (newt makes a new one at each start) must not pile up for years.
    if (readings_.size() >= max_readings)
        readings_.clear();
    readings_[key] = reading;
}

std::optional<TunnelReading> SiteLedger::take_reading(const WireGuardKey& key) {
    const auto found = readings_.find(key);
    if (found == readings_.end())
        return {};
    const TunnelReading reading = found->second;
    readings_.erase(found);
    return reading;
}

void SiteLedger::begin_poll() {
    for (SiteAccount& account : accounts_)
        account.up = false;
}

void SiteLedger::end_poll(std::chrono::steady_clock::time_point now) {
    const double elapsed = last_poll_ ? std::chrono::duration<double>(now - *last_poll_).count() : 0.0;
    last_poll_ = now;
    for (SiteAccount& account : accounts_) {
        if (account.up && account.was_up_)
            account.uptime_seconds += elapsed;
        account.was_up_ = account.up;
    }
}

}  // namespace pangolin
