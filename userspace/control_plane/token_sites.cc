#include "userspace/control_plane/token_sites.h"

#include <utility>

namespace pangolin {

void TokenSites::issue(std::uint64_t token, std::string site_id, Time requested_at) {
    const auto [place, is_new] =
        issued_.insert_or_assign(token, Issued{std::move(site_id), requested_at, false});
    if (!is_new)
        return;
    order_.push_back(token);
    while (!order_.empty()) {
        const auto oldest = issued_.find(order_.front());
        const bool expired = requested_at - oldest->second.requested_at > lifetime;
        if (!expired && issued_.size() <= most_tokens)
            return;
        if (!expired)
            ++forgotten_;
        issued_.erase(oldest);
        order_.pop_front();
    }
}

TokenSites::Issued* TokenSites::find(std::uint64_t token, Time now) {
    const auto found = token == 0 ? issued_.end() : issued_.find(token);
    return found == issued_.end() || now - found->second.requested_at > lifetime ? nullptr : &found->second;
}

}  // namespace pangolin
