// Whose the counts of a kernel slot are.
#pragma once

#include <cstdint>
#include <functional>

#include "userspace/peer_table.h"
#include "userspace/site_ledger.h"

namespace pangolin {

// The account that a slot's counts go to; null: nobody's, or not known yet, so that they stay in the kernel.
using SlotAccounts = std::function<SiteAccount*(std::uint32_t slot)>;

// Of the peers that there are. What is credited is `last` when there is no later: a peer whose site is not
// known is then unassigned. `peers` and `ledger` must outlive the result.
SlotAccounts accounts_of(const PeerTable& peers, SiteLedger& ledger, bool last);

}  // namespace pangolin
