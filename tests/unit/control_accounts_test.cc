// From events of Pangolin's ports to counts.
#include "userspace/control_plane/control_accounts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>
#include <sstream>

#include "tests/support/own_memory.h"
#include "userspace/account_table.h"
#include "userspace/control_plane/session_check.h"
#include "userspace/control_plane/token_sites.h"

namespace pangolin {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::IsSupersetOf;
using testing::Pair;
using Time = ControlAccounts::Clock::time_point;

constexpr const char* home_key = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

template <std::size_t Labels>
std::string line_of(const LabelValuesOf<Labels>& labels, std::uint64_t count) {
    std::string line;
    for (const std::string& label : labels)
        line += label + " ";
    return line + std::to_string(count);
}

// What was counted, a line each; zeros are left out.
template <std::size_t Labels>
std::vector<std::string> lines(const CountsBy<Labels>& counts) {
    std::vector<std::string> result;
    for (const auto& [labels, count] : counts)
        if (count != 0)
            result.push_back(line_of(labels, count));
    return result;
}

struct Request {
    std::uint16_t port = 3000;
    http_method method = HTTP_METHOD_GET;
    std::string_view path = {};
    std::uint16_t status = 200;
    std::string_view body = {};
    bool loopback = false;
    std::uint64_t duration_ms = 3;
    std::uint64_t response_bytes = 400;
    std::uint64_t connection = 1;
    http_client_type client = HTTP_CLIENT_NONE;
    std::string_view subject = {};
    http_method subject_method = HTTP_METHOD_OTHER;
    std::uint64_t token = 0;
    std::uint64_t etag = 0;
    std::chrono::milliseconds started{0};
};

http_exchange exchange_of(const Request& request) {
    http_exchange exchange{};
    exchange.event.type = HTTP_EVENT_EXCHANGE;
    exchange.event.service_port = request.port;
    exchange.event.peer_is_loopback = request.loopback ? 1 : 0;
    exchange.event.connection = request.connection;
    exchange.duration_ns = request.duration_ms * 1'000'000;
    exchange.response_bytes = request.response_bytes;
    exchange.status = request.status;
    exchange.method = request.method;
    exchange.client_type = request.client;
    exchange.target_length = static_cast<__u16>(request.path.copy(exchange.target, sizeof exchange.target));
    exchange.body_length = static_cast<__u8>(request.body.copy(exchange.body, sizeof exchange.body));
    exchange.subject_length =
        static_cast<__u8>(request.subject.copy(exchange.subject, sizeof exchange.subject));
    exchange.subject_method = request.subject_method;
    exchange.token = request.token;
    exchange.etag = request.etag;
    exchange.started_ns = static_cast<__u64>(std::chrono::nanoseconds(request.started).count());
    return exchange;
}

http_frame frame_of(std::string_view payload, bool from_client = true, std::uint64_t connection = 1,
                    std::uint8_t opcode = 1) {
    http_frame frame{};
    frame.event.type = HTTP_EVENT_FRAME;
    frame.event.service_port = 3000;
    frame.event.connection = connection;
    frame.from_client = from_client ? 1 : 0;
    frame.opcode = opcode;
    frame.payload_length = payload.size();
    frame.payload_copied =
        static_cast<__u8>(payload.copy(reinterpret_cast<char*>(frame.payload), sizeof frame.payload));
    return frame;
}

SiteDirectory directory() {
    SiteDirectory directory;
    Site home;
    home.site_id = "home";
    home.public_key = WireGuardKey::from_base64(home_key).value();
    home.newt_id = "n3wt";
    Site office;
    office.site_id = "office";
    directory.sites = {home, office};
    for (std::int64_t number = 1; number <= 3; ++number) {
        Resource resource;
        resource.number = number;
        resource.resource_id = "r" + std::to_string(number);
        resource.domain = number == 3 ? "*.wild.example.com" : "R" + std::to_string(number) + ".example.com";
        directory.resources.push_back(resource);
    }
    const auto target = [](std::uint32_t resource, std::uint32_t site) {
        Target made;
        made.resource = resource;
        made.site = site;
        return made;
    };
    // Resource 1 at home, 2 at both, 3 nowhere.
    directory.targets = {target(0, 0), target(0, 0), target(1, 0), target(1, 1)};
    return directory;
}

class ControlAccountsTest : public testing::Test {
  protected:
    void count(const Request& request, Time now = {}) { accounts.count(exchange_of(request), now); }
    void connect(std::uint64_t connection, http_client_type client = HTTP_CLIENT_NEWT, Time now = {}) {
        count({.path = "/api/v1/ws", .status = 101, .connection = connection, .client = client}, now);
    }
    void message(std::string_view payload, bool from_client = true, std::uint64_t connection = 1) {
        accounts.count(frame_of(payload, from_client, connection));
    }
    void close(std::uint64_t connection) {
        http_event event{};
        event.type = HTTP_EVENT_CLOSED;
        event.service_port = 3000;
        event.connection = connection;
        accounts.close(event);
    }
    void register_newt(std::uint64_t connection) {
        message(
            R"({"type":"newt/wg/register","data":{"backwardsCompatible":true,"newtVersion":"1.15.0","publicKey":")" +
                std::string(home_key) + "\"}}",
            true, connection);
    }

