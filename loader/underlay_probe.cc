#include "loader/underlay_probe.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <string>

#include "bpf/shared/blake2s.h"
#include "loader/bpf_error.h"
#include "underlay.skel.h"

namespace pangolin {
namespace {

// How long WireGuard may take to reply to an initiation before it counts as never answered.
constexpr std::chrono::seconds reply_time{1};

using Block = std::array<std::uint32_t, BLAKE2S_BLOCK_WORDS>;

Block block_of(const std::array<std::uint8_t, BLAKE2S_BLOCK>& bytes) {
    Block words{};
    for (std::size_t i = 0; i < bytes.size(); ++i)
        words[i / 4] |= std::uint32_t{bytes[i]} << 8 * (i % 4);
    return words;
}

// Each CPU keeps up to 128 elements of an LRU map at hand (LOCAL_FREE_TARGET in kernel/bpf/bpf_lru_list.c):
// a map of few elements for many CPUs would forget too early.
Result<void> set_lru_sizes(underlay_bpf& skeleton) {
    const int cpus = libbpf_num_possible_cpus();
    if (cpus < 1)
        return system_failure(-cpus, "cannot read the number of possible CPUs");
    for (bpf_map* const map : {skeleton.maps.pending_initiations, skeleton.maps.accepted_initiations}) {
        const std::uint32_t entries =
            std::max(bpf_map__max_entries(map), 256 * static_cast<std::uint32_t>(cpus));
        if (const int error = bpf_map__set_max_entries(map, entries); error != 0)
            return bpf_failure(-error, "cannot size a BPF map of the underlay programs");
    }
    return {};
}

}  // namespace

std::array<std::uint32_t, 8> mac1_state(const std::array<std::uint8_t, 32>& public_key) {
    constexpr std::string_view label = "mac1----";
    constexpr std::uint32_t key_length = 32;
    constexpr std::uint32_t mac_length = 16;

    std::array<std::uint8_t, BLAKE2S_BLOCK> bytes{};
    std::ranges::copy(label, bytes.begin());
    std::ranges::copy(public_key, bytes.begin() + label.size());
    std::array<std::uint32_t, BLAKE2S_STATE_WORDS> key{};
    blake2s_begin(key.data(), key_length, 0);
    blake2s_compress(key.data(), block_of(bytes).data(), label.size() + public_key.size(),
                     BLAKE2S_LAST_BLOCK);

    // The digest's words are the state's words, and so are the block's: no bytes in between.
    Block key_block{};
    std::ranges::copy(key, key_block.begin());
    std::array<std::uint32_t, BLAKE2S_STATE_WORDS> state{};
    blake2s_begin(state.data(), mac_length, key_length);
    blake2s_compress(state.data(), key_block.data(), BLAKE2S_BLOCK, 0);
    return state;
}

void UnderlayProbe::SkeletonDeleter::operator()(underlay_bpf* skeleton) const {
    underlay_bpf__destroy(skeleton);
}

UnderlayProbe::~UnderlayProbe() = default;

Result<std::unique_ptr<UnderlayProbe>> UnderlayProbe::open(const WireGuardInterface& interface,
                                                           const WireGuardListener& listener,
                                                           HookMode hooks) {
    std::unique_ptr<UnderlayProbe> probe(new UnderlayProbe(interface, hooks));
    if (auto loaded = probe->load(); !loaded)
        return std::unexpected(loaded.error());
    if (const auto followed = probe->follow(listener); !followed) {
        if (probe->attached_.empty())
            return std::unexpected(followed.error());
        spdlog::warn("handshakes of {} are seen on some devices only: {}", interface.name,
                     followed.error().message());
    }
    return probe;
}

Result<void> UnderlayProbe::load() {
    collect_libbpf_messages();
    skeleton_.reset(underlay_bpf__open());
    if (!skeleton_)
        return bpf_failure(errno, "cannot open the underlay BPF object");
    if (auto sized = set_lru_sizes(*skeleton_); !sized)
        return sized;
    if (const int error = underlay_bpf__load(skeleton_.get()); error != 0)
        return bpf_failure(-error, "cannot load the underlay BPF programs");
    const auto& maps = skeleton_->maps;
    maps_ = HandshakeMaps(bpf_map__fd(maps.handshakes), bpf_map__fd(maps.ended_handshakes),
                          bpf_map__fd(maps.handshake_counts), bpf_map__fd(maps.handshake_losses),
                          &skeleton_->bss->open_handshakes);
    return {};
}

void UnderlayProbe::set_listener(const WireGuardListener& listener) {
    if (listener_ == listener)
        return;
    auto& shared = *skeleton_->bss;
    if (!listener_ || listener_->public_key != listener.public_key) {
        const std::uint32_t next = shared.active_mac1_state ^ 1U;
        std::ranges::copy(mac1_state(listener.public_key), shared.mac1_states[next]);
        __atomic_store_n(&shared.active_mac1_state, next, __ATOMIC_RELEASE);
    }
    __atomic_store_n(&shared.listen_port, std::uint32_t{listener.port}, __ATOMIC_RELEASE);
    listener_ = listener;
}

Result<void> UnderlayProbe::follow(const WireGuardListener& listener) {
    set_listener(listener);
    const auto devices = list_underlay_devices(interface_);
    if (!devices)
        return std::unexpected(devices.error());
    std::erase_if(attached_, [&](const auto& element) {
        const AttachedDevice& attached = element.second;
        const auto listed = std::ranges::find(*devices, attached.device.index, &NetworkDevice::index);
        return listed == devices->end() || listed->link_layer != attached.device.link_layer ||
               listed->netns_cookie != attached.device.netns_cookie || !attached.hook.attached();
    });
    Result<void> result;
    for (const NetworkDevice& device : *devices) {
        if (attached_.contains(device.index))
            continue;
        if (auto attached = attach(device); !attached && result)
            result = std::move(attached);
    }
    return result;
}

Result<void> UnderlayProbe::attach(const NetworkDevice& device) {
    const auto& programs = skeleton_->progs;
    const ProgramPair pair = device.link_layer == LinkLayer::ethernet
                                 ? ProgramPair{programs.underlay_ingress, programs.underlay_egress}
                                 : ProgramPair{programs.underlay_ingress_l3, programs.underlay_egress_l3};
    auto hook = NetworkHook::attach(device, hooks_, pair);
    if (!hook) {
        // It went between the list and here.
        if (hook.error().code == ENODEV)
            return {};
        return std::unexpected(hook.error());
    }
    attached_.emplace(device.index, AttachedDevice{device, std::move(*hook)});
    return {};
}

void UnderlayProbe::set_namespace(const NetworkNamespace& netns) {
    interface_.netns = netns;
    for (auto& [index, attached] : attached_)
        attached.hook.set_namespace(netns);
}

std::size_t UnderlayProbe::attachments() const {
    return 2 * attached_.size();
}

std::string_view UnderlayProbe::hook() const {
    return to_string(attached_.empty() ? HookKind::none : attached_.begin()->second.hook.kind());
}

std::vector<std::string> UnderlayProbe::devices() const {
    std::vector<std::string> names;
    for (const auto& [index, attached] : attached_)
        names.push_back(attached.device.name);
    return names;
}

int UnderlayProbe::program_fd(traffic_direction direction) const {
    return bpf_program__fd(direction == TRAFFIC_INGRESS ? skeleton_->progs.underlay_ingress
                                                        : skeleton_->progs.underlay_egress);
}

std::vector<HandshakeCount> UnderlayProbe::take_counts() {
    std::vector<HandshakeCount> counts = maps_.take_counts();
    if (const std::uint64_t unanswered = newly_unanswered(); unanswered > 0)
        counts.push_back({.result = HANDSHAKE_UNKNOWN_PEER, .count = unanswered});
    return counts;
}

// Those that came before the last call, provided that it is long enough ago for WireGuard to have replied,
// less all replies until now.
std::uint64_t UnderlayProbe::newly_unanswered() {
    const auto now = std::chrono::steady_clock::now();
    if (valid_ && now - valid_->at < reply_time)
        return 0;
    const std::uint64_t answered = __atomic_load_n(&skeleton_->bss->answered_initiations, __ATOMIC_RELAXED);
    const std::uint64_t before = valid_ ? valid_->count : 0;
    const std::uint64_t unanswered = std::max(unanswered_, before > answered ? before - answered : 0);
    valid_ = {now, __atomic_load_n(&skeleton_->bss->valid_initiations, __ATOMIC_RELAXED)};
    return unanswered - std::exchange(unanswered_, unanswered);
}

}  // namespace pangolin
