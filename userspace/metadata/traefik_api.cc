#include "userspace/metadata/traefik_api.h"

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "loader/base/number.h"
#include "userspace/metadata/text.h"
#include "userspace/utf8.h"

namespace pangolin {
namespace {

using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr auto request_time_limit = std::chrono::milliseconds(2000);
constexpr auto reading_time_limit = std::chrono::seconds(10);
constexpr std::size_t answer_size_limit = std::size_t{16} << 20;
// Traefik's own default is 100, and one connection a page is what it costs.
constexpr unsigned page_size = 1000;
constexpr unsigned most_pages = 100;

constexpr const char* api_hint =
    "Check metrics.traefik.api; Traefik's API is on port 8080 of its container where api.insecure is set, as "
    "Pangolin's installer does.";

std::string text_of(const Json& object, const char* key) {
    const auto found = object.find(key);
    if (found == object.end() || !found->is_string())
        return "";
    return valid_utf8(found->get_ref<const std::string&>());
}

// Removes `front` from `text`; false when it does not begin with it.
bool skip(std::string_view& text, std::string_view front) {
    if (!text.starts_with(front))
        return false;
    text.remove_prefix(front.size());
    return true;
}

std::optional<std::int64_t> skip_number(std::string_view& text) {
    const std::size_t digits = text.find_first_not_of("0123456789");
    const auto number = parse_number<std::int64_t>(text.substr(0, digits));
    if (number)
        text.remove_prefix(std::min(digits, text.size()));
    return number;
}

// Removes an encoded path and its match type in front of the resource's name. The path begins with "/", which
// is written 2f, and consists of letters and digits then.
std::string_view without_path(std::string_view text) {
    const auto end = text.find('-');
    if (!text.starts_with("2f") || end == std::string_view::npos)
        return text;
    for (const std::string_view type : {"exact-", "prefix-", "regex-"})
        if (text.substr(end + 1).starts_with(type))
            return text.substr(end + 1 + type.size());
    return text;
}

// The argument of the first call of `function` in a rule, as in Host(`...`).
std::optional<std::string> argument(std::string_view rule, std::string_view function) {
    const std::string call = std::string(function) + "(`";
    for (auto at = rule.find(call); at != std::string_view::npos; at = rule.find(call, at + 1)) {
        // Not HostSNI for SNI, and not what is inside of another argument's quotes.
        const bool begins = at == 0 || rule[at - 1] == ' ' || rule[at - 1] == '(' || rule[at - 1] == '!';
        const auto first = at + call.size();
        const auto end = rule.find('`', first);
        if (begins && end != std::string_view::npos)
            return std::string(rule.substr(first, end - first));
    }
    return std::nullopt;
}

struct Router {
    TraefikRule rule;
    bool ssl = false;
    std::optional<std::uint16_t> port;
};
// By the service's name without its provider.
using Routers = std::map<std::string, Router, std::less<>>;

std::string_view without_provider(std::string_view name) {
    return name.substr(0, name.find('@'));
}

void add_router(const Json& entry, std::string_view protocol, Routers& routers) {
    if (!entry.is_object())
        return;
    Router& router = routers[std::string(without_provider(text_of(entry, "service")))];
    TraefikRule rule = parse_traefik_rule(text_of(entry, "rule"));
    if (router.rule.domain.empty())
        router.rule = std::move(rule);
    router.ssl |= entry.contains("tls");
    const std::string prefix = std::string(protocol) + "-";
    if (const auto points = entry.find("entryPoints"); points != entry.end() && points->is_array())
        for (const Json& point : *points)
            if (point.is_string())
                if (const std::string_view name = point.get_ref<const std::string&>();
                    name.starts_with(prefix))
                    if (const auto port = parse_number<std::uint16_t>(name.substr(prefix.size())))
                        router.port = port;
}

std::optional<TraefikService::Server> server_of(const Json& entry) {
    if (!entry.is_object())
        return std::nullopt;
    const std::string url = text_of(entry, "url");
    return parse_traefik_server(url.empty() ? text_of(entry, "address") : url);
}

std::optional<TraefikService> service_of(const Json& entry, std::string_view protocol,
                                         const Routers& routers) {
    if (!entry.is_object())
        return std::nullopt;
    const std::string full_name = text_of(entry, "name");
    auto name = parse_traefik_service_name(full_name);
    if (!name)
        return std::nullopt;
    TraefikService service;
    service.resource_id = name->resource_id;
    service.name = std::move(name->name);
    service.protocol = name->mode.empty() ? std::string(protocol) : name->mode;
    if (const auto router = routers.find(without_provider(full_name)); router != routers.end()) {
        service.domain = router->second.rule.domain;
        service.path = router->second.rule.path;
        service.path_match = router->second.rule.path_match;
        service.ssl = router->second.ssl;
        service.proxy_port = router->second.port;
    }
    if (name->mode == "inference")
        return service;
    for (const char* key : {"loadBalancer", "loadbalancer"})
        if (const auto balancer = entry.find(key); balancer != entry.end() && balancer->is_object())
            if (const auto servers = balancer->find("servers");
                servers != balancer->end() && servers->is_array())
                for (const Json& server : *servers)
                    if (auto read = server_of(server))
                        service.servers.push_back(std::move(*read));
    return service;
}

// All pages of one list.
class ApiReader {
  public:
    explicit ApiReader(const HttpEndpoint& server)
        : server_(server), deadline_(Clock::now() + reading_time_limit) {}

