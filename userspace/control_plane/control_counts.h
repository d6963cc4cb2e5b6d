// What Pangolin's control plane did since the exporter's start, as the network showed it. Counts only grow.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "userspace/control_plane/durations.h"

namespace pangolin {

// By label values, in the order of the comments below.
template <std::size_t Labels>
using LabelValuesOf = std::array<std::string, Labels>;
template <std::size_t Labels>
using CountsBy = std::map<LabelValuesOf<Labels>, std::uint64_t>;
template <std::size_t Labels>
using DurationsBy = std::map<LabelValuesOf<Labels>, Durations>;

struct ControlCounts {
    // endpoint, method, status
    CountsBy<3> ui_requests;
    CountsBy<3> integration_requests;
    // endpoint, method
    DurationsBy<2> integration_durations;

    // site_id (newt's own, or the one that alone serves the resource; else empty), auth_method, result
    CountsBy<3> sign_ins;
    // auth_method, result
    DurationsBy<2> sign_in_durations;
    // reason, auth_method
    CountsBy<2> sign_in_failures;
    // auth_method
    CountsBy<1> tokens_issued;
    // reason
    CountsBy<1> tokens_revoked;
    // result
    CountsBy<1> token_refreshes;

    Durations provider_syncs;
    // error_type
    CountsBy<1> provider_errors;
    // result
    CountsBy<1> configuration_reloads;
    CountsBy<1> hole_punches;
    // job_type, status
    CountsBy<2> background_jobs;

    // result: allowed, refused, error
    CountsBy<1> session_checks;
    Durations session_check_durations;

    // site_id (empty unless one site alone serves the resource), resource_id, method, status that badger
    // gives the client. Of resources that are known.
    CountsBy<4> refused_requests;

    // site_id, result
    CountsBy<2> websocket_connections;
    // site_id
    CountsBy<1> active_websockets;
    // site_id
    DurationsBy<1> websocket_handshakes;
    // direction, msg_type
    CountsBy<2> websocket_messages;

    // Requests whose endpoint is counted as "other" because there were too many series; WebSockets that were
    // not followed because there were too many at once.
    std::uint64_t limited_requests = 0;
    std::uint64_t unfollowed_websockets = 0;
    // Tokens whose site was forgotten because too many came after them; refused requests to hosts that are no
    // resource's.
    std::uint64_t forgotten_tokens = 0;
    std::uint64_t refused_elsewhere = 0;
};

}  // namespace pangolin
