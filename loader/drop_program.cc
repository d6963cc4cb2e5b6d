#include "loader/drop_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <set>
#include <sstream>
#include <utility>

#include "drops.skel.h"
#include "loader/bpf_error.h"
#include "loader/bpf_map.h"
#include "loader/kernel_btf.h"
#include "loader/pinned_maps.h"

namespace pangolin {
namespace {

// Reasons, directions and places that a peer has room for on average.
constexpr std::uint32_t counts_per_peer = 8;
constexpr std::uint32_t least_counts = 1024;

struct AddressRange {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
};

// Where the code of the WireGuard module is; empty when it is not loaded or not ours to know. The size in
// /proc/modules is that of code and data, which are apart since Linux 6.4: the next module's code ends it
// too.
AddressRange wireguard_code() {
    std::ifstream modules("/proc/modules");
    AddressRange range;
    std::vector<std::uint64_t> begins;
    for (std::string line; std::getline(modules, line);) {
        std::istringstream fields(line);
        std::string name, users, dependencies, state;
        std::uint64_t size = 0, begin = 0;
        if (!(fields >> name >> size >> users >> dependencies >> state >> std::hex >> begin) || begin == 0)
            continue;
        if (name == "wireguard")
            range = {.begin = begin, .end = begin + size};
        begins.push_back(begin);
    }
    for (const std::uint64_t other : begins) {
        if (other > range.begin)
            range.end = std::min(range.end, other);
    }
    return range;
}

void describe_kernel(drops_bpf& skeleton, const KernelBtf& kernel, const DropReasons& reasons) {
    // (skb, location), the reason since Linux 5.17, the receiving socket since 6.11.
    const std::size_t arguments = kernel.tracepoint_arguments("kfree_skb");
    skeleton.rodata->has_reason = arguments > 2;
    skeleton.rodata->has_receiver = arguments > 3;
    auto& benign = skeleton.rodata->benign_reasons;
    for (const std::uint32_t reason : reasons.benign_reasons()) {
        std::uint32_t& count = skeleton.rodata->benign_reason_count;
        if (count < std::size(benign))
            benign[count++] = reason;
    }
    skeleton.rodata->unspecified_reason = reasons.number("not_specified").value_or(0);
    // Of the same kernel version as the end of that habit.
    skeleton.rodata->icmpv6_ends_here = !reasons.number("ipv6_ndisc_frag");
    const AddressRange code = wireguard_code();
    skeleton.rodata->wireguard_begin = code.begin;
    skeleton.rodata->wireguard_end = code.end;
}

Result<void> set_maps(drops_bpf& skeleton, const PeerLookup& peers, std::uint32_t max_peers) {
    const std::uint64_t counts =
        std::max<std::uint64_t>(least_counts, (std::uint64_t{max_peers} + 1) * counts_per_peer);
    if (counts > UINT32_MAX ||
        bpf_map__set_max_entries(skeleton.maps.drop_counts, static_cast<std::uint32_t>(counts)) != 0)
        return failure("cannot size BPF map 'drop_counts'", "Lower metrics.limits.max_peers.");
    return peers.share(skeleton.maps.peer_addresses, skeleton.maps.peer_endpoints);
}

std::vector<DropCount> read_counts(int map) {
    std::vector<DropCount> result;
    for (const auto& [key, packets] : read_hash<drop_key, std::uint64_t>(map))
        result.push_back({key, packets});
    return result;
}

UniqueFd open_counts(const PinFolder& pins) {
    return open_pinned_map(pins, "drop_counts", sizeof(drop_key), sizeof(std::uint64_t));
}

void erase_slots(int map, const std::function<bool(std::uint32_t)>& is_over) {
    for (const DropCount& each : read_counts(map)) {
        if (is_over(each.key.slot))
            bpf_map_delete_elem(map, &each.key);
    }
}

}  // namespace

DropProgram::DropProgram(DropProgram&&) noexcept = default;
DropProgram& DropProgram::operator=(DropProgram&&) noexcept = default;
DropProgram::~DropProgram() = default;

Result<DropProgram> DropProgram::load(const WireGuardInterface& interface, const PeerLookup& peers,
                                      std::uint32_t max_peers, const std::optional<KeptPins>& pins) {
    collect_libbpf_messages();
    DropProgram program;
    program.skeleton_.reset(drops_bpf__open());
    if (!program.skeleton_)
        return bpf_failure(errno, "cannot open the drop BPF object");
    drops_bpf& skeleton = *program.skeleton_;
    {
        const auto kernel = KernelBtf::load();
        if (!kernel)
            return std::unexpected(kernel.error());
        program.reasons_ = DropReasons::of(*kernel);
        describe_kernel(skeleton, *kernel, program.reasons_);
    }
    skeleton.rodata->netns_inode = static_cast<std::uint32_t>(interface.netns.id.inode);
    skeleton.rodata->netns_cookie = interface.netns_cookie;
    skeleton.rodata->interface_index = interface.index;
    if (auto set = set_maps(skeleton, peers, max_peers); !set)
        return std::unexpected(set.error());
    auto takeover = load_taking_over(skeleton, pins, "the drop BPF program");
    if (!takeover)
        return std::unexpected(takeover.error());
    program.takeover_ = std::move(*takeover);
    return program;
}

Result<DropProgram> DropProgram::attach(const WireGuardInterface& interface, const PeerLookup& peers,
                                        std::uint32_t max_peers) {
    auto program = load(interface, peers, max_peers, std::nullopt);
    if (program)
        if (auto started = program->start(); !started)
            return std::unexpected(started.error());
    return program;
}

Result<void> DropProgram::start() {
    if (auto attached = takeover_.attach_tracing(); !attached)
        return attached;
    return takeover_.open();
}

bool DropProgram::knows_wireguard() const {
    return skeleton_->rodata->wireguard_end != 0;
}

void DropProgram::set_listen_port(std::uint16_t port) {
    __atomic_store_n(&skeleton_->bss->listen_port, port, __ATOMIC_RELAXED);
}

std::vector<DropCount> DropProgram::read() const {
    return read_counts(bpf_map__fd(skeleton_->maps.drop_counts));
}

void DropProgram::forget(const std::vector<std::uint32_t>& slots) {
    if (slots.empty())
        return;
    const std::set<std::uint32_t> forgotten(slots.begin(), slots.end());
    erase_slots(bpf_map__fd(skeleton_->maps.drop_counts),
                [&](std::uint32_t slot) { return forgotten.contains(slot); });
}

std::uint64_t DropProgram::lost() const {
    return read_per_cpu_sum(bpf_map__fd(skeleton_->maps.drop_losses), 0);
}

LastDropCounts read_last_drop_counts(const PinFolder& pins) {
    LastDropCounts last;
    if (const UniqueFd counts = open_counts(pins); counts)
        last.counts = read_counts(counts.get());
    if (const UniqueFd losses =
            open_pinned_map(pins, "drop_losses", sizeof(std::uint32_t), sizeof(std::uint64_t));
        losses)
        last.lost = read_per_cpu_sum(losses.get(), 0);
    return last;
}

void forget_drop_slots(const PinFolder& pins, const std::function<bool(std::uint32_t)>& known) {
    if (const UniqueFd counts = open_counts(pins); counts)
        erase_slots(counts.get(), [&](std::uint32_t slot) { return !known(slot); });
}

}  // namespace pangolin