    ControlAccounts accounts{PangolinPorts{}};
};

TEST_F(ControlAccountsTest, CountsTheDashboardFromOutside) {
    count({.path = "/api/v1/site/7"});
    count({.path = "/api/v1/site/8"});
    count({.path = "/api/v1/site/8", .status = 404});
    count({.path = "/api/v1/site/8", .status = 0});
    count({.method = HTTP_METHOD_OTHER, .path = "/api/v1/site/8", .status = 400});
    count({.port = 3002, .path = "/acme/settings/sites"});
    count({.port = 3002, .path = "/_next/static/chunks/1.js", .status = 304});
    // Not from people: the server's own rendering, the health check, the WebSocket, other ports.
    count({.path = "/api/v1/site/7", .loopback = true});
    count({.path = "/api/v1"});
    count({.path = "/api/v1/ws", .status = 401});
    count({.port = 3001, .path = "/api/v1/idp"});
    count({.port = 9999, .path = "/api/v1/site/7"});
    EXPECT_THAT(lines(accounts.counts().ui_requests),
                ElementsAre("/:id/settings/sites GET 200 1", "/api/v1/site/:id GET 200 2",
                            "/api/v1/site/:id GET 404 1", "/api/v1/site/:id GET none 1", "other other 400 1",
                            "static GET 304 1"));
}

TEST_F(ControlAccountsTest, CountsTheIntegrationApiFromEverywhere) {
    count({.port = 3003, .path = "/v1/org/acme/sites", .duration_ms = 3});
    count({.port = 3003, .path = "/v1/org/acme/sites", .loopback = true, .duration_ms = 30});
    count({.port = 3003, .path = "/v1/nothing", .status = 404});
    const ControlCounts counts = accounts.counts();
    EXPECT_THAT(lines(counts.integration_requests),
                ElementsAre("/v1/org/:id/sites GET 200 2", "other GET 404 1"));
    const Durations& durations = counts.integration_durations.at({"/v1/org/:id/sites", "GET"});
    EXPECT_EQ(durations.count(), 2U);
    EXPECT_NEAR(durations.sum(), 0.033, 1e-9);
    EXPECT_THAT(lines(counts.ui_requests), IsEmpty());
}

