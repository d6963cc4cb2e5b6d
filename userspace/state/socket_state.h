// The host's connections to targets, and HTTP on them, in the state file: whose the elements of their maps
// are, and how much of them is in the ledger.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "bpf/shared/http.h"
#include "bpf/shared/sockets.h"
#include "userspace/state/archive.h"
#include "userspace/state/interface_state.h"
#include "userspace/target_index.h"

namespace pangolin {

// Of socket_counts, what is credited.
struct ConnectionCounts {
    std::uint64_t established = 0;
    std::uint64_t found = 0;
    std::uint64_t failures[SOCKET_FAILURES] = {};
    std::uint64_t ends[SOCKET_ENDS] = {};
    std::uint64_t bytes[TRAFFIC_DIRECTIONS] = {};
};

// See SocketAccounting.
struct SocketTargetState {
    std::uint32_t index = 0;
    DialledAddress dialled;
    // 0 for any of those that are watched.
    std::uint32_t netns = 0;
    // Of a target that shares the address with another one, which has none.
    std::string host;
    ConnectionCounts credited;
    std::string site_id;
    std::string resource_id;
    std::string backend;
    bool is_local = false;
    bool raw_tcp = false;
    bool http = false;
};

struct HttpState {
    // In the root of pins.
    std::string pins;
    // By index, and by method and status or method.
    using Key = std::pair<std::uint32_t, std::uint32_t>;
    std::map<Key, std::uint64_t> requests;
    std::map<Key, latency_histogram> durations;
    std::map<std::uint32_t, http_target_counts> targets;
};

struct SocketState {
    // In the root of pins.
    std::string pins;
    std::uint32_t next_index = 1;
    std::vector<SocketTargetState> targets;
    HttpState http;
};

template <class Archive>
void fields(Archive& archive, SocketTargetState& target) {
    archive(target.index, target.dialled, target.netns, target.host, target.credited, target.site_id,
            target.resource_id, target.backend, target.is_local, target.raw_tcp, target.http);
}

template <class Archive>
void fields(Archive& archive, HttpState& http) {
    archive(http.pins, http.requests, http.durations, http.targets);
}

template <class Archive>
void fields(Archive& archive, SocketState& state) {
    archive(state.pins, state.next_index, state.targets, state.http);
}

}  // namespace pangolin
