// Packet drops of slots, credited to the sites behind their peers under names for people.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <unordered_map>
#include <vector>

#include "loader/drop_program.h"
#include "loader/drop_reasons.h"
#include "userspace/slot_accounts.h"

namespace pangolin {

// Not thread-safe.
class DropAccounting {
  public:
    // As TcpAccounting::credit(). `reasons` are those of the kernel that counted.
    void credit(std::span<const DropCount> counts, const DropReasons& reasons, const SlotAccounts& accounts);
    // Counts of such slots begin anew at zero, or all counts do.
    void forget(const std::function<bool(std::uint32_t slot)>& is_gone);
    void restart() { credited_.clear(); }

    // Drops by the kernel's WireGuard are not told from others without a reason.
    void set_wireguard_unknown(bool unknown) { wireguard_unknown_ = unknown; }
    bool wireguard_unknown() const { return wireguard_unknown_; }

    // How much of the counts is in the ledger, from one process to the next.
    std::vector<DropCount> save() const;
    void restore(const std::vector<DropCount>& credited);

  private:
    struct KeyHash {
        std::size_t operator()(const drop_key& key) const;
    };
    struct KeyEqual {
        bool operator()(const drop_key& a, const drop_key& b) const;
    };

    bool is_lost(const drop_key& key, const DropReasons& reasons) const;

    std::unordered_map<drop_key, std::uint64_t, KeyHash, KeyEqual> credited_;
    bool wireguard_unknown_ = false;
};

}  // namespace pangolin