    template <class Take>
    Result<void> read(std::string_view list, Take take) {
        for (unsigned page = 1; page <= most_pages; ++page) {
            const std::string target = fmt::format("/api/{}?per_page={}&page={}", list, page_size, page);
            if (Clock::now() > deadline_)
                return failure(
                    fmt::format("cannot read Traefik's API at {}: it is too slow", server_.authority()),
                    api_hint, ETIMEDOUT);
            auto answer = http_get(server_, target,
                                   {.time_limit = request_time_limit, .size_limit = answer_size_limit});
            if (!answer)
                return failure(answer.error().what, api_hint, answer.error().code);
            if (answer->status != 200)
                return failure(fmt::format("cannot read http://{}{}{}: the answer is status {}",
                                           server_.authority(), server_.path, target, answer->status),
                               api_hint);
            constexpr bool throwing = false;
            const Json entries = Json::parse(answer->body, nullptr, throwing);
            if (!entries.is_array())
                return failure(fmt::format("cannot read http://{}{}{}: the answer is no list in JSON",
                                           server_.authority(), server_.path, target),
                               api_hint);
            for (const Json& entry : entries)
                take(entry);
            // On the last page Traefik names the first one.
            if (answer->next_page != page + 1)
                return {};
        }
        return {};
    }

  private:
    const HttpEndpoint& server_;
    Clock::time_point deadline_;
};

}  // namespace

std::optional<TraefikServiceName> parse_traefik_service_name(std::string_view name) {
    constexpr std::string_view ending = "-service";
    name = without_provider(name);
    if (!name.ends_with(ending))
        return std::nullopt;
    name.remove_suffix(ending.size());
    TraefikServiceName result;
    const bool gateway = skip(name, "bg-r");
    const bool inference = !gateway && skip(name, "inference-r");
    const auto id = skip_number(name);
    if (!id)
        return std::nullopt;
    result.resource_id = *id;
    if (gateway) {
        // Its other services ("ui", "maintenance") are Pangolin's own pages.
        if (name != "-ssh" && name != "-rdp" && name != "-vnc")
            return std::nullopt;
        result.mode = name.substr(1);
    } else if (inference) {
        result.mode = "inference";
    } else {
        if (!skip(name, "-"))
            return std::nullopt;
        result.name = without_path(name);
    }
    return result;
}

std::optional<TraefikService::Server> parse_traefik_server(std::string_view text) {
    TraefikService::Server server;
    std::uint16_t port = 0;
    if (const auto scheme = text.find("://"); scheme != std::string_view::npos) {
        server.method = text.substr(0, scheme);
        text.remove_prefix(scheme + 3);
        text = text.substr(0, text.find('/'));
        port = server.method == "https" ? 443 : 80;
    }
    if (const auto colon = text.rfind(':'); colon != std::string_view::npos && !text.ends_with(']')) {
        port = parse_number<std::uint16_t>(text.substr(colon + 1)).value_or(0);
        text = text.substr(0, colon);
    }
    if (text.empty() || port == 0)
        return std::nullopt;
    server.address = TargetAddress::make(text, port);
    return server;
}

TraefikRule parse_traefik_rule(std::string_view rule) {
    static constexpr std::array<std::pair<std::string_view, PathMatch>, 3> functions{
        {{"Path", PathMatch::exact}, {"PathPrefix", PathMatch::prefix}, {"PathRegexp", PathMatch::regex}}};
    TraefikRule result;
    result.domain = argument(rule, "Host").value_or("");
    for (const auto& [function, match] : functions)
        if (auto path = argument(rule, function)) {
            result.path = std::move(*path);
            result.path_match = match;
            break;
        }
    return result;
}

Result<std::vector<TraefikService>> read_traefik_services(const HttpEndpoint& server) {
    std::vector<TraefikService> services;
    ApiReader reader(server);
    for (const std::string_view protocol : {"http", "tcp", "udp"}) {
        Routers routers;
        Result<void> result = reader.read(fmt::format("{}/routers", protocol),
                                          [&](const Json& entry) { add_router(entry, protocol, routers); });
        if (result)
            result = reader.read(fmt::format("{}/services", protocol), [&](const Json& entry) {
                if (auto service = service_of(entry, protocol, routers))
                    services.push_back(std::move(*service));
            });
        if (!result)
            return std::unexpected(result.error());
    }
    return services;
}

}  // namespace pangolin
