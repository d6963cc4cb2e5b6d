// One interface in the state file: whose the elements of its maps are, and how much of them is in the ledger.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bpf/shared/traffic.h"
#include "loader/network_interface.h"
#include "userspace/site_ledger.h"
#include "userspace/state/archive.h"
#include "userspace/target_index.h"
#include "userspace/wireguard/key.h"

namespace pangolin {

struct PeerState {
    WireGuardKey key;
    std::uint32_t slot = TRAFFIC_SLOT_UNMATCHED;
    traffic_counts credited{};
    // Empty: its site is not known yet.
    std::string site_id;
    // Empty: it is no client.
    std::string client_id;
    // WireGuard's counters that are in the ledger; false for a peer without.
    bool reported = false;
    TunnelReading reading;
};

struct TargetState {
    std::uint32_t index = TRAFFIC_NO_TARGET;
    DialledAddress dialled;
    std::string site_id;
    // Empty: it is relayed traffic of the site.
    std::string resource_id;
    target_counts credited{};
};

struct UnmatchedState {
    IpAddress remote;
    traffic_counts credited{};
};

struct InterfaceState {
    NetworkInterface interface;
    WireGuardKey public_key;
    // In the root of pins.
    std::string pins;
    std::vector<PeerState> peers;
    std::vector<TargetState> targets;
    std::vector<UnmatchedState> unmatched;
    // Of TRAFFIC_SLOT_UNMATCHED.
    traffic_counts unmatched_credited{};
};

template <class Archive>
void fields(Archive& archive, IpAddress& address) {
    archive(address.family, address.high, address.low);
}

template <class Archive>
void fields(Archive& archive, DialledAddress& dialled) {
    archive(dialled.address, dialled.port, dialled.protocol);
}

template <class Archive>
void fields(Archive& archive, PeerState& peer) {
    archive(peer.key, peer.slot, peer.credited, peer.site_id, peer.client_id, peer.reported, peer.reading);
}

template <class Archive>
void fields(Archive& archive, TargetState& target) {
    archive(target.index, target.dialled, target.site_id, target.resource_id, target.credited);
}

template <class Archive>
void fields(Archive& archive, UnmatchedState& unmatched) {
    archive(unmatched.remote, unmatched.credited);
}

template <class Archive>
void fields(Archive& archive, NetworkInterface& interface) {
    archive(interface.netns.id.device, interface.netns.id.inode, interface.netns.path, interface.netns.name,
            interface.netns_cookie, interface.index, interface.name);
}

template <class Archive>
void fields(Archive& archive, InterfaceState& state) {
    archive(state.interface, state.public_key, state.pins, state.peers, state.targets, state.unmatched,
            state.unmatched_credited);
}

}  // namespace pangolin
