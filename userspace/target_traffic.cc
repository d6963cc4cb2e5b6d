#include "userspace/target_traffic.h"

#include <spdlog/spdlog.h>

#include <utility>
#include <vector>

#include "userspace/traffic_arithmetic.h"

namespace pangolin {
namespace {

// Flows count for so long after their last packet.
constexpr std::uint32_t flow_lifetime_seconds = 60;

bool has_flows(const DialledAddress& dialled, const std::shared_ptr<ResourceAccount>& resource) {
    return resource != nullptr && dialled.protocol == TargetProtocol::udp;
}

}  // namespace

std::string_view site_id_of(const DialledTarget& target) {
    return target.site != nullptr ? std::string_view(target.site->site_id) : unassigned_site_id;
}

bool TargetTraffic::follow(const TargetIndex& index, const WireGuardKey& interface_key, Ledger& ledger) {
    const std::size_t refused_before = targets_.refused_now();
    targets_.begin_listing();
    for (const DialledTarget& each : index.in_tunnels(interface_key)) {
        Targets::Element* const target = targets_.see(each.dialled);
        if (target == nullptr)
            continue;
        Account& account = target->entry;
        const bool relayed = each.target == nullptr;
        account.relayed_to = relayed ? ledger.sites.of(each.site->site_id) : nullptr;
        account.resource =
            relayed ? nullptr : ledger.resources.of(site_id_of(each), each.resource->resource_id);
    }
    bool changed = targets_.end_listing();
    // What was relayed traffic may be a resource's now, at the same port.
    const auto had_flows = std::exchange(with_flows_, {});
    targets_.for_each_listed([&](const DialledAddress& dialled, const Targets::Element& target) {
        if (!has_flows(dialled, target.entry.resource))
            return;
        with_flows_.emplace(target.index, target.entry.resource);
        changed |= !had_flows.contains(target.index);
    });
    changed |= had_flows.size() != with_flows_.size();
    if (targets_.refused_now() > refused_before)
        spdlog::warn("{} targets are not counted by resource (HINT: Raise metrics.limits.max_targets.)",
                     targets_.refused_now());
    return changed;
}

TargetTable TargetTraffic::compile(const TargetCapacity& minimum) const {
    std::vector<CountedTarget> counted;
    counted.reserve(targets_.size());
    targets_.for_each_listed([&](const DialledAddress& dialled, const Targets::Element& target) {
        counted.push_back({.address = dialled.address,
                           .port = dialled.port,
                           .protocol = dialled.protocol,
                           .index = target.index,
                           .has_flows = has_flows(dialled, target.entry.resource)});
    });
    return TargetTable::compile(counted, minimum);
}

void TargetTraffic::credit(Targets::Element& target, const TrafficProgram& program) {
    // A target that has not been published yet may lie beyond the program's room.
    if (target.index >= program.capacity().targets.indexes)
        return;
    Account& account = target.entry;
    const target_counts now = program.read_target(target.index);
    const target_counts grown = difference(now, account.credited);
    account.credited = now;
    add(account.total(), grown);
    if (account.resource != nullptr && packets(grown) > 0)
        account.resource->counted = true;
}

void TargetTraffic::credit(const TrafficProgram& program) {
    targets_.for_each([&](const DialledAddress&, Targets::Element& target) { credit(target, program); });
}

void TargetTraffic::count_flows(TrafficProgram& program, std::chrono::steady_clock::time_point now) {
    const auto seconds = static_cast<std::uint32_t>(
        std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count());
    program.set_flow_time(seconds);
    for (const auto& [index, resource] : with_flows_)
        resource->udp_flows = resource->udp_flows.value_or(0);
    // Once more after the last target with flows has gone: packets may have come since the last time.
    const bool had_flows = std::exchange(had_flows_, !with_flows_.empty());
    if (with_flows_.empty() && !had_flows)
        return;
    flows_ = 0;
    for (const UdpFlow& flow : program.read_flows()) {
        const auto target = with_flows_.find(flow.key.target);
        // A gone target's index may become another one's.
        if (target == with_flows_.end() || seconds - flow.last_seen > flow_lifetime_seconds) {
            program.forget_flow(flow);
            continue;
        }
        ++*target->second->udp_flows;
        ++flows_;
    }
}

void TargetTraffic::replace(const TrafficProgram& old, TrafficProgram& program) {
    targets_.for_each([&](const DialledAddress&, Targets::Element& target) {
        credit(target, old);
        target.entry.credited = {};
    });
    program.adopt_flows(old);
}

void TargetTraffic::retire_gone(const TrafficProgram& program) {
    targets_.retire_unlisted([&](const DialledAddress&, Targets::Element& gone) {
        credit(gone, program);
        retired_.push_back(gone.index);
    });
}

void TargetTraffic::clear_retired(TrafficProgram& program) {
    for (const std::uint32_t index : retired_) {
        if (index < program.capacity().targets.indexes)
            program.clear_target(index);
    }
    retired_.clear();
}

void TargetTraffic::clear_unused(TrafficProgram& program) const {
    std::vector<bool> used(program.capacity().targets.indexes);
    targets_.for_each([&](const DialledAddress&, const Targets::Element& target) {
        if (target.index < used.size())
            used[target.index] = true;
    });
    for (std::uint32_t index = TRAFFIC_FIRST_TARGET; index < used.size(); ++index) {
        if (!used[index])
            program.clear_target(index);
    }
}

void TargetTraffic::restore(const TargetState& state, Ledger& ledger) {
    Account& account = targets_.restore(state.dialled, state.index).entry;
    account.credited = state.credited;
    if (state.resource_id.empty()) {
        account.relayed_to = ledger.sites.of(state.site_id);
        return;
    }
    account.resource = ledger.resources.of(state.site_id, state.resource_id);
}

std::vector<TargetState> TargetTraffic::states() const {
    std::vector<TargetState> states;
    states.reserve(targets_.size());
    targets_.for_each([&](const DialledAddress& dialled, const Targets::Element& target) {
        TargetState& state = states.emplace_back();
        const Account& account = target.entry;
        state.index = target.index;
        state.dialled = dialled;
        state.credited = account.credited;
        if (account.resource != nullptr) {
            state.site_id = account.resource->labels->site_id;
            state.resource_id = account.resource->labels->resource_id;
        } else {
            state.site_id = account.relayed_to->site_id;
        }
    });
    return states;
}

void TargetTraffic::mark_counted(const RouteTable& routes) {
    targets_.for_each_listed([&](const DialledAddress& dialled, const Targets::Element& target) {
        if (target.entry.resource != nullptr && routes.find(dialled.address) != TRAFFIC_SLOT_UNMATCHED)
            target.entry.resource->counted = true;
    });
}

}  // namespace pangolin
