#include "loader/module_probe.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "bpf/shared/wireguard_module.h"
#include "loader/bpf_error.h"
#include "loader/bpf_map.h"
#include "wireguard_module.skel.h"

namespace pangolin {
namespace {

constexpr const char* hint =
    "metrics.wireguard.handshakes: underlay works with every WireGuard; so does auto, which takes the module "
    "where it can.";

// A peer that loses no packets any more makes room after this.
constexpr std::chrono::minutes idle_time{10};

// Runs that were left out because one of the same program had been interrupted on the same CPU.
std::uint64_t missed_runs(const bpf_object& object) {
    std::uint64_t missed = 0;
    bpf_program* program = nullptr;
    while ((program = bpf_object__next_program(&object, program)) != nullptr) {
        bpf_prog_info info{};
        std::uint32_t length = sizeof info;
        if (bpf_prog_get_info_by_fd(bpf_program__fd(program), &info, &length) == 0)
            missed += info.recursion_misses;
    }
    return missed;
}

std::array<std::uint8_t, 32> key_of(const queue_drop_key& element) {
    std::array<std::uint8_t, 32> key{};
    std::ranges::copy(element.public_key, key.begin());
    return key;
}

}  // namespace

ModuleProbe::ModuleProbe(Skeleton skeleton, Takeover takeover)
    : skeleton_(std::move(skeleton)),
      takeover_(std::move(takeover)),
      maps_({.handshakes = bpf_map__fd(skeleton_->maps.handshakes),
             .ended = bpf_map__fd(skeleton_->maps.ended_handshakes),
             .counts = bpf_map__fd(skeleton_->maps.handshake_counts),
             .losses = bpf_map__fd(skeleton_->maps.handshake_losses),
             .open_handshakes = &skeleton_->bss->open_handshakes,
             .outlive_process = takeover_.pins().has_value()}) {}

ModuleProbe::~ModuleProbe() = default;

Result<std::unique_ptr<ModuleProbe>> ModuleProbe::load(const NetworkInterface& interface,
                                                       const std::optional<KeptPins>& pins) {
    collect_libbpf_messages();
    Skeleton skeleton(wireguard_module_bpf__open());
    if (!skeleton)
        return bpf_failure(errno, "cannot open the BPF object for the WireGuard module");
    auto takeover = Takeover::prepare(skeleton->obj, skeleton->maps.program_gate, pins);
    if (!takeover)
        return std::unexpected(takeover.error());
    skeleton->rodata->generation = takeover->generation();
    skeleton->rodata->netns_inode = static_cast<std::uint32_t>(interface.netns.id.inode);
    skeleton->rodata->netns_cookie = interface.netns_cookie;
    skeleton->rodata->interface_index = interface.index;
    const int error = wireguard_module_bpf__load(skeleton.get());
    // From libbpf, which looks for the functions in the BTF of the kernel and of all modules.
    if (error == -ESRCH)
        return failure("the kernel has no WireGuard module, or none with BTF (/sys/kernel/btf/wireguard)",
                       hint, ESRCH);
    if (error != 0)
        return system_failure(-error, "cannot load the BPF programs for the WireGuard module", hint);
    if (auto pinned = takeover->pin_maps(); !pinned)
        return std::unexpected(pinned.error());
    return std::unique_ptr<ModuleProbe>(new ModuleProbe(std::move(skeleton), std::move(*takeover)));
}

Result<void> ModuleProbe::supported() {
    if (const auto probe = load(NetworkInterface{}, std::nullopt); !probe)
        return std::unexpected(probe.error());
    return {};
}

Result<void> ModuleProbe::supported(const WireGuardInterface& interface) {
    if (interface.implementation != WireGuardImplementation::kernel)
        return failure(interface.name + " is not an interface of the kernel's WireGuard module", hint);
    return supported();
}

Result<std::unique_ptr<ModuleProbe>> ModuleProbe::open(const WireGuardInterface& interface) {
    if (auto possible = supported(interface); !possible)
        return std::unexpected(possible.error());
    auto probe = load(interface, std::nullopt);
    if (probe)
        if (auto started = (*probe)->start(); !started)
            return std::unexpected(started.error());
    return probe;
}

Result<void> ModuleProbe::start() {
    const queue_drop_key nobody{};
    const std::uint64_t zero = 0;
    if (bpf_map_update_elem(bpf_map__fd(skeleton_->maps.queue_drops), &nobody, &zero, BPF_NOEXIST) != 0 &&
        errno != EEXIST)
        return bpf_failure(errno, "cannot write a BPF map for the WireGuard module");
    if (auto attached = takeover_.attach_tracing(); !attached)
        return attached;
    return takeover_.open();
}

void ModuleProbe::restore(const HandshakeReadings& readings) {
    const auto now = std::chrono::steady_clock::now();
    maps_.restore(readings);
    for (const auto& [key, packets] : readings.queue_drops)
        queue_drops_taken_[key] = {.packets = packets, .last_change = now};
}

HandshakeReadings ModuleProbe::readings() const {
    HandshakeReadings readings;
    maps_.add_to(readings);
    for (const auto& [key, taken] : queue_drops_taken_)
        readings.queue_drops.emplace_back(key, taken.packets);
    return readings;
}

std::size_t ModuleProbe::attachments() const {
    return takeover_.attachments();
}

std::vector<QueueDrops> ModuleProbe::take_queue_drops() {
    const int map = bpf_map__fd(skeleton_->maps.queue_drops);
    const auto now = std::chrono::steady_clock::now();
    std::vector<QueueDrops> taken;
    for (const auto& [element, packets] : read_hash<queue_drop_key, std::uint64_t>(map)) {
        const PublicKey key = key_of(element);
        Taken& before =
            queue_drops_taken_.try_emplace(key, Taken{.packets = 0, .last_change = now}).first->second;
        std::uint64_t after = packets;
        const bool idle = packets == before.packets && now - before.last_change > idle_time;
        // The element of nobody has to stay.
        const bool forget = idle && key != PublicKey{};
        if (forget)
            after = take_element<std::uint64_t>(map, element).value_or(packets);
        // Less: the element was forgotten, and came back.
        if (after != before.packets)
            taken.push_back(
                {.public_key = key, .packets = after > before.packets ? after - before.packets : after});
        if (forget)
            queue_drops_taken_.erase(key);
        else if (after != before.packets)
            before = {after, now};
    }
    return taken;
}

HandshakeLosses ModuleProbe::losses() const {
    HandshakeLosses losses = maps_.losses();
    losses[HANDSHAKE_LOSS_HANDSHAKES] += missed_runs(*skeleton_->obj);
    return losses;
}

}  // namespace pangolin
