#include "loader/handshake_maps.h"

#include <bpf/bpf.h>

#include <array>
#include <bit>
#include <cstring>
#include <ctime>

#include "loader/bpf_map.h"

namespace pangolin {
namespace {

// An outcome that is seen no more makes room after this.
constexpr std::chrono::minutes idle_time{10};
// The clock of bpf_ktime_get_ns().
std::uint64_t monotonic_ns() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace

bool HandshakeMaps::CountKey::operator<(const CountKey& other) const {
    // It has no padding (bpf/shared/handshake.h).
    return std::memcmp(&key, &other.key, sizeof key) < 0;  // NOLINT(bugprone-suspicious-memory-comparison)
}

std::vector<handshake> HandshakeMaps::take_handshakes() {
    if (places_.handshakes >= 0)
        end_unfinished();
    std::vector<handshake> taken;
    for (const auto& [index, ended] : read_hash<std::uint32_t, handshake>(places_.ended)) {
        const auto before = taken_ended_.find(index);
        if (before != taken_ended_.end() && before->second == ended.begin_ns)
            continue;
        taken.push_back(ended);
        if (places_.outlive_process)
            taken_ended_[index] = ended.begin_ns;
        else
            bpf_map_delete_elem(places_.ended, &index);
    }
    return taken;
}

// Ends those that are too old, as the programs end others.
void HandshakeMaps::end_unfinished() {
    const std::uint64_t now = monotonic_ns();
    const std::uint64_t timeout = std::chrono::nanoseconds(handshake_timeout).count();
    for (const auto& [index, open] : read_hash<std::uint32_t, handshake>(places_.handshakes)) {
        if (now < open.begin_ns || now - open.begin_ns <= timeout)
            continue;
        // It may end at this very moment: whoever deletes the element decides.
        if (bpf_map_delete_elem(places_.handshakes, &index) != 0)
            continue;
        __atomic_fetch_sub(places_.open_handshakes, 1, __ATOMIC_RELAXED);
        handshake late = open;
        late.result = HANDSHAKE_TIMEOUT;
        late.end_ns = open.begin_ns + timeout;
        bpf_map_update_elem(places_.ended, &index, &late, BPF_ANY);
    }
}

void HandshakeMaps::restore(const HandshakeReadings& readings) {
    const auto now = std::chrono::steady_clock::now();
    for (const auto& [index, begin_ns] : readings.handshakes)
        taken_ended_[index] = begin_ns;
    for (const auto& [key, count] : readings.counts)
        taken_[{std::bit_cast<handshake_count_key>(key)}] = {.count = count, .last_change = now};
}

void HandshakeMaps::add_to(HandshakeReadings& readings) const {
    readings.handshakes.assign(taken_ended_.begin(), taken_ended_.end());
    for (const auto& [key, taken] : taken_)
        readings.counts.emplace_back(
            std::bit_cast<std::array<std::uint8_t, sizeof(handshake_count_key)>>(key.key), taken.count);
}

void HandshakeMaps::forget_written() {
    for (const auto& [index, begin_ns] : taken_ended_)
        bpf_map_delete_elem(places_.ended, &index);
    taken_ended_.clear();
}

std::vector<HandshakeCount> HandshakeMaps::take_counts() {
    const auto now = std::chrono::steady_clock::now();
    std::vector<HandshakeCount> taken;
    for (const auto& [key, count] : read_hash<handshake_count_key, std::uint64_t>(places_.counts)) {
        Taken& before = taken_.try_emplace({key}, Taken{.count = 0, .last_change = now}).first->second;
        if (count != before.count) {
            // Less: the element was forgotten, and came back.
            taken.push_back({.identity = key.identity,
                             .result = static_cast<handshake_result>(key.result),
                             .count = count > before.count ? count - before.count : count});
            before = {count, now};
        } else if (now - before.last_change > idle_time && key.identity.kind != HANDSHAKE_NOBODY) {
            bpf_map_delete_elem(places_.counts, &key);
            taken_.erase({key});
        }
    }
    return taken;
}

HandshakeLosses HandshakeMaps::losses() const {
    HandshakeLosses sums{};
    for (std::uint32_t reason = 0; reason < sums.size(); ++reason)
        sums[reason] = read_per_cpu_sum(places_.losses, reason);
    return sums;
}

}  // namespace pangolin
