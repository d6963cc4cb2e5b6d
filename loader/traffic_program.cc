#include "loader/traffic_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "loader/bpf_error.h"
#include "loader/bpf_map.h"
#include "loader/grace_period.h"
#include "loader/pin_root.h"
#include "loader/pinned_maps.h"
#include "traffic.skel.h"

namespace pangolin {
namespace {

unmatched_key key_of(const IpAddress& address) {
    return {.remote = {.high = address.high, .low = address.low}, .is_v6 = address.family == IpFamily::v6};
}

IpAddress address_of(const unmatched_key& key) {
    return {key.is_v6 != 0 ? IpFamily::v6 : IpFamily::v4, key.remote.high, key.remote.low};
}

// `part` is in the kernel's hands: programs may be writing it right now.
void add_live(traffic_count& sum, const traffic_count& part) {
    sum.packets += __atomic_load_n(&part.packets, __ATOMIC_RELAXED);
    sum.bytes += __atomic_load_n(&part.bytes, __ATOMIC_RELAXED);
}

Result<void> set_map_sizes(traffic_bpf& skeleton, const TrafficCapacity& capacity, std::uint32_t cpus) {
    const std::pair<bpf_map*, std::uint64_t> sizes[] = {
        {skeleton.maps.counters, std::uint64_t{capacity.slots} * cpus},
        {skeleton.maps.route_entries, std::uint64_t{ROUTE_SETS} * capacity.routes.entries},
        {skeleton.maps.route_pools, std::uint64_t{ROUTE_SETS} * capacity.routes.pool_blocks},
        {skeleton.maps.target_counters,
         std::max(std::uint64_t{1}, std::uint64_t{capacity.targets.indexes} * cpus)},
        {skeleton.maps.target_entries, std::uint64_t{ROUTE_SETS} * capacity.targets.entries},
    };
    for (const auto& [map, entries] : sizes) {
        if (entries > UINT32_MAX || bpf_map__set_max_entries(map, static_cast<std::uint32_t>(entries)) != 0)
            return failure("cannot size BPF map '" + std::string(bpf_map__name(map)) + "' for " +
                               std::to_string(entries) + " entries",
                           "Lower metrics.limits.max_peers or metrics.limits.max_targets.");
    }
    // The only other maps whose memory does not follow their use.
    if (capacity.targets.indexes <= TRAFFIC_FIRST_TARGET) {
        bpf_map__set_max_entries(skeleton.maps.first_fragments, 1);
        bpf_map__set_max_entries(skeleton.maps.udp_flows, 1);
    }
    return {};
}

// By slot, for the slots that lead to some target.
std::vector<bool> slots_with_targets(const RouteTable& routes, const TargetTable& targets) {
    std::vector<bool> result(std::size_t{routes.highest_slot()} + 1);
    for (const IpAddress& address : targets.addresses()) {
        if (const std::uint32_t slot = routes.find(address); slot != TRAFFIC_SLOT_UNMATCHED)
            result[slot] = true;
    }
    return result;
}

// Places are hashes modulo the table's size, a power of two: a smaller table is found in a larger one when it
// is repeated all over it.
template <class Entry>
void fill_with(std::span<Entry> room, std::span<const Entry> entries) {
    for (std::size_t at = 0; at < room.size(); at += entries.size())
        std::ranges::copy(entries, room.begin() + static_cast<std::ptrdiff_t>(at));
}

}  // namespace

TrafficLosses& TrafficLosses::operator+=(const TrafficLosses& other) {
    for (int direction = 0; direction < TRAFFIC_DIRECTIONS; ++direction) {
        for (int reason = 0; reason < TRAFFIC_UNDECODABLE_REASONS; ++reason)
            undecodable[direction][reason] += other.undecodable[direction][reason];
    }
    for (int reason = 0; reason < TRAFFIC_LOSS_REASONS; ++reason)
        loss[reason] += other.loss[reason];
    return *this;
}

TrafficProgram::TrafficProgram(TrafficProgram&&) noexcept = default;
TrafficProgram& TrafficProgram::operator=(TrafficProgram&&) noexcept = default;
TrafficProgram::~TrafficProgram() = default;

Result<TrafficProgram> TrafficProgram::open() {
    collect_libbpf_messages();
    const int cpus = libbpf_num_possible_cpus();
    if (cpus < 1)
        return system_failure(-cpus, "cannot read the number of possible CPUs");
    TrafficProgram program;
    program.cpus_ = static_cast<std::uint32_t>(cpus);
    program.skeleton_.reset(traffic_bpf__open());
    if (!program.skeleton_)
        return bpf_failure(errno, "cannot open the traffic BPF object");
    return program;
}

void TrafficProgram::set_options(std::uint32_t l2_length) {
    traffic_bpf& skeleton = *skeleton_;
    skeleton.rodata->l2_length = l2_length;
    skeleton.rodata->slot_capacity = capacity_.slots;
    skeleton.rodata->route_entry_mask = capacity_.routes.entries - 1;
    skeleton.rodata->pool_block_capacity = capacity_.routes.pool_blocks;
    skeleton.rodata->target_capacity = capacity_.targets.indexes;
    skeleton.rodata->target_entry_mask = capacity_.targets.entries - 1;
}

Result<TrafficProgram> TrafficProgram::load(const TrafficCapacity& capacity, std::uint32_t l2_length) {
    auto program = open();
    if (!program)
        return program;
    program->capacity_ = capacity;
    program->set_options(l2_length);
    if (auto sized = set_map_sizes(*program->skeleton_, capacity, program->cpus_); !sized)
        return std::unexpected(sized.error());
    if (auto loaded = program->load_programs(); !loaded)
        return std::unexpected(loaded.error());
    if (auto mapped = program->map_counters(); !mapped)
        return std::unexpected(mapped.error());
    return program;
}

Result<void> TrafficProgram::load_programs() {
    if (const int error = traffic_bpf__load(skeleton_.get()); error != 0)
        return bpf_failure(-error, "cannot load the traffic BPF programs");
    return map_memory();
}

namespace {

template <class T>
Result<void> map_array(MappedArray<T>& array, const bpf_map* source) {
    auto mapped = MappedArray<T>::map(bpf_map__fd(source), bpf_map__max_entries(source));
    if (!mapped)
        return std::unexpected(mapped.error());
    array = std::move(*mapped);
    return {};
}

}  // namespace

Result<void> TrafficProgram::map_memory() {
    if (auto result = map_array(route_entries_, skeleton_->maps.route_entries); !result)
        return result;
    if (auto result = map_array(route_pools_, skeleton_->maps.route_pools); !result)
        return result;
    return map_array(target_entries_, skeleton_->maps.target_entries);
}

Result<void> TrafficProgram::map_counters() {
    if (auto result = map_array(counters_, skeleton_->maps.counters); !result)
        return result;
    return map_array(target_counters_, skeleton_->maps.target_counters);
}

Result<TrafficProgram> TrafficProgram::open_pinned(const PinFolder& pins) {
    auto program = open();
    if (!program)
        return program;
    if (auto reused = program->reuse_pinned(pins); !reused)
        return std::unexpected(reused.error());
    if (auto mapped = program->map_counters(); !mapped)
        return std::unexpected(mapped.error());
    program->pins_ = pins;
    return program;
}

Result<void> TrafficProgram::reuse_pinned(const PinFolder& pins) {
    auto reused = reuse_pinned_maps(skeleton_->obj, pins);
    if (!reused)
        return std::unexpected(reused.error());
    const traffic_bpf& skeleton = *skeleton_;
    for (const bpf_map* const map :
         {skeleton.maps.counters, skeleton.maps.target_counters, skeleton.maps.unmatched}) {
        if (bpf_map__fd(map) < 0)
            return failure("the BPF map '" + std::string(bpf_map__name(map)) + "' pinned in " + pins.path() +
                           " is not what this version reads");
    }
    resumable_ = *reused && pins.path().find("/" + std::string(pin_layout) + "/") != std::string::npos;
    capacity_.slots = bpf_map__max_entries(skeleton.maps.counters) / cpus_;
    // A map without elements does not exist.
    const std::uint32_t targets = bpf_map__max_entries(skeleton.maps.target_counters);
    capacity_.targets.indexes = targets == 1 ? 0 : targets / cpus_;
    capacity_.routes = {.entries = bpf_map__max_entries(skeleton.maps.route_entries) / ROUTE_SETS,
                        .pool_blocks = bpf_map__max_entries(skeleton.maps.route_pools) / ROUTE_SETS};
    capacity_.targets.entries = bpf_map__max_entries(skeleton.maps.target_entries) / ROUTE_SETS;
    return {};
}

Result<void> TrafficProgram::pin(const PinFolder& pins) {
    if (auto created = pins.create(); !created)
        return created;
    if (auto pinned = pin_maps(skeleton_->obj, pins); !pinned)
        return pinned;
    pins_ = pins;
    return {};
}

// WireGuard's interfaces are the only ones that outlive a process: the IP header is at offset 0.
Result<void> TrafficProgram::load_for_pinned() {
    set_options(0);
    if (auto loaded = load_programs(); !loaded)
        return loaded;
    active_ = __atomic_load_n(&skeleton_->bss->active_set, __ATOMIC_ACQUIRE) & (ROUTE_SETS - 1U);
    return {};
}

Result<void> TrafficProgram::resume(const WireGuardInterface& interface) {
    if (auto loaded = load_for_pinned(); !loaded)
        return loaded;
    auto hook = NetworkHook::adopt(interface, *pins_, programs(), *pins_);
    if (!hook)
        return std::unexpected(hook.error());
    hook_ = std::move(*hook);
    wait_for_running_programs();
    return {};
}

void TrafficProgram::unpin() {
    hook_.unpin();
    hook_ = NetworkHook();
    if (pins_)
        pins_->remove();
    pins_.reset();
}

Result<void> TrafficProgram::attach(const WireGuardInterface& interface, HookMode mode) {
    // Before, and not after: both would be in the same place of a clsact.
    hook_ = NetworkHook();
    auto hook = NetworkHook::attach(interface, mode, programs(), pins_ ? &*pins_ : nullptr);
    if (!hook)
        return std::unexpected(hook.error());
    hook_ = std::move(*hook);
    return {};
}

ProgramPair TrafficProgram::programs() const {
    return {skeleton_->progs.traffic_ingress, skeleton_->progs.traffic_egress};
}

Result<void> TrafficProgram::take_over(TrafficProgram& old) {
    skeleton_->bss->flow_time = old.skeleton_->bss->flow_time;
    if (auto replaced = old.hook_.replace(programs(), pins_ ? &*pins_ : nullptr); !replaced) {
        // One direction may have been replaced already.
        if (auto restored = old.hook_.replace(old.programs()); !restored)
            spdlog::error("{}", restored.error().message());
        return replaced;
    }
    hook_ = std::move(old.hook_);
    wait_for_running_programs();
    return {};
}

Result<void> TrafficProgram::take_over_pinned(const WireGuardInterface& interface, TrafficProgram& old) {
    if (resumable_)
        if (auto loaded = load_for_pinned(); !loaded)
            return loaded;
    auto hook = NetworkHook::adopt(interface, *old.pins_, programs(), *pins_);
    if (!hook)
        return std::unexpected(hook.error());
    hook_ = std::move(*hook);
    wait_for_running_programs();
    return {};
}

Result<void> TrafficProgram::publish(const RouteTable& routes, const TargetTable& targets) {
    if (!capacity_.routes.holds(routes.capacity()) || routes.highest_slot() >= capacity_.slots)
        return failure("the routes do not fit the loaded traffic programs");
    if (!capacity_.targets.holds(targets.capacity()))
        return failure("the targets do not fit the loaded traffic programs");
    const std::uint32_t next = active_ ^ 1U;
    write_routes(next, routes, targets);
    write_targets(next, targets);
    __atomic_store_n(&skeleton_->bss->active_set, next, __ATOMIC_RELEASE);
    active_ = next;
    wait_for_running_programs();
    return {};
}

void TrafficProgram::write_routes(std::uint32_t set, const RouteTable& routes, const TargetTable& targets) {
    const auto room = route_entries_.elements().subspan(std::size_t{set} * capacity_.routes.entries,
                                                        capacity_.routes.entries);
    const auto blocks = route_pools_.elements().subspan(std::size_t{set} * capacity_.routes.pool_blocks,
                                                        routes.pool_blocks().size());
    fill_with(room, routes.entries());
    std::ranges::copy(routes.pool_blocks(), blocks.begin());
    if (targets.size() != 0) {
        const std::vector<bool> flagged = slots_with_targets(routes, targets);
        const auto flag = [&](std::uint32_t& slot) {
            if (flagged[slot])
                slot |= TRAFFIC_SLOT_HAS_TARGETS;
        };
        for (route_entry& entry : room)
            flag(entry.slot);
        for (route_pool_block& block : blocks)
            std::ranges::for_each(block.slot, flag);
    }
    skeleton_->bss->route_sets[set] = routes.set();
}

void TrafficProgram::write_targets(std::uint32_t set, const TargetTable& targets) {
    fill_with(target_entries_.elements().subspan(std::size_t{set} * capacity_.targets.entries,
                                                 capacity_.targets.entries),
              targets.entries());
    skeleton_->bss->target_hash_seeds[set] = targets.hash_seed();
}

traffic_counts TrafficProgram::read(std::uint32_t slot) const {
    traffic_counts sum{};
    for (std::size_t cpu = 0; cpu < cpus_; ++cpu) {
        const traffic_counts& part = counters_.elements()[cpu * capacity_.slots + slot];
        for (int direction = 0; direction < TRAFFIC_DIRECTIONS; ++direction) {
            for (int protocol = 0; protocol < TRAFFIC_PROTOCOLS; ++protocol)
                add_live(sum.count[direction][protocol], part.count[direction][protocol]);
        }
    }
    return sum;
}

target_counts TrafficProgram::read_target(std::uint32_t target) const {
    target_counts sum{};
    for (std::size_t cpu = 0; cpu < cpus_; ++cpu) {
        const target_counts& part = target_counters_.elements()[cpu * capacity_.targets.indexes + target];
        for (int direction = 0; direction < TRAFFIC_DIRECTIONS; ++direction)
            add_live(sum.count[direction], part.count[direction]);
    }
    return sum;
}

void TrafficProgram::clear_target(std::uint32_t target) {
    for (std::size_t cpu = 0; cpu < cpus_; ++cpu)
        target_counters_.elements()[cpu * capacity_.targets.indexes + target] = target_counts{};
}

void TrafficProgram::clear(std::uint32_t slot) {
    for (std::size_t cpu = 0; cpu < cpus_; ++cpu)
        counters_.elements()[cpu * capacity_.slots + slot] = traffic_counts{};
}

void TrafficProgram::set_flow_time(std::uint32_t time) {
    __atomic_store_n(&skeleton_->bss->flow_time, time, __ATOMIC_RELAXED);
}

std::vector<UdpFlow> TrafficProgram::read_flows() const {
    std::vector<UdpFlow> result;
    for (const auto& [key, last_seen] :
         read_hash<udp_flow_key, std::uint32_t>(bpf_map__fd(skeleton_->maps.udp_flows)))
        result.push_back({.key = key, .last_seen = last_seen});
    return result;
}

void TrafficProgram::forget_flow(const UdpFlow& flow) {
    bpf_map_delete_elem(bpf_map__fd(skeleton_->maps.udp_flows), &flow.key);
}

void TrafficProgram::adopt_flows(const TrafficProgram& old) {
    for (const UdpFlow& flow : old.read_flows())
        bpf_map_update_elem(bpf_map__fd(skeleton_->maps.udp_flows), &flow.key, &flow.last_seen, BPF_NOEXIST);
}

std::uint32_t TrafficProgram::flow_capacity() const {
    return bpf_map__max_entries(skeleton_->maps.udp_flows);
}

std::vector<UnmatchedTraffic> TrafficProgram::read_unmatched() const {
    std::vector<UnmatchedTraffic> result;
    for (const auto& [key, counts] :
         read_hash<unmatched_key, traffic_counts>(bpf_map__fd(skeleton_->maps.unmatched)))
        result.push_back({.remote = address_of(key), .counts = counts});
    return result;
}

void TrafficProgram::forget_unmatched(const IpAddress& remote) {
    const unmatched_key key = key_of(remote);
    bpf_map_delete_elem(bpf_map__fd(skeleton_->maps.unmatched), &key);
}

TrafficLosses TrafficProgram::read_losses() const {
    TrafficLosses losses;
    const int undecodable = bpf_map__fd(skeleton_->maps.undecodable);
    for (std::uint32_t direction = 0; direction < TRAFFIC_DIRECTIONS; ++direction) {
        for (std::uint32_t reason = 0; reason < TRAFFIC_UNDECODABLE_REASONS; ++reason)
            losses.undecodable[direction][reason] =
                read_per_cpu_sum(undecodable, direction * TRAFFIC_UNDECODABLE_REASONS + reason);
    }
    for (std::uint32_t reason = 0; reason < TRAFFIC_LOSS_REASONS; ++reason)
        losses.loss[reason] = read_per_cpu_sum(bpf_map__fd(skeleton_->maps.losses), reason);
    return losses;
}

std::uint32_t TrafficProgram::unmatched_capacity() const {
    return bpf_map__max_entries(skeleton_->maps.unmatched);
}

int TrafficProgram::program_fd(traffic_direction direction) const {
    return bpf_program__fd(direction == TRAFFIC_INGRESS ? skeleton_->progs.traffic_ingress
                                                        : skeleton_->progs.traffic_egress);
}

}  // namespace pangolin
