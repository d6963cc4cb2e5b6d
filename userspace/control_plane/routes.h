// What Pangolin's HTTP routes are called and what an exchange on one of them means.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "bpf/shared/http.h"

namespace pangolin {

// One of Pangolin's listening ports (its server.*_port).
enum class ControlService : std::uint8_t {
    external,     // dashboard API and WebSockets (server/apiServer.ts)
    internal,     // for Traefik, badger and gerbil (server/internalServer.ts)
    next,         // the dashboard's pages (server/nextServer.ts)
    integration,  // the API for others (server/integrationApiServer.ts)
};
inline constexpr std::size_t control_services = 4;

// Label `method`: the method as on the wire, "other" for one that is none of RFC 9110's and RFC 5789's.
std::string_view method_name(http_method method);

// A set of methods.
struct Methods {
    std::uint16_t bits = 0;

    static constexpr Methods of(http_method method) { return {static_cast<std::uint16_t>(1U << method)}; }
    constexpr Methods operator|(Methods other) const {
        return {static_cast<std::uint16_t>(bits | other.bits)};
    }
    constexpr bool contains(http_method method) const { return (bits >> method & 1U) != 0; }
};

// What an exchange is beside a request to the dashboard or an API.
enum class RouteMeaning : std::uint8_t {
    none,
    health_check,
    websocket,
    // Somebody shows who they are; ControlRoute::auth_method says how.
    sign_in,
    logout,
    // Traefik's poll for its dynamic configuration.
    traefik_configuration,
    // badger asks whether a request to a resource may pass.
    verify_session,
    // gerbil reports.
    bandwidth_report,
    hole_punch,
};

struct ControlRoute {
    // The path with ":id" for each part that names something, and "*" at the end for whatever follows. It is
    // the label `endpoint`.
    std::string_view path;
    // Express answers HEAD where it answers GET, and OPTIONS everywhere.
    Methods methods;
    RouteMeaning meaning = RouteMeaning::none;
    // The label `auth_method` of a sign-in.
    std::string_view auth_method{};
};

// Label `endpoint` of whatever is in no table.
inline constexpr std::string_view other_endpoint = "other";
// And of files that the dashboard's pages are made of, wherever they lie.
inline constexpr std::string_view static_endpoint = "static";

// The tables, from Pangolin's server/routers/{external,internal,integration}.ts (and server/private/routers
// of the Enterprise Edition) and from the pages below src/app, as of 1.19 to 1.22.
std::span<const ControlRoute> external_routes();
std::span<const ControlRoute> internal_routes();
std::span<const ControlRoute> integration_routes();
std::span<const ControlRoute> next_routes();

// What `path` is called. `path` is as the client sent it, without its query; `complete` is false when it was
// cut off, which may make a part of it look like another. The result lives as long as the program and is one
// of the table's rows or one that stands for all others: however many paths clients invent, there are no
// more.
const ControlRoute& find_route(ControlService service, http_method method, std::string_view path,
                               bool complete = true);

// The part of `path` at the first ":id" of the route's path; empty when it has none.
std::string_view first_id(const ControlRoute& route, std::string_view path);

}  // namespace pangolin
