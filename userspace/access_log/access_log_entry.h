// A line of Traefik's access log in JSON (accessLog.format: json).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "userspace/metadata/traefik_api.h"

namespace pangolin {

// How a request to a backend ended, as Traefik writes it.
enum class AccessLogEnd : std::uint8_t {
    complete,
    upgraded,   // to a WebSocket or the like: Traefik 3 writes the status 0
    cut_off,    // somebody ended it in the middle of the answer: there is no OriginStatus
    unanswered  // no answer came; Traefik made its own
};

// What of a line matters (Traefik's pkg/middlewares/accesslog/logdata.go, v3.7). Traefik keeps the fields
// that accessLog.fields says; what is not kept is empty here.
struct AccessLogEntry {
    // "12-shop-service@http". Empty where no service took part.
    std::string service;
    // ServiceURL, or ServiceAddr without its method. None where no server of the service was chosen.
    std::optional<TraefikService::Server> server;
    // RequestHost: without a port.
    std::string host;
    // RequestMethod.
    std::string method;
    AccessLogEnd end = AccessLogEnd::complete;
    // OriginStatus, else DownstreamStatus. 0 for what was not answered.
    std::uint16_t status = 0;
    // OriginDuration, else Duration.
    std::optional<std::uint64_t> duration_ns;
    // Of the answer's body: OriginContentSize, else DownstreamContentSize.
    std::optional<std::uint64_t> size;
    // Its Content-Type says so, where accessLog.fields keeps that header.
    bool event_stream = false;
};

// None for what is no line of an access log.
std::optional<AccessLogEntry> parse_access_log_line(std::string_view line);

}  // namespace pangolin
