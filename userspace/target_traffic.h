// One interface's targets: their counters in the kernel, credited to resources.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "loader/route_table.h"
#include "loader/traffic_program.h"
#include "userspace/index_table.h"
#include "userspace/ledger.h"
#include "userspace/state/interface_state.h"
#include "userspace/target_index.h"

namespace pangolin {

// The site_id of targets of which no site is known is unassigned_site_id.
std::string_view site_id_of(const DialledTarget& target);

// A target's bytes belong to who owned it while they passed: call credit() before follow(). Not thread-safe.
class TargetTraffic {
  public:
    // `max_targets` beyond which targets are not counted.
    explicit TargetTraffic(std::uint32_t max_targets)
        : max_targets_(max_targets), targets_(TRAFFIC_FIRST_TARGET, max_targets) {}

    // Follows the directory. Returns true when the kernel has to look for other targets than before: then
    // publish compile() and call retire_gone().
    bool follow(const TargetIndex& index, const WireGuardKey& interface_key, Ledger& ledger);
    TargetTable compile(const TargetCapacity& minimum = {}) const;
    // What the kernel's maps must have room for, those targets included that are not retired yet.
    TargetCapacity capacity_needed(const TargetTable& compiled) const {
        return {.indexes = targets_.indexes_needed(), .entries = compiled.capacity().entries};
    }

    // Puts a target where it was in another process; all of them before the first follow().
    void restore(const TargetState& state, Ledger& ledger);
    std::vector<TargetState> states() const;

    void credit(const TrafficProgram& program);
    // Adds the UDP flows of the last minute to those of their resources, and tells the kernel the time: once
    // a poll, and before retire_gone().
    void count_flows(TrafficProgram& program, std::chrono::steady_clock::time_point now);
    // `old` counts no more, and `program`, which has its place, started at zero.
    void replace(const TrafficProgram& old, TrafficProgram& program);
    // The targets of compile() are in force in `program`: the counts of those that are gone are final, and
    // their places become free: clear_retired() comes before the next follow().
    void retire_gone(const TrafficProgram& program);
    bool has_retired() const { return !retired_.empty(); }
    void clear_retired(TrafficProgram& program);
    // Clears what no target has: after restore(), what another process left undone.
    void clear_unused(TrafficProgram& program) const;
    // Every target that some route leads to is counted from now on.
    void mark_counted(const RouteTable& routes);

    // At the last count_flows().
    std::size_t flows() const { return flows_; }
    std::uint32_t max_targets() const { return max_targets_; }
    std::size_t size() const { return targets_.size(); }
    // Targets that found no room, counted each time that one more did not.
    std::uint64_t refused() const { return targets_.refused(); }

  private:
    struct Account {
        // Part of the counts that is in the ledger already.
        target_counts credited{};
        // Of these two one is null.
        std::shared_ptr<SiteAccount> relayed_to;
        std::shared_ptr<ResourceAccount> resource;
        target_counts& total() const { return resource ? resource->traffic : relayed_to->relay; }
    };
    using Targets = IndexTable<DialledAddress, Account, DialledAddressHash>;

    static void credit(Targets::Element& target, const TrafficProgram& program);

    std::uint32_t max_targets_;
    Targets targets_;
    // Indexes whose counters are to be cleared.
    std::vector<std::uint32_t> retired_;
    // By index, of those whose flows are followed.
    std::unordered_map<std::uint32_t, std::shared_ptr<ResourceAccount>> with_flows_;
    std::size_t flows_ = 0;
    // Whether there were targets with flows at the last count_flows().
    bool had_flows_ = false;
};

}  // namespace pangolin