TEST_F(ControlAccountsTest, CountsSignInsAlsoOnLoopback) {
    accounts.set_directory(directory(), {});
    const auto sign_in = [&](std::string_view path, std::uint16_t status, std::string_view body = "") {
        count({.method = HTTP_METHOD_POST, .path = path, .status = status, .body = body, .loopback = true});
    };
    sign_in("/api/v1/auth/login", 200);
    sign_in("/api/v1/auth/login", 202);
    sign_in("/api/v1/auth/login", 401);
    sign_in("/api/v1/auth/login", 200,
            R"({"data":null,"success":true,"error":false,"message":"Already logged in")");
    sign_in("/api/v1/auth/resource/1/pincode", 401);
    sign_in("/api/v1/auth/resource/2/pincode", 200);
    sign_in("/api/v1/auth/resource/3/password", 200);
    sign_in("/api/v1/auth/resource/x/password", 429);
    sign_in("/api/v1/auth/newt/get-token", 200);
    sign_in("/api/v1/auth/newt/get-token", 400);
    sign_in("/api/v1/auth/logout", 200);
    sign_in("/api/v1/auth/logout", 500);
    // A browser's question whether it may is no attempt.
    count({.method = HTTP_METHOD_OPTIONS, .path = "/api/v1/auth/login", .status = 204});
    const ControlCounts counts = accounts.counts();
    EXPECT_THAT(
        lines(counts.sign_ins),
        ElementsAre(" newt failure 1", " newt success 1", " password challenge 1", " password failure 2",
                    " password success 3", " pincode success 1", "home pincode failure 1"));
    EXPECT_THAT(lines(counts.sign_in_failures),
                ElementsAre("invalid_code pincode 1", "invalid_credentials newt 1",
                            "invalid_credentials password 1", "rate_limited password 1"));
    EXPECT_THAT(lines(counts.tokens_issued), ElementsAre("newt 1", "password 2", "pincode 1"));
    EXPECT_THAT(lines(counts.token_refreshes), ElementsAre("failure 1", "success 1"));
    EXPECT_THAT(lines(counts.tokens_revoked), ElementsAre("logout 1"));
    EXPECT_EQ(counts.sign_in_durations.at({"password", "success"}).count(), 3U);
    EXPECT_THAT(lines(counts.ui_requests), ElementsAre("/api/v1/auth/login OPTIONS 204 1"));
}

TEST_F(ControlAccountsTest, CountsTraefiksPolls) {
    const auto poll = [&](std::uint16_t status, std::uint64_t bytes) {
        count({.port = 3001, .path = "/api/v1/traefik-config", .status = status, .response_bytes = bytes});
    };
    poll(200, 1000);
    poll(200, 1000);
    poll(500, 50);
    poll(200, 1000);
    poll(200, 1001);
    poll(0, 0);
    poll(429, 10);
    poll(200, 1000);
    const ControlCounts counts = accounts.counts();
    EXPECT_EQ(counts.provider_syncs.count(), 5U);
    EXPECT_THAT(lines(counts.provider_errors), ElementsAre("http_4xx 1", "http_5xx 1", "timeout 1"));
    EXPECT_THAT(lines(counts.configuration_reloads), ElementsAre("success 2"));
    EXPECT_THAT(lines(counts.background_jobs),
                ElementsAre("provider_sync failure 3", "provider_sync success 5"));
}

