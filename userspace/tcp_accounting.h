// TCP statistics of slots, credited to the sites behind their peers.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "loader/tcp_program.h"
#include "userspace/slot_accounts.h"
#include "userspace/state/peer_statistics_state.h"

namespace pangolin {

// Not thread-safe.
class TcpAccounting {
  public:
    // Adds to each account what its slot's counts have grown by since the last time. A slot without one is
    // left for later.
    void credit(std::span<const SlotTcpCounts> counts, const SlotAccounts& accounts,
                std::chrono::steady_clock::time_point now);
    // The slot's counts begin anew at zero, or those of all slots do.
    void forget(std::uint32_t slot) { credited_.erase(slot); }
    void restart() { credited_.clear(); }

    // How much of the counts is in the ledger, from one process to the next.
    std::vector<TcpCredit> save() const;
    void restore(const std::vector<TcpCredit>& credited);

  private:
    std::unordered_map<std::uint32_t, tcp_counts> credited_;
};

}  // namespace pangolin
