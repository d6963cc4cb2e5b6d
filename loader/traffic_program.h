// The traffic programs of one WireGuard interface: loaded, attached, fed with routes, read.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "bpf/shared/traffic.h"
#include "loader/base/error.h"
#include "loader/base/ip_prefix.h"
#include "loader/bpf_handles.h"
#include "loader/mapped_array.h"
#include "loader/network_hook.h"
#include "loader/pin_folder.h"
#include "loader/route_table.h"
#include "loader/target_table.h"
#include "loader/wireguard_interface.h"

struct traffic_bpf;

namespace pangolin {

// Fixed when the programs are loaded; more room means new programs (see TrafficProgram::take_over).
struct TrafficCapacity {
    // Slots of counters, TRAFFIC_SLOT_UNMATCHED included.
    std::uint32_t slots = 256;
    RouteCapacity routes;
    TargetCapacity targets = {};
};

// Counts of one address that matched no route when its packets came.
struct UnmatchedTraffic {
    IpAddress remote;
    traffic_counts counts{};
};

// A UDP flow of a target that has_flows.
struct UdpFlow {
    udp_flow_key key{};
    // The set_flow_time() that was in force at its last packet.
    std::uint32_t last_seen = 0;
};

// Packets by the reason for which they could not be attributed, or were counted inexactly.
struct TrafficLosses {
    std::uint64_t undecodable[TRAFFIC_DIRECTIONS][TRAFFIC_UNDECODABLE_REASONS] = {};
    std::uint64_t loss[TRAFFIC_LOSS_REASONS] = {};

    TrafficLosses& operator+=(const TrafficLosses& other);
};

// Owns programs, maps and attachment; all end with it, but what is pinned. Use from one thread at a time.
class TrafficProgram {
  public:
    // Loads the programs without routes and targets. `l2_length` is 0 for WireGuard and TUN, 14 for
    // BPF_PROG_RUN.
    static Result<TrafficProgram> load(const TrafficCapacity& capacity, std::uint32_t l2_length = 0);

    // The maps that another process has pinned in `pins`, to be read; clear() and clear_target() work, too.
    // For more it has to be resumed, which it can be when the maps are what these programs use. Otherwise
    // only counts of slots, targets and unmatched addresses are there; it fails when not even they can be
    // read.
    static Result<TrafficProgram> open_pinned(const PinFolder& pins);
    bool resumable() const { return resumable_; }

    TrafficProgram(TrafficProgram&&) noexcept;
    TrafficProgram& operator=(TrafficProgram&&) noexcept;
    ~TrafficProgram();

    // Keeps the maps beyond this process, and later the attachment. To be called before it.
    Result<void> pin(const PinFolder& pins);
    // Loads programs for the maps of open_pinned() and puts them in the place of those that are attached with
    // the same pins. The routes that were in force stay. ENOENT as the error's code: none is attached any
    // more.
    Result<void> resume(const WireGuardInterface& interface);
    // Detaches, and removes what is pinned.
    void unpin();
    const std::optional<PinFolder>& pins() const { return pins_; }

    // Attaches to both directions of `interface`, whose namespace is entered for it. Publish routes before.
    // What was attached is detached first.
    Result<void> attach(const WireGuardInterface& interface, HookMode mode);

    // Replaces the attached programs of `old` by these without a gap: every packet is counted by exactly one
    // of the two. Afterwards the counters of `old` are final and it holds no attachment any more.
    Result<void> take_over(TrafficProgram& old);
    // The same for programs of another process, of which `old` has the pinned maps. These may be of
    // open_pinned(), too: maps that the other process was changing to.
    Result<void> take_over_pinned(const WireGuardInterface& interface, TrafficProgram& old);

    // Puts `routes` and `targets` into force together, for all packets after the return: the old ones are not
    // in use any more, so that counters of slots that are in none of `routes` are final, and likewise those
    // of indexes that are in none of `targets`. Fails when they exceed capacity().
    Result<void> publish(const RouteTable& routes, const TargetTable& targets = {});

    // Sum over all CPUs since the last clear(). Concurrent packets may be in it or not.
    traffic_counts read(std::uint32_t slot) const;
    // Sets a slot to zero; for slots that no published route leads to.
    void clear(std::uint32_t slot);

    // The same for targets, whose packets are in their peer's slot (or unmatched) as well. `target` is an
    // index below capacity().targets.indexes.
    target_counts read_target(std::uint32_t target) const;
    void clear_target(std::uint32_t target);

    // The time, in any unit, that packets leave with their flows from now on.
    void set_flow_time(std::uint32_t time);
    std::vector<UdpFlow> read_flows() const;
    // Makes room for another one.
    void forget_flow(const UdpFlow& flow);
    // Of programs that were replaced by these; flows seen since then stay as they are.
    void adopt_flows(const TrafficProgram& old);
    std::uint32_t flow_capacity() const;

    std::vector<UnmatchedTraffic> read_unmatched() const;
    // Forgets an address; packets counted for it since the last read are lost unless a route covers it.
    void forget_unmatched(const IpAddress& remote);
    TrafficLosses read_losses() const;

    const TrafficCapacity& capacity() const { return capacity_; }
    std::uint32_t unmatched_capacity() const;
    // None while not attached.
    HookKind hook() const { return hook_.kind(); }
    // See NetworkHook::attached().
    bool attached() const { return hook_.attached(); }
    // See NetworkHook::set_namespace().
    void set_namespace(const NetworkNamespace& netns) { hook_.set_namespace(netns); }
    int program_fd(traffic_direction direction) const;

  private:
    TrafficProgram() = default;
    static Result<TrafficProgram> open();
    void set_options(std::uint32_t l2_length);
    Result<void> load_programs();
    Result<void> load_for_pinned();
    Result<void> map_memory();
    Result<void> map_counters();
    Result<void> reuse_pinned(const PinFolder& pins);
    void write_routes(std::uint32_t set, const RouteTable& routes, const TargetTable& targets);
    void write_targets(std::uint32_t set, const TargetTable& targets);
    ProgramPair programs() const;

    BpfSkeleton<traffic_bpf> skeleton_;
    TrafficCapacity capacity_;
    std::uint32_t cpus_ = 1;
    std::uint32_t active_ = 0;
    MappedArray<traffic_counts> counters_;
    MappedArray<route_entry> route_entries_;
    MappedArray<route_pool_block> route_pools_;
    MappedArray<target_counts> target_counters_;
    MappedArray<target_entry> target_entries_;
    NetworkHook hook_;
    std::optional<PinFolder> pins_;
    bool resumable_ = false;
};

}  // namespace pangolin
