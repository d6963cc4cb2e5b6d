#include "exporter/application/otlp_receiver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "exporter/application/gunzip.h"
#include "tests/support/given_away.h"
#include "tests/support/gzip.h"
#include "tests/support/http_client.h"
#include "tests/support/scratch_folder.h"

namespace pangolin {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::StartsWith;

constexpr std::string_view sessions =
    R"({"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"pangolin_ui_active_sessions","gauge":{"dataPoints":[{"asInt":"5"}]}}]}]}]})";

class OtlpReceiverTest : public testing::Test {
  protected:
    void start() {
        options.listen = {.host = "127.0.0.1", .port = 0};
        auto started = OtlpReceiver::start(options, registry);
        ASSERT_TRUE(started) << started.error().message();
        receiver = std::move(*started);
        port = receiver->addresses().at(0).port;
    }

    std::string post(std::string_view body, std::string_view headers = "Content-Type: application/json\r\n",
                     std::string_view target = "/v1/metrics") const {
        TestClient client(port);
        client.send("POST " + std::string(target) + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" +
                    std::string(headers) + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n");
        client.send(body);
        return client.receive();
    }

    double sessions_now() {
        const auto snapshot = registry.collect();
        const auto* const family = snapshot->find("pangolin_ui_active_sessions");
        return family ? std::get<double>(family->series.at(0).value) : -1;
    }

    ApplicationMetrics registry{everything_given_away()};
    OtlpReceiverOptions options;
    std::unique_ptr<OtlpReceiver> receiver;
    std::uint16_t port = 0;
};

TEST_F(OtlpReceiverTest, TakesMetrics) {
    start();
    const std::string answer = post(sessions);
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
    EXPECT_THAT(answer, HasSubstr("\r\nContent-Type: application/json\r\n"));
    EXPECT_TRUE(answer.ends_with("\r\n\r\n{}")) << answer;
    EXPECT_EQ(sessions_now(), 5);
}

TEST_F(OtlpReceiverTest, TakesWhatIsPacked) {
    start();
    const std::string headers = "Content-Type: application/json; charset=utf-8\r\nContent-Encoding: gzip\r\n";
    EXPECT_THAT(post(gzip(sessions), headers), StartsWith("HTTP/1.1 200 "));
    EXPECT_EQ(sessions_now(), 5);
}

TEST_F(OtlpReceiverTest, TakesChunksAndExpectations) {
    start();
    TestClient client(port);
    client.send(
        "POST /v1/metrics HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n");
    EXPECT_EQ(client.receive("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    char size[16];
    const int length = std::snprintf(size, sizeof size, "%zx\r\n", sessions.size());
    client.send({size, static_cast<std::size_t>(length)}).send(sessions).send("\r\n0\r\n\r\n");
    EXPECT_THAT(client.receive("{}"), StartsWith("HTTP/1.1 200 "));
    // The connection goes on.
    client.send(
        "POST /v1/metrics HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
        "2\r\n\r\n{}");
    EXPECT_THAT(client.receive("{}"), StartsWith("HTTP/1.1 200 "));
}

TEST_F(OtlpReceiverTest, SaysWhatItRejected) {
    start();
    const std::string answer = post(
        R"({"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"pangolin_exporter_attachments","gauge":{"dataPoints":[{"asInt":"5"}]}}]}]}]})");
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 "));
    EXPECT_THAT(answer, HasSubstr(R"("rejectedDataPoints":"1","errorMessage":"owned_by_exporter: 1")"));
}

