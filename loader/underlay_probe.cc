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
#include "loader/base/number.h"
#include "loader/bpf_error.h"
#include "underlay.skel.h"

namespace pangolin {
namespace {

// How long WireGuard may take to reply to an initiation before it counts as never answered.
constexpr std::chrono::seconds reply_time{1};

// Of a device in the probe's pins.
constexpr std::string_view device_prefix = "device-";

std::string pins_of(const NetworkDevice& device) {
    return std::string(device_prefix) + std::to_string(device.index);
}

bool is_wanted(HookMode mode, HookKind kind) {
    return mode == HookMode::automatic || (mode == HookMode::tcx) == (kind == HookKind::tcx);
}

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

UnderlayProbe::UnderlayProbe(const NetworkInterface& interface, HookMode hooks)
    : interface_(interface), hooks_(hooks) {}

UnderlayProbe::~UnderlayProbe() = default;

Result<std::unique_ptr<UnderlayProbe>> UnderlayProbe::load(const WireGuardInterface& interface,
                                                           const WireGuardListener& listener, HookMode hooks,
                                                           const std::optional<KeptPins>& pins) {
    std::unique_ptr<UnderlayProbe> probe(new UnderlayProbe(interface, hooks));
    if (auto loaded = probe->load(pins); !loaded)
        return std::unexpected(loaded.error());
    probe->set_listener(listener);
    return probe;
}

Result<std::unique_ptr<UnderlayProbe>> UnderlayProbe::open(const WireGuardInterface& interface,
                                                           const WireGuardListener& listener,
                                                           HookMode hooks) {
    auto probe = load(interface, listener, hooks, std::nullopt);
    if (probe)
        if (auto started = (*probe)->start(); !started)
            return std::unexpected(started.error());
    return probe;
}

Result<void> UnderlayProbe::start() {
    if (const auto followed = follow(WireGuardListener(*listener_)); !followed) {
        if (attached_.empty())
            return std::unexpected(followed.error());
        spdlog::warn("handshakes of {} are seen on some devices only: {}", interface_.name,
                     followed.error().message());
    }
    forget_missing_devices();
    return {};
}

Result<void> UnderlayProbe::load(const std::optional<KeptPins>& pins) {
    collect_libbpf_messages();
    skeleton_.reset(underlay_bpf__open());
    if (!skeleton_)
        return bpf_failure(errno, "cannot open the underlay BPF object");
    if (auto sized = set_lru_sizes(*skeleton_); !sized)
        return sized;
    auto takeover = Takeover::prepare(skeleton_->obj, nullptr, pins);
    if (!takeover)
        return std::unexpected(takeover.error());
    takeover_ = std::move(*takeover);
    if (const int error = underlay_bpf__load(skeleton_.get()); error != 0)
        return bpf_failure(-error, "cannot load the underlay BPF programs");
    const auto& maps = skeleton_->maps;
    maps_ = HandshakeMaps({.handshakes = bpf_map__fd(maps.handshakes),
                           .ended = bpf_map__fd(maps.ended_handshakes),
                           .counts = bpf_map__fd(maps.handshake_counts),
                           .losses = bpf_map__fd(maps.handshake_losses),
                           .open_handshakes = &skeleton_->bss->open_handshakes,
                           .outlive_process = pins.has_value()});
    return takeover_.pin_maps();
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
    for (auto at = attached_.begin(); at != attached_.end();) {
        AttachedDevice& attached = at->second;
        const auto listed = std::ranges::find(*devices, attached.device.index, &NetworkDevice::index);
        if (listed != devices->end() && listed->link_layer == attached.device.link_layer &&
            listed->netns_cookie == attached.device.netns_cookie && attached.hook.attached()) {
            ++at;
            continue;
        }
        detach(attached);
        at = attached_.erase(at);
    }
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
    auto hook = hook_to(device, pair);
    if (!hook) {
        // It went between the list and here.
        if (hook.error().code == ENODEV)
            return {};
        return std::unexpected(hook.error());
    }
    attached_.emplace(device.index, AttachedDevice{device, std::move(*hook)});
    return {};
}

Result<NetworkHook> UnderlayProbe::hook_to(const NetworkDevice& device, ProgramPair programs) {
    const auto& pins = takeover_.pins();
    if (!pins)
        return NetworkHook::attach(device, hooks_, programs);
    const PinFolder folder = pins->folder.below(pins_of(device));
    if (auto created = folder.create(); !created)
        return std::unexpected(created.error());
    std::vector<PinFolder> places = pins->before;
    places.push_back(pins->folder);
    for (const PinFolder& place : places) {
        if (!place.below(pins_of(device)).exists())
            continue;
        auto hook = NetworkHook::adopt(device, place.below(pins_of(device)), programs, folder);
        if (hook && is_wanted(hooks_, hook->kind()))
            return hook;
        if (!hook && hook.error().code != ENOENT)
            return hook;
        if (hook) {
            hook->unpin();
            place.below(pins_of(device)).remove();
            folder.remove();
            if (auto created = folder.create(); !created)
                return std::unexpected(created.error());
        }
    }
    return NetworkHook::attach(device, hooks_, programs, &folder);
}

void UnderlayProbe::detach(AttachedDevice& attached) {
    if (const auto& pins = takeover_.pins()) {
        attached.hook.unpin();
        attached.hook = NetworkHook();
        pins->folder.below(pins_of(attached.device)).remove();
    }
}

std::optional<unsigned> UnderlayProbe::device_of(std::string_view name) {
    if (!name.starts_with(device_prefix))
        return {};
    return parse_number<unsigned>(name.substr(device_prefix.size()));
}

bool UnderlayProbe::is_attached(const PinFolder& pins) {
    return std::ranges::any_of(pins.entries(), [&](const std::string& name) {
        return device_of(name) && NetworkHook::is_attached(pins.below(name));
    });
}

// Those that are not there any more, or not under the tunnel, since another process attached to them.
void UnderlayProbe::forget_missing_devices() {
    const auto& pins = takeover_.pins();
    if (!pins)
        return;
    for (const std::string& name : pins->folder.entries()) {
        const auto index = device_of(name);
        if (!index || attached_.contains(*index))
            continue;
        NetworkInterface device = interface_;
        device.index = *index;
        NetworkHook::detach(device, pins->folder.below(name));
        pins->folder.remove(name);
    }
}

void UnderlayProbe::unpin() {
    for (auto& [index, attached] : attached_)
        detach(attached);
    attached_.clear();
}

void UnderlayProbe::restore(const HandshakeReadings& readings) {
    maps_.restore(readings);
    unanswered_ = readings.unanswered;
}

HandshakeReadings UnderlayProbe::readings() const {
    HandshakeReadings readings;
    readings.unanswered = unanswered_;
    maps_.add_to(readings);
    return readings;
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
