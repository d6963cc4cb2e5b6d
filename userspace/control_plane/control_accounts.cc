#include "userspace/control_plane/control_accounts.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <set>
#include <span>
#include <utility>

#include "loader/base/number.h"
#include "userspace/account_table.h"
#include "userspace/control_plane/session_check.h"
#include "userspace/control_plane/sign_in.h"
#include "userspace/control_plane/websocket_message.h"

namespace pangolin {
namespace {

constexpr std::string_view succeeded = "success";
constexpr std::string_view failed = "failure";

template <std::size_t Labels, class... Values>
void increment(CountsBy<Labels>& counts, const Values&... values) {
    ++counts[LabelValuesOf<Labels>{std::string(values)...}];
}

std::string_view path_of(const http_exchange& exchange) {
    return {exchange.target, std::min<std::size_t>(exchange.target_length, sizeof exchange.target)};
}

std::string_view body_of(const http_exchange& exchange) {
    return {exchange.body, std::min<std::size_t>(exchange.body_length, sizeof exchange.body)};
}

std::string_view subject_of(const http_exchange& exchange) {
    return {exchange.subject, std::min<std::size_t>(exchange.subject_length, sizeof exchange.subject)};
}

// The name in a Host field, in small letters (RFC 9110 section 4.2.3), without port.
std::string host_name(std::string_view host) {
    std::string name(host.substr(0, host.find(':')));
    std::ranges::transform(name, name.begin(), [](char letter) {
        return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter;
    });
    return name;
}

std::chrono::nanoseconds duration_of(const http_exchange& exchange) {
    return std::chrono::nanoseconds(exchange.duration_ns);
}

bool is_success(const http_exchange& exchange) {
    return exchange.status >= 200 && exchange.status < 300;
}

std::string status_label(const http_exchange& exchange) {
    return exchange.status == 0 ? "none" : std::to_string(exchange.status);
}

http_method method_of(const http_exchange& exchange) {
    return exchange.method < HTTP_METHODS ? static_cast<http_method>(exchange.method) : HTTP_METHOD_OTHER;
}

// Of a request that others refuse to understand, of one that went wrong, of one without an answer.
std::string_view error_type(std::uint16_t status) {
    if (status == 0)
        return "timeout";
    return status < 500 ? "http_4xx" : "http_5xx";
}

std::string_view hole_punch_result(std::uint16_t status) {
    if (status >= 200 && status < 300)
        return succeeded;
    return status >= 400 && status < 500 ? "rejected" : "error";
}

// newt's key in its message newt/wg/register. The one that it sends when it connects is short: "publicKey" is
// in what was copied (Go writes the keys of a map in their order).
std::optional<WireGuardKey> key_in(std::string_view message) {
    constexpr std::string_view name = "\"publicKey\":\"";
    const std::size_t begin = message.find(name);
    if (begin == std::string_view::npos)
        return std::nullopt;
    const std::string_view value = message.substr(begin + name.size());
    const auto key = WireGuardKey::from_base64(value.substr(0, WireGuardKey::base64_length));
    return key ? std::optional(*key) : std::nullopt;
}

using Gone = std::map<std::string, ControlAccounts::Clock::time_point, std::less<>>;
using Labels = std::set<std::string_view>;

// Follows which labels at `place` of the counts are none of `live`, and forgets what is counted by those that
// have been so for a while.
template <std::size_t place, class... Counts>
void forget_gone_labels(const Labels& live, Gone& gone, ControlAccounts::Clock::time_point now,
                        Counts&... counts) {
    Gone still;
    const auto note = [&](const auto& each) {
        for (const auto& [labels, count] : each) {
            const std::string& label = labels[place];
            if (label.empty() || label == unassigned_site_id || live.contains(label))
                continue;
            const auto known = gone.find(label);
            still.try_emplace(label, known == gone.end() ? now : known->second);
        }
    };
    (note(counts), ...);
    gone = std::move(still);
    const auto is_over = [&](const auto& each) {
        const auto found = gone.find(each.first[place]);
        return found != gone.end() && now - found->second >= account_lifetime;
    };
    (std::erase_if(counts, is_over), ...);
}

}  // namespace

ControlAccounts::ControlAccounts(const PangolinPorts& ports) : ports_(ports) {
    // What is to alert on has to be there before it happens.
    for (const char* type : {"http_4xx", "http_5xx", "timeout"})
        counts_.provider_errors[{type}];
    for (const char* result : {"success", "rejected", "error"})
        counts_.hole_punches[{result}];
    for (const char* job : {"bandwidth_report", "provider_sync"})
        for (const std::string_view status : {succeeded, failed})
            counts_.background_jobs[{job, std::string(status)}];
    for (const char* result : {"allowed", "refused", "error"})
        counts_.session_checks[{result}];
    counts_.configuration_reloads[{std::string(succeeded)}];
    counts_.tokens_revoked[{"logout"}];
}

std::optional<ControlService> ControlAccounts::service_of(const http_event& event) const {
    const std::uint16_t port = event.service_port;
    if (port == ports_.external)
        return ControlService::external;
    if (port == ports_.internal)
        return ControlService::internal;
    if (port == ports_.next)
        return ControlService::next;
    if (port == ports_.integration)
        return ControlService::integration;
    return std::nullopt;
}

void ControlAccounts::count(const http_exchange& exchange, Clock::time_point now) {
    const auto service = service_of(exchange.event);
    if (!service)
        return;
    const bool complete = exchange.target_length < sizeof exchange.target;
    const http_method method = method_of(exchange);
    const ControlRoute& route = find_route(*service, method, path_of(exchange), complete);
    if (route.methods.contains(method))
        count_meaning(route, exchange, now);

    const bool for_people = *service == ControlService::external || *service == ControlService::next;
    const bool left_out =
        route.meaning == RouteMeaning::websocket || route.meaning == RouteMeaning::health_check;
    if (for_people && exchange.event.peer_is_loopback == 0 && !left_out)
        count_request(counts_.ui_requests, route, exchange);
    else if (*service == ControlService::integration)
        count_integration(route, exchange);
}

void ControlAccounts::count_meaning(const ControlRoute& route, const http_exchange& exchange,
                                    Clock::time_point now) {
    switch (route.meaning) {
        case RouteMeaning::none:
        case RouteMeaning::health_check:
            return;
        case RouteMeaning::websocket:
            return count_websocket(exchange, now);
        case RouteMeaning::sign_in:
            return count_sign_in(route, exchange);
        case RouteMeaning::logout:
            if (is_success(exchange))
                increment(counts_.tokens_revoked, "logout");
            return;
        case RouteMeaning::traefik_configuration:
            return count_traefik_configuration(exchange);
        case RouteMeaning::verify_session:
            return count_session_check(exchange);
        case RouteMeaning::bandwidth_report:
            return increment(counts_.background_jobs, "bandwidth_report",
                             is_success(exchange) ? succeeded : failed);
        case RouteMeaning::hole_punch:
            return increment(counts_.hole_punches, hole_punch_result(exchange.status));
    }
}

void ControlAccounts::count_request(CountsBy<3>& requests, const ControlRoute& route,
                                    const http_exchange& exchange) {
    LabelValuesOf<3> labels{std::string(route.path), std::string(method_name(method_of(exchange))),
                            status_label(exchange)};
    if (requests.size() >= most_series && !requests.contains(labels)) {
        ++counts_.limited_requests;
        labels = {std::string(other_endpoint), "other", "other"};
    }
    ++requests[labels];
}

void ControlAccounts::count_integration(const ControlRoute& route, const http_exchange& exchange) {
    count_request(counts_.integration_requests, route, exchange);
    if (exchange.status != 0)
        counts_
            .integration_durations[{std::string(route.path), std::string(method_name(method_of(exchange)))}]
            .observe(duration_of(exchange));
}

void ControlAccounts::count_sign_in(const ControlRoute& route, const http_exchange& exchange) {
    const SignInOutcome outcome = judge_sign_in(route.auth_method, exchange.status, body_of(exchange));
    const std::string_view result = to_string(outcome.result);
    const std::string site_id = site_of_sign_in(route, exchange);
    increment(counts_.sign_ins, site_id, route.auth_method, result);
    if (exchange.status != 0)
        counts_.sign_in_durations[{std::string(route.auth_method), std::string(result)}].observe(
            duration_of(exchange));
    if (!outcome.reason.empty())
        increment(counts_.sign_in_failures, outcome.reason, route.auth_method);
    if (outcome.token_issued)
        increment(counts_.tokens_issued, route.auth_method);
    if (outcome.result == SignInResult::success && exchange.token != 0 && !site_id.empty())
        tokens_.issue(exchange.token, site_id, std::chrono::nanoseconds(exchange.started_ns));
    // newt and olm have no other way to renew theirs than to sign in again.
    if (route.auth_method == "newt" || route.auth_method == "olm")
        increment(counts_.token_refreshes, result);
}

void ControlAccounts::count_traefik_configuration(const http_exchange& exchange) {
    constexpr std::uint16_t not_modified = 304;
    const bool unchanged = exchange.status == not_modified;
    const bool served = unchanged || is_success(exchange);
    increment(counts_.background_jobs, "provider_sync", served ? succeeded : failed);
    if (!served) {
        increment(counts_.provider_errors, error_type(exchange.status));
        return;
    }
    counts_.provider_syncs.observe(duration_of(exchange));
    if (unchanged)
        return;
    // Express makes the ETag of the body (its res.send()): equal ones are of equal configurations.
    const std::pair<std::uint64_t, std::uint64_t> configuration{
        exchange.etag, exchange.etag != 0 ? 0 : exchange.response_bytes};
    if (configuration_ && *configuration_ != configuration)
        increment(counts_.configuration_reloads, succeeded);
    configuration_ = configuration;
}

void ControlAccounts::count_session_check(const http_exchange& exchange) {
    const SessionCheck check = judge_session_check(exchange.status, body_of(exchange));
    increment(counts_.session_checks, to_string(check.result));
    if (exchange.status != 0)
        counts_.session_check_durations.observe(duration_of(exchange));
    if (check.result != SessionCheckResult::allowed)
        count_refusal(exchange, check.client_status);
}

// What is refused never comes to a backend, where it would be counted again.
void ControlAccounts::count_refusal(const http_exchange& exchange, std::uint16_t status) {
    const std::string host = host_name(subject_of(exchange));
    auto resource = resource_by_domain_.find(host);
    if (resource == resource_by_domain_.end())
        resource = resource_by_domain_.find("*" + host.substr(std::min(host.find('.'), host.size())));
    if (resource == resource_by_domain_.end()) {
        ++counts_.refused_elsewhere;
        return;
    }
    const auto& [resource_id, site_id] = resource->second;
    const auto method = exchange.subject_method < HTTP_METHODS
                            ? static_cast<http_method>(exchange.subject_method)
                            : HTTP_METHOD_OTHER;
    LabelValuesOf<4> labels{site_id, resource_id, std::string(method_name(method)), std::to_string(status)};
    if (counts_.refused_requests.size() >= most_series && !counts_.refused_requests.contains(labels)) {
        ++counts_.limited_requests;
        labels = {"", "other", "other", "other"};
    }
    ++counts_.refused_requests[labels];
}

void ControlAccounts::count_websocket(const http_exchange& exchange, Clock::time_point now) {
    TokenSites::Issued* const token =
        tokens_.find(exchange.token, std::chrono::nanoseconds(exchange.started_ns));
    const std::string_view site_id = token != nullptr ? std::string_view(token->site_id) : unassigned_site_id;
    if (exchange.status != 101)
        return increment(counts_.websocket_connections, site_id,
                         exchange.status == 401 ? "unauthorized" : "error");
    if (token != nullptr)
        count_handshake(*token, exchange);
    if (websockets_.size() >= most_websockets) {
        ++counts_.unfollowed_websockets;
        return increment(counts_.websocket_connections, site_id, succeeded);
    }
    WebSocket& websocket = websockets_[exchange.event.connection];
    websocket = {.opened = now, .key = {}, .site_id = {}};
    // Only newt speaks for a site.
    if (token != nullptr || exchange.client_type != HTTP_CLIENT_NEWT)
        settle(websocket, site_id);
}

// newt connects as soon as it has a token. It may come back with it later, which is no handshake.
void ControlAccounts::count_handshake(TokenSites::Issued& token, const http_exchange& exchange) {
    const std::chrono::nanoseconds taken =
        std::chrono::nanoseconds(exchange.started_ns) + duration_of(exchange) - token.requested_at;
    if (!token.used && taken.count() > 0 && taken < patience_for_site)
        counts_.websocket_handshakes[{token.site_id}].observe(taken);
    token.used = true;
}

void ControlAccounts::count(const http_frame& frame) {
    if (service_of(frame.event) != ControlService::external)
        return;
    const std::size_t copied = std::min<std::size_t>(frame.payload_copied, sizeof frame.payload);
    constexpr std::uint8_t first_reserved_bit = 4;
    const std::string_view type = message_type({.opcode = static_cast<WebSocketOpcode>(frame.opcode),
                                                .compressed = (frame.reserved_bits & first_reserved_bit) != 0,
                                                .start = std::as_bytes(std::span(frame.payload, copied))});
    if (type.empty())
        return;
    increment(counts_.websocket_messages, frame.from_client != 0 ? "ingress" : "egress", type);

    const auto websocket = websockets_.find(frame.event.connection);
    if (websocket == websockets_.end() || websocket->second.site_id || frame.from_client == 0 ||
        type != "newt/wg/register")
        return;
    const std::string_view text(reinterpret_cast<const char*>(frame.payload), copied);
    if (const auto key = key_in(text)) {
        websocket->second.key = key;
        look_up_site(websocket->second);
    }
}

void ControlAccounts::close(const http_event& event) {
    const auto websocket = websockets_.find(event.connection);
    if (websocket == websockets_.end())
        return;
    // One that is not counted yet stays until it is.
    if (websocket->second.site_id)
        websockets_.erase(websocket);
    else
        websocket->second.closed = true;
}

void ControlAccounts::settle(WebSocket& websocket, std::string_view site_id) {
    websocket.site_id = site_id;
    increment(counts_.websocket_connections, site_id, succeeded);
}

void ControlAccounts::look_up_site(WebSocket& websocket) {
    if (websocket.site_id || !websocket.key)
        return;
    const auto site = site_by_key_.find(*websocket.key);
    if (site != site_by_key_.end())
        settle(websocket, site->second);
}

void ControlAccounts::forget_gone(const SiteDirectory& directory, Clock::time_point now) {
    Labels sites;
    for (const Site& site : directory.sites)
        sites.insert(site.site_id);
    forget_gone_labels<0>(sites, gone_sites_, now, counts_.sign_ins, counts_.websocket_connections,
                          counts_.websocket_handshakes, counts_.refused_requests);
    Labels resources;
    for (const Resource& resource : directory.resources)
        resources.insert(resource.resource_id);
    forget_gone_labels<1>(resources, gone_resources_, now, counts_.refused_requests);
}

void ControlAccounts::set_directory(const SiteDirectory& directory, Clock::time_point now) {
    forget_gone(directory, now);
    site_by_key_.clear();
    site_by_resource_.clear();
    site_by_newt_.clear();
    resource_by_domain_.clear();
    for (const Site& site : directory.sites) {
        if (site.public_key)
            site_by_key_.emplace(*site.public_key, site.site_id);
        if (!site.newt_id.empty())
            site_by_newt_.emplace(site.newt_id, site.site_id);
    }
    std::map<std::uint32_t, std::set<std::uint32_t>> sites_of_resource;
    for (const Target& target : directory.targets)
        if (target.site)
            sites_of_resource[target.resource].insert(*target.site);
    for (std::uint32_t index = 0; index < directory.resources.size(); ++index) {
        const Resource& resource = directory.resources[index];
        const auto sites = sites_of_resource.find(index);
        const bool one = sites != sites_of_resource.end() && sites->second.size() == 1;
        const std::string site_id = one ? directory.sites.at(*sites->second.begin()).site_id : "";
        if (one && resource.number)
            site_by_resource_[*resource.number] = site_id;
        if (!resource.domain.empty())
            resource_by_domain_.emplace(host_name(resource.domain),
                                        ServedResource{resource.resource_id, site_id});
    }
    for (auto& [connection, websocket] : websockets_)
        look_up_site(websocket);
    std::erase_if(websockets_, [](const auto& each) { return each.second.closed && each.second.site_id; });
}

void ControlAccounts::expire(Clock::time_point now) {
    for (auto& [connection, websocket] : websockets_)
        if (!websocket.site_id && now - websocket.opened > patience_for_site)
            settle(websocket, unassigned_site_id);
    std::erase_if(websockets_, [](const auto& each) { return each.second.closed && each.second.site_id; });
}

void ControlAccounts::forget_websockets() {
    for (auto& [connection, websocket] : websockets_)
        websocket.closed = true;
    std::erase_if(websockets_, [](const auto& each) { return each.second.site_id.has_value(); });
}

std::string ControlAccounts::site_of_sign_in(const ControlRoute& route, const http_exchange& exchange) const {
    if (route.auth_method != "newt")
        return site_of_resource(first_id(route, path_of(exchange)));
    const auto site = site_by_newt_.find(subject_of(exchange));
    return site == site_by_newt_.end() ? std::string() : site->second;
}

std::string ControlAccounts::site_of_resource(std::string_view id) const {
    const auto number = parse_number<std::int64_t>(id);
    const auto site = number ? site_by_resource_.find(*number) : site_by_resource_.end();
    return site == site_by_resource_.end() ? std::string() : site->second;
}

ControlCounts ControlAccounts::counts() const {
    ControlCounts counts = counts_;
    counts.forgotten_tokens += tokens_.forgotten();
    for (const auto& [labels, connections] : counts.websocket_connections)
        if (labels[1] == succeeded)
            counts.active_websockets[{labels[0]}];
    for (const auto& [connection, websocket] : websockets_)
        if (!websocket.closed)
            ++counts.active_websockets[{websocket.site_id.value_or(std::string(unassigned_site_id))}];
    return counts;
}

}  // namespace pangolin
