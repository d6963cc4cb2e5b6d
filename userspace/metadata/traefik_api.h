// Pangolin's resources and targets as Traefik's API shows them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "loader/base/error.h"
#include "userspace/metadata/http_get.h"
#include "userspace/metadata/site_directory.h"

namespace pangolin {

// One of Traefik's services that Pangolin made for targets of a resource (Pangolin's
// server/lib/traefik/getTraefikConfig.ts): those of one path, where the resource has several.
struct TraefikService {
    std::int64_t resource_id = 0;
    // The resource's name with other characters than letters, digits and "-" replaced.
    std::string name;
    // As Resource::protocol.
    std::string protocol;
    std::string domain;
    std::string path;
    PathMatch path_match = PathMatch::none;
    bool ssl = false;
    std::optional<std::uint16_t> proxy_port;
    struct Server {
        TargetAddress address;
        std::string method;
    };
    // What Traefik dials. None for "inference": its target is Pangolin itself.
    std::vector<Server> servers;
};

// What the name of a service says: "12-shop-service@http", "12-2fapi-prefix-shop-service@http",
// "bg-r12-ssh-service@http", "inference-r12-service@http". None for any other's.
struct TraefikServiceName {
    std::int64_t resource_id = 0;
    std::string name;
    // "ssh", "rdp", "vnc" or "inference"; empty for the usual ones.
    std::string mode;
};
std::optional<TraefikServiceName> parse_traefik_service_name(std::string_view name);

// A server of a service: "https://100.89.128.4:40001", or without a method "100.89.128.4:40001". None without
// a port, but that of a URL's scheme.
std::optional<TraefikService::Server> parse_traefik_server(std::string_view text);

// What a router's rule says: "Host(`shop.example.com`) && PathPrefix(`/api`)".
struct TraefikRule {
    std::string domain;
    std::string path;
    PathMatch path_match = PathMatch::none;
};
TraefikRule parse_traefik_rule(std::string_view rule);

// Reads services and routers of http, tcp and udp: at least six small requests. Entries that make no sense
// are left out.
Result<std::vector<TraefikService>> read_traefik_services(const HttpEndpoint& server);

}  // namespace pangolin
