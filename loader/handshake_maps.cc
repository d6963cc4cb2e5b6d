#include "loader/handshake_maps.h"

#include <bpf/bpf.h>

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
    return std::memcmp(&key, &other.key, sizeof key) < 0;
}

std::vector<handshake> HandshakeMaps::take_handshakes() {
    std::vector<handshake> taken;
    take_ended(taken);
    take_unfinished(taken);
    return taken;
}

void HandshakeMaps::take_ended(std::vector<handshake>& taken) {
    for (const auto& [index, ended] : read_hash<std::uint32_t, handshake>(ended_)) {
        taken.push_back(ended);
        bpf_map_delete_elem(ended_, &index);
    }
}

void HandshakeMaps::take_unfinished(std::vector<handshake>& taken) {
    const std::uint64_t now = monotonic_ns();
    const std::uint64_t timeout = std::chrono::nanoseconds(handshake_timeout).count();
    for (const auto& [index, open] : read_hash<std::uint32_t, handshake>(handshakes_)) {
        if (now < open.begin_ns || now - open.begin_ns <= timeout)
            continue;
        // It may end at this very moment: whoever deletes the element decides.
        if (bpf_map_delete_elem(handshakes_, &index) != 0)
            continue;
        __atomic_fetch_sub(open_handshakes_, 1, __ATOMIC_RELAXED);
        handshake& late = taken.emplace_back(open);
        late.result = HANDSHAKE_TIMEOUT;
        late.end_ns = open.begin_ns + timeout;
    }
}

std::vector<HandshakeCount> HandshakeMaps::take_counts() {
    const auto now = std::chrono::steady_clock::now();
    std::vector<HandshakeCount> taken;
    for (const auto& [key, count] : read_hash<handshake_count_key, std::uint64_t>(counts_)) {
        Taken& before = taken_.try_emplace({key}, Taken{.count = 0, .last_change = now}).first->second;
        if (count != before.count) {
            taken.push_back({.identity = key.identity,
                             .result = static_cast<handshake_result>(key.result),
                             .count = count - before.count});
            before = {count, now};
        } else if (now - before.last_change > idle_time && key.identity.kind != HANDSHAKE_NOBODY) {
            bpf_map_delete_elem(counts_, &key);
            taken_.erase({key});
        }
    }
    return taken;
}

HandshakeLosses HandshakeMaps::losses() const {
    HandshakeLosses sums{};
    for (std::uint32_t reason = 0; reason < sums.size(); ++reason)
        sums[reason] = read_per_cpu_sum(losses_, reason);
    return sums;
}

}  // namespace pangolin