TEST_F(ControlAccountsTest, CountsGerbilAndBadger) {
    const auto post = [&](std::string_view path, std::uint16_t status, std::string_view body = "") {
        count({.port = 3001, .method = HTTP_METHOD_POST, .path = path, .status = status, .body = body});
    };
    post("/api/v1/gerbil/receive-bandwidth", 200);
    post("/api/v1/gerbil/receive-bandwidth", 500);
    for (const std::uint16_t status : {200, 400, 404, 500, 0})
        post("/api/v1/gerbil/update-hole-punch", status);
    post("/api/v1/badger/verify-session", 200, R"({"data":{"valid":true},"success":true)");
    post("/api/v1/badger/verify-session", 200, R"({"data":{"valid":false,"redirectUrl":"https://)");
    post("/api/v1/badger/verify-session", 200, R"({"data":{"valid":false)");
    post("/api/v1/badger/verify-session", 500, R"({"data":null)");
    post("/api/v1/badger/verify-session", 0);
    const ControlCounts counts = accounts.counts();
    EXPECT_THAT(lines(counts.background_jobs),
                ElementsAre("bandwidth_report failure 1", "bandwidth_report success 1"));
    EXPECT_THAT(lines(counts.hole_punches), ElementsAre("error 2", "rejected 2", "success 1"));
    EXPECT_THAT(lines(counts.session_checks), ElementsAre("allowed 1", "error 2", "refused 2"));
    EXPECT_EQ(counts.session_check_durations.count(), 4U);
}

TEST_F(ControlAccountsTest, EqualETagsAreEqualConfigurations) {
    const auto poll = [&](std::uint64_t etag, std::uint16_t status = 200, std::uint64_t bytes = 1000) {
        count({.port = 3001,
               .path = "/api/v1/traefik-config",
               .status = status,
               .response_bytes = bytes,
               .etag = etag});
    };
    poll(7);
    poll(7, 200, 1001);
    poll(7, 304, 100);
    poll(8);
    poll(7);
    EXPECT_THAT(lines(accounts.counts().configuration_reloads), ElementsAre("success 2"));
    EXPECT_THAT(lines(accounts.counts().background_jobs), ElementsAre("provider_sync success 5"));
}

TEST_F(ControlAccountsTest, RefusedRequestsAreOfTheirResource) {
    accounts.set_directory(directory(), {});
    const auto check = [&](std::string_view host, http_method method, std::uint16_t status,
                           std::string_view body) {
        count({.port = 3001,
               .method = HTTP_METHOD_POST,
               .path = "/api/v1/badger/verify-session",
               .status = status,
               .body = body,
               .subject = host,
               .subject_method = method});
    };
    constexpr std::string_view refused = R"({"data":{"valid":false,"pangolinVersion":"1.22.0"}})";
    check("r1.example.com", HTTP_METHOD_GET, 200, R"({"data":{"valid":true}})");
    check("r1.example.com", HTTP_METHOD_GET, 200, refused);
    check("R1.example.com:8443", HTTP_METHOD_GET, 200, refused);
    // Two sites serve it.
    check("r2.example.com", HTTP_METHOD_POST, 200, R"({"data":{"valid":false,"redirectUrl":"https://x"}})");
    check("a.wild.example.com", HTTP_METHOD_OTHER, 500, "");
    check("b.wild.example.com", HTTP_METHOD_OTHER, 0, "");
    for (const char* stranger : {"wild.example.com", "a.b.wild.example.com", "localhost", ""})
        check(stranger, HTTP_METHOD_GET, 200, refused);
    const ControlCounts counts = accounts.counts();
    EXPECT_THAT(lines(counts.refused_requests),
                ElementsAre(" r2 POST 302 1", " r3 other 500 2", "home r1 GET 401 2"));
    EXPECT_EQ(counts.refused_elsewhere, 4U);
}

TEST_F(ControlAccountsTest, ATokenTellsTheSite) {
    accounts.set_directory(directory(), {});
    const auto ask = [&](std::string_view newt, std::uint64_t token, std::uint16_t status = 200) {
        count({.method = HTTP_METHOD_POST,
               .path = "/api/v1/auth/newt/get-token",
               .status = status,
               .subject = newt,
               .token = token,
               .started = 1000ms});
    };
    const auto websocket = [&](std::uint64_t token, std::uint16_t status, std::uint64_t connection) {
        count({.path = "/api/v1/ws",
               .status = status,
               .connection = connection,
               .client = HTTP_CLIENT_NEWT,
               .token = token,
               .started = 1080ms});
    };
    ask("n3wt", 11);
    ask("n3wt", 0, 400);
    ask("stranger", 12);
    websocket(11, 101, 1);
    websocket(11, 101, 2);
    websocket(11, 401, 3);
    websocket(12, 401, 4);
    websocket(0, 401, 5);
    const ControlCounts counts = accounts.counts();
    EXPECT_THAT(lines(counts.sign_ins),
                ElementsAre(" newt success 1", "home newt failure 1", "home newt success 1"));
    EXPECT_THAT(lines(counts.websocket_connections),
                ElementsAre("home success 2", "home unauthorized 1", "unassigned unauthorized 2"));
    EXPECT_THAT(lines(counts.active_websockets), ElementsAre("home 2"));
    // 80 ms between the requests and 3 to the end of the second one; coming back with a token is no
    // handshake.
    ASSERT_EQ(counts.websocket_handshakes.size(), 1U);
    EXPECT_EQ(counts.websocket_handshakes.at({"home"}).count(), 1U);
    EXPECT_NEAR(counts.websocket_handshakes.at({"home"}).sum(), 0.083, 1e-9);
}

TEST(TokenSites, AreBoundedAndExpire) {
    TokenSites tokens;
    for (std::uint64_t token = 1; token <= TokenSites::most_tokens + 10; ++token)
        tokens.issue(token, "home", 0s);
    EXPECT_EQ(tokens.forgotten(), 10U);
    EXPECT_EQ(tokens.find(10, 0s), nullptr);
    ASSERT_NE(tokens.find(11, 0s), nullptr);
    EXPECT_EQ(tokens.find(11, 0s)->site_id, "home");
    EXPECT_EQ(tokens.find(11, TokenSites::lifetime + 1s), nullptr);
    EXPECT_EQ(tokens.find(0, 0s), nullptr);
    // Those that expired make room without being missed.
    tokens.issue(1, "office", TokenSites::lifetime + 1s);
    EXPECT_EQ(tokens.forgotten(), 10U);
    EXPECT_EQ(tokens.find(11, 0s), nullptr);
    EXPECT_EQ(tokens.find(1, TokenSites::lifetime + 1s)->site_id, "office");
}

TEST(SessionCheck, IsJudgedAsBadgerDoes) {
    struct Case {
        std::uint16_t status;
        std::string_view body;
        SessionCheckResult result;
        std::uint16_t client_status;
    };
    using enum SessionCheckResult;
    for (const Case& each : std::initializer_list<Case>{
             {200, R"({"data":{"valid":true,"userId":"7"})", allowed, 0},
             {200, R"({"data":{"valid":false,"pangolinVersion":"1.22.0"})", refused, 401},
             {200, R"({"data":{"valid":false,"redirectUrl":"https://x/auth/resource/1)", refused, 302},
             {200, R"({"data":{"valid":false,"redirectUrl":null})", refused, 401},
             {200, R"({"data":{"valid":false,"redirectUrl":"")", refused, 401},
             {200, R"({"data":{"headerAuthChallenged":true,"valid":false,"redirectUrl":"https://x)", refused,
              401},
             {200, R"({"data":{"valid":false,"clientError":{"statusCode":403,"body":"{}"})", refused, 403},
             {200, R"({"data":{"valid":false,"clientError":{"statusCode":99999,)", refused, 401},
             {200, R"({"data":{"valid":false,"clientError":{"body":")", refused, 401},
             {200, "", error, 500},
             {400, R"({"data":{"valid":false}})", error, 500},
             {500, "", error, 500},
             {0, "", error, 500}}) {
        SCOPED_TRACE(each.body);
        const SessionCheck check = judge_session_check(each.status, each.body);
        EXPECT_EQ(check.result, each.result);
        EXPECT_EQ(check.client_status, each.client_status);
    }
}

TEST_F(ControlAccountsTest, WhatToAlertOnIsThereFromTheStart) {
    const ControlCounts counts = accounts.counts();
    EXPECT_THAT(counts.provider_errors, IsSupersetOf({Pair(LabelValuesOf<1>{"http_5xx"}, 0U)}));
    EXPECT_THAT(counts.background_jobs,
                IsSupersetOf({Pair(LabelValuesOf<2>{"bandwidth_report", "failure"}, 0U)}));
}

TEST_F(ControlAccountsTest, FollowsWebSockets) {
    accounts.set_directory(directory(), {});
    count({.path = "/api/v1/ws", .status = 401});
    count({.path = "/api/v1/ws", .status = 500});
    connect(1);
    EXPECT_THAT(lines(accounts.counts().active_websockets), ElementsAre("unassigned 1"));
    EXPECT_THAT(lines(accounts.counts().websocket_connections),
                ElementsAre("unassigned error 1", "unassigned unauthorized 1"));
    register_newt(1);
    connect(2, HTTP_CLIENT_OLM);
    EXPECT_THAT(lines(accounts.counts().active_websockets), ElementsAre("home 1", "unassigned 1"));
    EXPECT_THAT(lines(accounts.counts().websocket_connections),
                ElementsAre("home success 1", "unassigned error 1", "unassigned success 1",
                            "unassigned unauthorized 1"));
    close(1);
    close(1);
    close(77);
    // Down to zero, not away.
    EXPECT_EQ(accounts.counts().active_websockets, (CountsBy<1>{{{"home"}, 0}, {{"unassigned"}, 1}}));
    connect(3);
    register_newt(3);
    EXPECT_THAT(lines(accounts.counts().active_websockets), ElementsAre("home 1", "unassigned 1"));
    accounts.forget_websockets();
    EXPECT_THAT(lines(accounts.counts().active_websockets), IsEmpty());
}

TEST_F(ControlAccountsTest, AWebSocketWaitsForItsSite) {
    const Time start{};
    connect(1, HTTP_CLIENT_NEWT, start);
    register_newt(1);
    connect(2, HTTP_CLIENT_NEWT, start);
    connect(3, HTTP_CLIENT_NEWT, start);
    register_newt(3);
    close(3);
    accounts.expire(start + 59s);
    EXPECT_THAT(lines(accounts.counts().websocket_connections), IsEmpty());
    // The one that is gone by then is counted as well.
    accounts.set_directory(directory(), {});
    EXPECT_THAT(lines(accounts.counts().websocket_connections), ElementsAre("home success 2"));
    EXPECT_THAT(lines(accounts.counts().active_websockets), ElementsAre("home 1", "unassigned 1"));
    accounts.expire(start + 61s);
    EXPECT_THAT(lines(accounts.counts().websocket_connections),
                ElementsAre("home success 2", "unassigned success 1"));
    // Too late.
    register_newt(2);
    EXPECT_THAT(lines(accounts.counts().websocket_connections),
                ElementsAre("home success 2", "unassigned success 1"));
}

TEST_F(ControlAccountsTest, ForgetsSitesThatAreGoneAfterAWhile) {
    const Time start{};
    accounts.set_directory(directory(), start);
    connect(1, HTTP_CLIENT_NEWT, start);
    register_newt(1);
    close(1);
    const auto connections = [&] { return lines(accounts.counts().websocket_connections); };
    EXPECT_THAT(connections(), ElementsAre("home success 1"));
    accounts.set_directory(SiteDirectory(), start + 1min);
    accounts.set_directory(directory(), start + 5min);
    accounts.set_directory(SiteDirectory(), start + 6min);
    accounts.set_directory(SiteDirectory(), start + 6min + account_lifetime - 1s);
    EXPECT_THAT(connections(), ElementsAre("home success 1"));
    accounts.set_directory(SiteDirectory(), start + 6min + account_lifetime);
    EXPECT_THAT(connections(), IsEmpty());
    EXPECT_THAT(lines(accounts.counts().active_websockets), IsEmpty());
}

TEST_F(ControlAccountsTest, CountsMessagesOnceByTheirFirstFrame) {
    message(R"({"type":"newt/ping","data":{}})");
    message(R"({"type":"pong"})", false);
    message(R"({"type":"newt/receive-bandwidth","data":)");
    accounts.count(frame_of(R"([{"type":"newt/ping"}]})", true, 1, 0));
    accounts.count(frame_of("", true, 1, 9));
    accounts.count(frame_of("", false, 1, 10));
    http_frame elsewhere = frame_of(R"({"type":"newt/ping"})");
    elsewhere.event.service_port = 3002;
    accounts.count(elsewhere);
    EXPECT_THAT(lines(accounts.counts().websocket_messages),
                ElementsAre("egress pong 1", "egress ws_pong 1", "ingress newt/ping 1",
                            "ingress newt/receive-bandwidth 1", "ingress ws_ping 1"));
}

TEST_F(ControlAccountsTest, SeriesAreBounded) {
    std::uint64_t requests = 0;
    for (const ControlRoute& route : external_routes())
        for (unsigned method = 0; method < HTTP_METHODS; ++method)
            for (std::uint16_t status = 200; status < 230; ++status, ++requests)
                count({.method = static_cast<http_method>(method), .path = route.path, .status = status});
    const ControlCounts counts = accounts.counts();
    EXPECT_LE(counts.ui_requests.size(), ControlAccounts::most_series + 1);
    EXPECT_GT(counts.limited_requests, 0U);
    EXPECT_EQ(counts.ui_requests.at({"other", "other", "other"}), counts.limited_requests);
}

TEST_F(ControlAccountsTest, LengthsThatMakeNoSenseAreNoHarm) {
    http_exchange exchange = exchange_of({.path = "/api/v1/site/7"});
    exchange.target_length = 0xffff;
    exchange.body_length = 0xff;
    exchange.method = 0xff;
    accounts.count(exchange, {});
    http_frame frame = frame_of("{}");
    frame.payload_copied = 0xff;
    frame.opcode = 0xff;
    accounts.count(frame);
    EXPECT_THAT(lines(accounts.counts().ui_requests), ElementsAre("other other 200 1"));
    EXPECT_THAT(lines(accounts.counts().websocket_messages), ElementsAre("ingress other 1"));
}

// Secrets in each place where the kernel could leave one: none is anywhere in the process afterwards.
TEST_F(ControlAccountsTest, NothingIsKeptOfSecrets) {
    const auto log = std::make_shared<std::ostringstream>();
    const auto logger =
        std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_mt>(*log));
    logger->set_level(spdlog::level::trace);
    const auto previous = spdlog::default_logger();
    spdlog::set_default_logger(logger);

    const test::HiddenText secret(24,
                                  [](std::size_t i) { return static_cast<char>('A' + (i * 7 + 3) % 26); });
    // A control: a copy that somebody keeps is found.
    std::string kept(secret.size(), '\0');
    secret.reveal(kept.data());
    EXPECT_THAT(test::find_in_own_memory(secret), testing::Not(IsEmpty()));
    EXPECT_TRUE(secret.is_in(kept));
    explicit_bzero(kept.data(), kept.size());

    accounts.set_directory(directory(), {});
    struct Place {
        std::string_view path;
        http_method method;
        std::uint16_t port;
        std::uint16_t status;
    };
    const Place places[] = {
        {"/s/#", HTTP_METHOD_GET, 3002, 200},
        {"/api/v1/auth/device-web-auth/poll/#", HTTP_METHOD_GET, 3000, 200},
        {"/api/v1/resource-session/3/#", HTTP_METHOD_GET, 3001, 200},
        {"/api/v1/auth/resource/#/pincode", HTTP_METHOD_POST, 3000, 401},
        {"/nowhere/#", HTTP_METHOD_GET, 3003, 404},
        {"/api/v1/ws#", HTTP_METHOD_GET, 3000, 101},
        {"/api/v1/ws", HTTP_METHOD_GET, 3000, 101},
        {"/api/v1/auth/newt/get-token", HTTP_METHOD_POST, 3000, 200},
        {"/api/v1/badger/verify-session", HTTP_METHOD_POST, 3001, 200},
    };
    for (const Place& place : places) {
        http_exchange exchange = exchange_of({.port = place.port,
                                              .method = place.method,
                                              .path = place.path,
                                              .status = place.status,
                                              .client = HTTP_CLIENT_NEWT});
        char* const end = exchange.target + exchange.target_length;
        if (char* const mark = std::find(exchange.target, end, '#'); mark != end) {
            std::memmove(mark + secret.size(), mark + 1, static_cast<std::size_t>(end - mark - 1));
            secret.reveal(mark);
            exchange.target_length = static_cast<__u16>(exchange.target_length + secret.size() - 1);
        }
        secret.reveal(exchange.body);
        exchange.body_length = static_cast<__u8>(secret.size());
        secret.reveal(exchange.host);
        exchange.host_length = static_cast<__u8>(secret.size());
        accounts.count(exchange, {});
        explicit_bzero(&exchange, sizeof exchange);
    }
    for (const std::string_view start :
         {"{\"type\":\"", "{\"type\":\"newt/wg/register\",\"data\":{\"publicKey\":\"", "{\""}) {
        http_frame frame = frame_of(start);
        secret.reveal(reinterpret_cast<char*>(frame.payload) + start.size());
        frame.payload_copied = static_cast<__u8>(start.size() + secret.size());
        accounts.count(frame);
        // The same, stored in a gzip file (RFC 1952 and 1951: a header of ten bytes, one block as it is).
        std::array<std::uint8_t, 15> head{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1};
        head[11] = frame.payload_copied;
        head[13] = static_cast<std::uint8_t>(~frame.payload_copied);
        head[14] = 0xff;
        std::memmove(frame.payload + head.size(), frame.payload, frame.payload_copied);
        std::ranges::copy(head, frame.payload);
        frame.payload_copied = static_cast<__u8>(frame.payload_copied + head.size());
        frame.opcode = 2;
        accounts.count(frame);
        explicit_bzero(&frame, sizeof frame);
    }
    EXPECT_THAT(lines(accounts.counts().websocket_messages),
                ElementsAre("ingress compressed 2", "ingress newt/wg/register 2", "ingress other 2"));
    accounts.expire(Time{} + 1h);
    EXPECT_THAT(test::find_in_own_memory(secret), IsEmpty());
    EXPECT_FALSE(secret.is_in(log->str()));
    spdlog::set_default_logger(previous);
}

}  // namespace
}  // namespace pangolin