TEST_F(OtlpReceiverTest, RefusesWhatItDoesNotServe) {
    options.limits.body_bytes = 10'000;
    options.unpacked_bytes = 100'000;
    start();
    const std::string json = "Content-Type: application/json\r\n";
    const std::string protobuf = "Content-Type: application/x-protobuf\r\n";
    struct Case {
        const char* description;
        std::string answer;
        const char* status;
        const char* content = "";
    };
    const Case cases[] = {
        {"no JSON", post("{", json), "400", R"({"code":3,"message":"the body is no JSON of OTLP)"},
        {"no protobuf", post("text", protobuf), "400", "\x08\x03\x12"},
        {"no gzip", post("text", json + "Content-Encoding: gzip\r\n"), "400"},
        {"half a gzip", post(gzip(sessions).substr(0, 30), json + "Content-Encoding: gzip\r\n"), "400"},
        {"other path", post(sessions, json, "/v1/traces"), "404"},
        {"other type", post(sessions, "Content-Type: text/plain\r\n"), "415"},
        {"no type", post(sessions, ""), "415"},
        {"other packing", post(sessions, json + "Content-Encoding: br\r\n"), "415", "Accept-Encoding: gzip"},
        {"long", post(std::string(10'001, ' '), json), "413"},
        {"bomb", post(gzip(std::string(5'000'000, ' ')), json + "Content-Encoding: gzip\r\n"), "413",
         "longer than 100000 bytes"},
        {"get",
         TestClient(port).send("GET /v1/metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").receive(),
         "405", "Allow: POST\r\n"},
    };
    for (const Case& test : cases) {
        EXPECT_THAT(test.answer, StartsWith(std::string("HTTP/1.1 ") + test.status)) << test.description;
        EXPECT_THAT(test.answer, HasSubstr(test.content)) << test.description;
    }
    EXPECT_EQ(sessions_now(), -1);
    const auto snapshot = registry.collect();
    EXPECT_NE(snapshot->find("pangolin_exporter_otlp_responses_total"), nullptr);
}

// Its length is not told beforehand.
TEST_F(OtlpReceiverTest, EndsALongChunkedBody) {
    options.limits.body_bytes = 100'000;
    start();
    TestClient client(port);
    client.send(
        "POST /v1/metrics HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\n\r\n");
    const std::string chunk = "4000\r\n" + std::string(0x4000, ' ') + "\r\n";
    for (int i = 0; i < 8; ++i)
        client.send(chunk);
    EXPECT_THAT(client.receive(), StartsWith("HTTP/1.1 413 "));
}

TEST_F(OtlpReceiverTest, GivesUpASlowBody) {
    options.limits.body_time = 200ms;
    start();
    TestClient client(port);
    client.send(
        "POST /v1/metrics HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
        "100\r\n\r\n{");
    EXPECT_EQ(client.receive(), "");
    EXPECT_TRUE(client.closed());
}

TEST_F(OtlpReceiverTest, BodiesOfAllClientsAreBounded) {
    options.limits.all_bodies_bytes = 100'000;
    start();
    const std::string header =
        "POST /v1/metrics HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
        "1000000\r\n\r\n";
    TestClient first(port);
    first.send(header + std::string(90'000, ' '));
    std::string answer;
    for (int i = 0; i < 100 && !answer.starts_with("HTTP/1.1 503"); ++i)
        answer = TestClient(port).send(header + std::string(90'000, ' ')).receive("\r\n\r\n");
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 503 "));
    EXPECT_THAT(answer, HasSubstr("\r\nRetry-After: 1\r\n"));
}

TEST_F(OtlpReceiverTest, LimitsConnections) {
    options.max_connections = 2;
    start();
    std::vector<TestClient> clients;
    for (int i = 0; i < 2; ++i)
        clients.emplace_back(port).send("POST /v1/metrics HTTP/1.1\r\n");
    std::this_thread::sleep_for(100ms);
    EXPECT_THAT(TestClient(port).receive(),
                testing::AllOf(StartsWith("HTTP/1.1 503 "), HasSubstr("\r\nRetry-After: ")));
}

TEST_F(OtlpReceiverTest, WantsTheTokenOfAFileThatMayChange) {
    const ScratchFolder folder;
    options.token_file = folder.path("token");
    const auto write = [&](const char* text) { std::ofstream(options.token_file) << text; };
    EXPECT_FALSE(OtlpReceiver::start(options, registry));
    write("\n");
    EXPECT_FALSE(OtlpReceiver::start(options, registry));
    write("secret\n");
    start();
    const auto with = [&](const char* authorization) {
        return post(sessions, "Content-Type: application/json\r\n" + std::string(authorization));
    };
    EXPECT_THAT(with(""), StartsWith("HTTP/1.1 401 "));
    EXPECT_THAT(with(""), HasSubstr("\r\nWWW-Authenticate: Bearer\r\n"));
    for (const char* const wrong :
         {"Authorization: Bearer secre\r\n", "Authorization: Bearer secretsecret\r\n",
          "Authorization: Basic secret\r\n", "Authorization: Bearer\r\n"})
        EXPECT_THAT(with(wrong), StartsWith("HTTP/1.1 401 ")) << wrong;
    EXPECT_EQ(sessions_now(), -1);
    EXPECT_THAT(with("Authorization: bearer secret\r\n"), StartsWith("HTTP/1.1 200 "));
    write("other secret");
    EXPECT_THAT(with("Authorization: Bearer secret\r\n"), StartsWith("HTTP/1.1 401 "));
    EXPECT_THAT(with("Authorization: Bearer other secret\r\n"), StartsWith("HTTP/1.1 200 "));
    std::remove(options.token_file.c_str());
    EXPECT_THAT(with("Authorization: Bearer other secret\r\n"), StartsWith("HTTP/1.1 503 "));
}

TEST(Gunzip, StopsWhereTheLimitIs) {
    const std::string plain(200'000, 'x');
    EXPECT_EQ(gunzip(gzip(plain), plain.size()).value(), plain);
    EXPECT_EQ(gunzip(gzip(plain), plain.size() - 1).error().code, E2BIG);
    EXPECT_EQ(gunzip(gzip("a") + gzip("b"), 2).value(), "ab");
    EXPECT_EQ(gunzip("", 10).error().code, EINVAL);
    EXPECT_EQ(gunzip(gzip("a") + "rest", 10).error().code, EINVAL);
    EXPECT_EQ(gunzip(gzip(""), 10).value(), "");
}

}  // namespace
}  // namespace pangolin
