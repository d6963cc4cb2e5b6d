#include "userspace/site_ledger.h"

namespace pangolin {

void SiteAccount::saw_up(const WireGuardKey& key) {
    up = true;
    if (!key_ || *key_ == key)
        same_key_ = true;
    else
        other_key_ = key;
    if (!key_)
        key_ = key;
}

void SiteAccount::count_reconnect(ReconnectReason reason) {
    ++health().reconnects[static_cast<std::size_t>(reason)];
}

SiteHealth& SiteAccount::health() {
    if (!health_)
        health_ = std::make_shared<SiteHealth>();
    else if (health_is_shared_)
        health_ = std::make_shared<SiteHealth>(*health_);
    health_is_shared_ = false;
    return *health_;
}

std::shared_ptr<const SiteHealth> SiteAccount::share_health() {
    health_is_shared_ = true;
    return health_;
}

void SiteAccount::settle(double elapsed_seconds) {
    if (up && was_up_)
        uptime_seconds += elapsed_seconds;
    if (!up && unknown)
        return;
    if (!up && was_up_)
        ++health().connection_drops;
    if (up && !same_key_) {
        key_ = other_key_;
        count_reconnect(ReconnectReason::key_change);
    } else if (up && !was_up_ && settled_up_) {
        count_reconnect(ReconnectReason::timeout);
    }
    was_up_ = up;
    settled_up_ |= up;
}

std::shared_ptr<SiteAccount> SiteLedger::of(std::string_view site_id) {
    return accounts_.of({site_id}, [&] {
        auto account = std::make_shared<SiteAccount>();
        account->site_id = site_id;
        return account;
    });
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
    for_each([](SiteAccount& account) {
        account.up = account.unknown = false;
        account.same_key_ = false;
    });
}

void SiteLedger::end_poll(std::chrono::steady_clock::time_point now) {
    const double elapsed = last_poll_ ? std::chrono::duration<double>(now - *last_poll_).count() : 0.0;
    last_poll_ = now;
    for_each([&](SiteAccount& account) { account.settle(elapsed); });
}

}  // namespace pangolin
