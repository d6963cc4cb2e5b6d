// One interface's handshakes in the state file.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bpf/shared/handshake.h"
#include "loader/base/endpoint.h"
#include "loader/network_interface.h"
#include "loader/wireguard_probe.h"
#include "userspace/state/archive.h"
#include "userspace/state/interface_state.h"
#include "userspace/wireguard/key.h"

namespace pangolin {

// What ended and is nobody's yet; see HandshakeAccounting.
struct WaitingHandshake {
    std::array<std::uint8_t, sizeof(handshake_identity)> identity{};
    // enum handshake_result; none: packets that were dropped for want of a handshake.
    std::optional<std::uint32_t> result;
    std::uint64_t count = 0;
    std::optional<std::uint64_t> latency_us;
};

struct HandshakeState {
    // In the root of pins.
    std::string pins;
    HandshakeReadings readings;
    std::vector<WaitingHandshake> waiting;
    // Those that peers have left, too.
    std::vector<std::pair<Endpoint, WireGuardKey>> endpoints;
};

struct HealthState {
    NetworkInterface interface;
    HandshakeState handshakes;
};

template <class Archive>
void fields(Archive& archive, Endpoint& endpoint) {
    archive(endpoint.address, endpoint.port);
}

template <class Archive>
void fields(Archive& archive, HandshakeReadings& readings) {
    archive(readings.handshakes, readings.counts, readings.queue_drops, readings.unanswered);
}

template <class Archive>
void fields(Archive& archive, WaitingHandshake& waiting) {
    archive(waiting.identity, waiting.result, waiting.count, waiting.latency_us);
}

template <class Archive>
void fields(Archive& archive, HandshakeState& state) {
    archive(state.pins, state.readings, state.waiting, state.endpoints);
}

template <class Archive>
void fields(Archive& archive, HealthState& state) {
    archive(state.interface, state.handshakes);
}

}  // namespace pangolin
