// TCP statistics and drops of one interface in the state file: how much of them is in the ledger.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "bpf/shared/tunnel.h"
#include "loader/drop_program.h"
#include "loader/network_interface.h"
#include "loader/tcp_program.h"
#include "userspace/state/archive.h"
#include "userspace/state/interface_state.h"

namespace pangolin {

// SlotTcpCounts with the buckets that are not empty, which are few.
struct TcpCredit {
    std::uint32_t slot = TRAFFIC_SLOT_UNMATCHED;
    std::array<std::uint64_t, TCP_RESULTS> connections{};
    std::uint64_t retransmits = 0;
    std::uint64_t round_trips_us = 0;
    // Index and count.
    std::vector<std::pair<std::uint8_t, std::uint64_t>> buckets;
};

TcpCredit to_credit(const SlotTcpCounts& counts);
// Buckets that there are not are left out.
SlotTcpCounts from_credit(const TcpCredit& credit);

struct PeerStatisticsState {
    NetworkInterface interface;
    // In the root of pins.
    std::string tcp_pins;
    std::string drop_pins;
    std::vector<TcpCredit> tcp;
    std::vector<DropCount> drops;
    // Of the programs that counted: whether WireGuard's own drops could not be told from others.
    bool wireguard_unknown = false;
    // Of maps that are gone.
    std::uint64_t tcp_losses = 0;
    std::uint64_t drop_losses = 0;
};

template <class Archive>
void fields(Archive& archive, TcpCredit& credit) {
    archive(credit.slot, credit.connections, credit.retransmits, credit.round_trips_us, credit.buckets);
}

template <class Archive>
void fields(Archive& archive, PeerStatisticsState& state) {
    archive(state.interface, state.tcp_pins, state.drop_pins, state.tcp, state.drops, state.wireguard_unknown,
            state.tcp_losses, state.drop_losses);
}

}  // namespace pangolin
