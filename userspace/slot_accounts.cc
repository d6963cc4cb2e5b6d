#include "userspace/slot_accounts.h"

namespace pangolin {

SlotAccounts accounts_of(const PeerTable& peers, SiteLedger& ledger, bool last) {
    return [&peers, &ledger, last](std::uint32_t slot) -> SiteAccount* {
        if (slot == TRAFFIC_SLOT_UNMATCHED)
            return ledger.of(unassigned_site_id).get();
        const TrackedPeer* const peer = peers.at_slot(slot);
        // What is nobody's was credited when its peer went.
        if (peer == nullptr)
            return nullptr;
        if (peer->account != nullptr)
            return peer->account.get();
        return last ? ledger.of(unassigned_site_id).get() : nullptr;
    };
}

}  // namespace pangolin
