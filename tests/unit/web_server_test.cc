#include "exporter/web_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "exporter/content_negotiation.h"
#include "tests/support/http_client.h"
#include "tests/support/random_snapshot.h"

namespace pangolin {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr std::string_view get_health = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

class WebServerTest : public testing::Test {
  protected:
    void start() {
        options.listen = {{.host = "127.0.0.1", .port = 0}};
        auto result =
            WebServer::start(options, {.snapshot = provider, .problems = [this] { return problems; }});
        ASSERT_TRUE(result) << result.error().message();
        server = std::move(*result);
        port = server->addresses().at(0).port;
    }

    // One request on a connection of its own.
    std::string request(std::string_view line, std::string_view headers = "") const {
        TestClient client(port);
        client.send(std::string(line) + "\r\nHost: x\r\nConnection: close\r\n" + std::string(headers) +
                    "\r\n");
        return client.receive();
    }

    WebServerOptions options;
    SnapshotProvider provider = [snapshot = random_snapshot(1)] { return snapshot; };
    std::vector<std::string> problems;
    std::unique_ptr<WebServer> server;
    std::uint16_t port = 0;
};

TEST_F(WebServerTest, Health) {
    start();
    const std::string answer = request("GET /healthz HTTP/1.1");
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
    EXPECT_THAT(answer, HasSubstr("\r\nCache-Control: no-store\r\n"));
    EXPECT_THAT(answer, Not(HasSubstr("\r\nServer:")));
    EXPECT_TRUE(answer.ends_with("\r\n\r\nok\n"));
}

TEST_F(WebServerTest, Readiness) {
    start();
    EXPECT_THAT(request("GET /readyz HTTP/1.1"), StartsWith("HTTP/1.1 200 "));
    server.reset();
    problems = {"no WireGuard interface", "no metadata"};
    start();
    const std::string answer = request("GET /readyz HTTP/1.1");
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 503 "));
    EXPECT_TRUE(answer.ends_with("\r\n\r\nno WireGuard interface\nno metadata\n"));
    EXPECT_THAT(request("GET / HTTP/1.1"), HasSubstr("<li>no metadata</li>"));
}

TEST_F(WebServerTest, Metrics) {
    start();
    std::string answer = request("GET /metrics?x=1 HTTP/1.1");
    EXPECT_THAT(answer, HasSubstr("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    EXPECT_THAT(answer, HasSubstr("\r\nTransfer-Encoding: chunked\r\n"));
    EXPECT_THAT(answer, HasSubstr("\npangolin_site_bandwidth_bytes_total{"));
    EXPECT_THAT(answer, HasSubstr("\nprocess_resident_memory_bytes "));
    EXPECT_TRUE(answer.ends_with("\r\n0\r\n\r\n"));
    answer = request("GET /metrics HTTP/1.1", "Accept: application/openmetrics-text;version=1.0.0\r\n");
    EXPECT_THAT(
        answer,
        HasSubstr("\r\nContent-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"));
    EXPECT_THAT(answer, HasSubstr("\n# EOF\n"));
    answer = request("GET /metrics HTTP/1.1", "Accept-Encoding: gzip\r\n");
    EXPECT_THAT(answer, HasSubstr("\r\nContent-Encoding: gzip\r\n"));
    answer = request("GET /metrics HTTP/1.1", "Accept-Encoding: gzip;q=0\r\n");
    EXPECT_THAT(answer, Not(HasSubstr("Content-Encoding")));
    answer = request("GET http://host:1/metrics HTTP/1.1");
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 "));
}

TEST_F(WebServerTest, Http10AnswerEndsWithTheConnection) {
    start();
    const std::string answer = TestClient(port).send("GET /metrics HTTP/1.0\r\n\r\n").receive();
    EXPECT_THAT(answer, StartsWith("HTTP/1.0 200 "));
    EXPECT_THAT(answer, Not(HasSubstr("Transfer-Encoding")));
    EXPECT_THAT(answer, HasSubstr("\r\n\r\n# HELP "));
    EXPECT_TRUE(answer.ends_with("\n"));
}

TEST_F(WebServerTest, TelemetryPathIsConfigurable) {
    options.telemetry_path = "/telemetry";
    start();
    EXPECT_THAT(request("GET /telemetry HTTP/1.1"), StartsWith("HTTP/1.1 200 "));
    EXPECT_THAT(request("GET /metrics HTTP/1.1"), StartsWith("HTTP/1.1 404 "));
    EXPECT_THAT(request("GET / HTTP/1.1"), HasSubstr("href=\"/telemetry\""));
}

TEST_F(WebServerTest, RefusesWhatItDoesNotServe) {
    struct Case {
        const char* description;
        std::string request;
        const char* status;
    };
    const Case cases[] = {
        {"unknown path", "GET /x HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
        {"other method", "DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "405"},
        {"unheard-of method", "BREW / HTTP/1.1\r\nHost: x\r\n\r\n", "405"},
        {"body", "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "413"},
        {"chunked body", "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "413"},
        {"no Host", "GET / HTTP/1.1\r\n\r\n", "400"},
        {"garbage", "\x01\x02\x03\x04 garbage\r\n\r\n", "400"},
        {"TLS", std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11), "400"},
        {"version", "GET / HTTP/3.0\r\nHost: x\r\n\r\n", "505"},
        {"long header", "GET / HTTP/1.1\r\nHost: x\r\nX: " + std::string(70000, 'x') + "\r\n\r\n", "431"},
        {"long target", "GET /" + std::string(70000, 'x') + " HTTP/1.1\r\nHost: x\r\n\r\n", "431"},
    };
    start();
    for (const Case& test : cases) {
        TestClient client(port);
        const std::string answer = client.send(test.request).end_sending().receive();
        EXPECT_THAT(answer, StartsWith(std::string("HTTP/1.1 ") + test.status)) << test.description;
        EXPECT_TRUE(client.closed()) << test.description;
    }
    EXPECT_THAT(request("POST / HTTP/1.1"), HasSubstr("\r\nAllow: GET, HEAD\r\n"));
}

TEST_F(WebServerTest, HeadHasNoBody) {
    start();
    for (const char* const path : {"/metrics", "/", "/healthz", "/readyz", "/nothing"}) {
        const std::string answer = request("HEAD " + std::string(path) + " HTTP/1.1");
        EXPECT_TRUE(answer.ends_with("\r\n\r\n")) << answer;
        EXPECT_EQ(answer.find("\r\n\r\n"), answer.size() - 4) << answer;
    }
}

TEST_F(WebServerTest, PipelinedRequestsOnOneConnection) {
    start();
    std::string requests;
    for (int i = 0; i < 100; ++i)
        requests += i % 10 ? get_health : "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    const std::string answers = TestClient(port).send(requests).end_sending().receive();
    std::size_t count = 0;
    for (std::size_t at = answers.find("HTTP/1.1 200"); at != std::string::npos;
         at = answers.find("HTTP/1.1 200", at + 1))
        ++count;
    EXPECT_EQ(count, 100U);
}

TEST_F(WebServerTest, GivesUpSlowClients) {
    options.limits.header_time = 200ms;
    options.limits.idle_time = 200ms;
    start();
    TestClient silent(port);
    TestClient slow(port);
    TestClient idle(port);
    slow.send("GET / HTTP/1.1\r\nHo");
    EXPECT_TRUE(idle.send(get_health).receive("ok\n").ends_with("ok\n"));
    for (TestClient* const client : {&silent, &slow, &idle}) {
        EXPECT_EQ(client->receive(), "");
        EXPECT_TRUE(client->closed());
    }
}

TEST_F(WebServerTest, GivesUpAClientThatDoesNotRead) {
    options.limits.stall_time = 300ms;
    options.max_scrapes = 1;
    provider = [snapshot = random_snapshot(1, {.sites = 20000})] { return snapshot; };
    start();
    TestClient lazy(port);
    lazy.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    std::this_thread::sleep_for(100ms);
    EXPECT_THAT(request("GET /metrics HTTP/1.1"), StartsWith("HTTP/1.1 503 "));
    std::string answer;
    for (int i = 0; i < 50 && !answer.starts_with("HTTP/1.1 200"); ++i) {
        std::this_thread::sleep_for(100ms);
        answer = request("HEAD /metrics HTTP/1.1");
    }
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 "));
}

TEST_F(WebServerTest, WhoRestsLongestMakesRoom) {
    options.max_connections = 3;
    start();
    std::vector<TestClient> clients;
    for (int i = 0; i < 3; ++i)
        clients.emplace_back(port).send(get_health).receive("ok\n");
    clients[0].send(get_health).receive("ok\n");
    TestClient late(port);
    EXPECT_THAT(late.send(get_health).receive("ok\n"), StartsWith("HTTP/1.1 200 "));
    EXPECT_EQ(clients[1].receive(), "") << "cut off";
    for (TestClient* const other : {&clients[0], &clients[2], &late})
        EXPECT_THAT(other->send(get_health).receive("ok\n"), StartsWith("HTTP/1.1 200 "));
}

TEST_F(WebServerTest, WhoKeepsItWaitingMakesRoomAfterAWhile) {
    options.max_connections = 3;
    start();
    std::vector<TestClient> clients;
    for (int i = 0; i < 3; ++i)
        clients.emplace_back(port).send("GET /");
    std::this_thread::sleep_for(ClientList::patience / 2);
    EXPECT_THAT(TestClient(port).send(get_health).receive(), StartsWith("HTTP/1.1 503 "));
    std::this_thread::sleep_for(ClientList::patience);
    EXPECT_THAT(TestClient(port).send(get_health).receive("ok\n"), StartsWith("HTTP/1.1 200 "));
    clients.clear();
    std::string answer;
    for (int i = 0; i < 50 && !answer.contains("\npangolin_exporter_http_connections 1\n"); ++i) {
        std::this_thread::sleep_for(20ms);
        answer = request("GET /metrics HTTP/1.1");
    }
    EXPECT_THAT(answer, HasSubstr("\npangolin_exporter_http_connections_rejected_total "));
    EXPECT_THAT(answer, HasSubstr("\npangolin_exporter_http_connections 1\n"));
}

TEST_F(WebServerTest, ScrapesShareOneCollection) {
    std::atomic<int> calls = 0;
    std::atomic<bool> go = false;
    provider = [&, snapshot = random_snapshot(1)] {
        ++calls;
        while (!go)
            std::this_thread::sleep_for(1ms);
        return snapshot;
    };
    start();
    std::vector<TestClient> clients;
    for (int i = 0; i < 8; ++i)
        clients.emplace_back(port).send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    // Meanwhile the web thread answers.
    EXPECT_THAT(request("GET /healthz HTTP/1.1"), StartsWith("HTTP/1.1 200 "));
    std::this_thread::sleep_for(50ms);
    go = true;
    for (TestClient& client : clients)
        EXPECT_THAT(client.receive("\r\n0\r\n\r\n"), HasSubstr("process_max_fds"));
    EXPECT_EQ(calls, 1);
}

TEST_F(WebServerTest, SaysWhyThereAreNoMetrics) {
    provider = [] { return nullptr; };
    start();
    EXPECT_THAT(request("GET /metrics HTTP/1.1"), StartsWith("HTTP/1.1 503 "));
    EXPECT_THAT(request("GET / HTTP/1.1"), HasSubstr("Nothing has been collected yet"));
    server.reset();
    provider = []() -> std::shared_ptr<const Snapshot> { throw std::runtime_error("<no> idea"); };
    start();
    EXPECT_THAT(request("GET /metrics HTTP/1.1"), HasSubstr("the collection failed: <no> idea"));
    EXPECT_THAT(request("GET / HTTP/1.1"), HasSubstr("&lt;no&gt; idea"));
    server.reset();
    options.collection_patience = 50ms;
    provider = [snapshot = random_snapshot(1)] {
        std::this_thread::sleep_for(300ms);
        return snapshot;
    };
    start();
    EXPECT_THAT(request("GET /metrics HTTP/1.1"), HasSubstr("the collection takes longer than 50 ms"));
}

TEST_F(WebServerTest, AnswersWithinTheScrapesTimeout) {
    provider = [snapshot = random_snapshot(1)] {
        std::this_thread::sleep_for(1s);
        return snapshot;
    };
    start();
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_THAT(request("GET /metrics HTTP/1.1", "X-Prometheus-Scrape-Timeout-Seconds: 0.2\r\n"),
                AllOf(StartsWith("HTTP/1.1 503 "), HasSubstr("takes longer than 180 ms")));
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 900ms);
    for (const char* value : {"10", "0", "-1", "nan", "1e99", "x"})
        EXPECT_THAT(request("GET /metrics HTTP/1.1",
                            "X-Prometheus-Scrape-Timeout-Seconds: " + std::string(value) + "\r\n"),
                    StartsWith("HTTP/1.1 200 "))
            << value;
}

TEST_F(WebServerTest, PortInUseSaysByWhom) {
    start();
    auto second = WebServer::start({.listen = {{.host = "127.0.0.1", .port = port}}}, {.snapshot = provider});
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, EADDRINUSE);
    EXPECT_THAT(second.error().what,
                StartsWith("port " + std::to_string(port) + " on 127.0.0.1 is in use by "));
    EXPECT_THAT(second.error().what, HasSubstr("(pid " + std::to_string(getpid()) + ")"));
    EXPECT_THAT(second.error().hint, HasSubstr("OpenTelemetry"));
}

TEST_F(WebServerTest, AddressThatIsNotOurs) {
    auto result = WebServer::start({.listen = {{.host = "192.0.2.1", .port = 0}}}, {.snapshot = provider});
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, EADDRNOTAVAIL);
    EXPECT_THAT(result.error().message(), HasSubstr("192.0.2.1"));
}

TEST_F(WebServerTest, SeveralAddresses) {
    auto result = WebServer::start({.listen = {{.host = "127.0.0.1", .port = 0},
                                               {.host = "127.0.0.2", .port = 0},
                                               {.host = "", .port = 0}}},
                                   {.snapshot = provider});
    ASSERT_TRUE(result) << result.error().message();
    ASSERT_EQ((*result)->addresses().size(), 3U);
    EXPECT_EQ((*result)->addresses()[1].host, "127.0.0.2");
    for (const std::size_t reachable : {0U, 2U})
        EXPECT_THAT(TestClient((*result)->addresses()[reachable].port).send(get_health).receive("ok\n"),
                    HasSubstr("200"));
}

TEST_F(WebServerTest, StopsWhileEverythingIsGoingOn) {
    provider = [snapshot = random_snapshot(1, {.sites = 20000})] {
        std::this_thread::sleep_for(20ms);
        return snapshot;
    };
    for (int i = 0; i < 10; ++i) {
        start();
        std::vector<TestClient> clients;
        for (const std::string_view text :
             {"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "GET /me", "", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"})
            clients.emplace_back(port).send(text);
        std::this_thread::sleep_for(i * 5ms);
        server->stop();
        server->stop();
        server.reset();
    }
}

TEST(ContentNegotiation, Format) {
    struct Case {
        const char* accept;
        ExpositionFormat expected;
    };
    constexpr auto text = ExpositionFormat::text;
    constexpr auto open_metrics = ExpositionFormat::open_metrics;
    const Case cases[] = {
        {"", text},
        {"*/*", text},
        {"text/html,application/xhtml+xml,*/*;q=0.8", text},
        {"application/openmetrics-text", open_metrics},
        {"APPLICATION/OpenMetrics-Text ; Version=1.0.0", open_metrics},
        {"application/openmetrics-text;version=0.0.1", text},
        {"application/openmetrics-text;q=0", text},
        {"application/openmetrics-text;q=0.4,text/plain;q=0.5", text},
        {"application/openmetrics-text;q=0.5,text/plain;q=0.4", open_metrics},
        {"application/openmetrics-text;q=junk, text/plain;q=0.1", text},
        {"application/openmetrics-text; version=\"1.0.0\"; charset=utf-8", open_metrics},
        // Prometheus 2.42, 3.0
        {"application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
         "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
         open_metrics},
        {"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;"
         "version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/"
         "plain;version=0.0.4;q=0.3,"
         "*/*;q=0.2",
         open_metrics},
        {";;;,,,=,q=", text},
    };
    for (const Case& test : cases)
        EXPECT_EQ(negotiate_format(test.accept), test.expected) << test.accept;
}

TEST(ContentNegotiation, Gzip) {
    for (const char* const accepting :
         {"gzip", "gzip, deflate, br", "deflate;q=0.5,GZIP;q=0.1", "*", "x-gzip"})
        EXPECT_TRUE(accepts_gzip(accepting)) << accepting;
    for (const char* const refusing :
         {"", "identity", "gzip;q=0", "gzip;q=0.000, *", "*;q=0", "deflate", "gzip;q=x"})
        EXPECT_FALSE(accepts_gzip(refusing)) << refusing;
}

}  // namespace
}  // namespace pangolin
