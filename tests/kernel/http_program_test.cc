// The HTTP programs on real sockets of one namespace: loopback, where both ends pass the hooks.
#include "loader/http_program.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "loader/socket_program.h"
#include "tests/support/privileges.h"
#include "tests/support/tun_device.h"

namespace pangolin::test {
namespace {

constexpr std::uint16_t target_port = 4080;
constexpr std::uint16_t service_port = 3000;
constexpr std::uint32_t index = 7;

NetworkNamespace this_namespace() {
    NetworkNamespace netns;
    netns.path = "/proc/self/task/" + std::to_string(::gettid()) + "/ns/net";
    struct stat status{};
    ::stat(netns.path.c_str(), &status);
    netns.id = {.device = status.st_dev, .inode = status.st_ino};
    return netns;
}

// A client and a server on one connection.
class Pair {
  public:
    explicit Pair(std::uint16_t port) {
        const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const int yes = 1;
        ::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        const auto* const where = reinterpret_cast<const sockaddr*>(&address);
        EXPECT_EQ(::bind(listener.get(), where, sizeof address), 0);
        EXPECT_EQ(::listen(listener.get(), 8), 0);
        client_ = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        EXPECT_EQ(::connect(client_.get(), where, sizeof address), 0);
        server_ = UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    }

    void ask(const std::string& text) { carry(client_.get(), server_.get(), text); }
    void answer(const std::string& text) { carry(server_.get(), client_.get(), text); }
    void close_server() { server_ = UniqueFd(); }
    void close() {
        server_ = UniqueFd();
        client_ = UniqueFd();
    }

  private:
    static void carry(int from, int to, const std::string& text) {
        std::jthread sender([&] {
            for (std::size_t sent = 0; sent < text.size();) {
                const ssize_t size = ::send(from, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
                if (size <= 0)
                    return;
                sent += static_cast<std::size_t>(size);
            }
        });
        std::vector<char> buffer(1 << 20);
        for (std::size_t received = 0; received < text.size();) {
            const ssize_t size =
                ::recv(to, buffer.data(), std::min(buffer.size(), text.size() - received), 0);
            ASSERT_GT(size, 0);
            received += static_cast<std::size_t>(size);
        }
    }

    UniqueFd client_;
    UniqueFd server_;
};

class HttpProgramTest : public testing::Test {
  protected:
    void SetUp() override {
        PANGOLIN_REQUIRE_ROOT();
        netns_.emplace();
        ASSERT_TRUE(netns_->entered());
        ASSERT_EQ(std::system("ip link set lo up"), 0);
        auto sockets = SocketProgram::attach();
        ASSERT_TRUE(sockets) << sockets.error().message();
        sockets_.emplace(std::move(*sockets));
        const SocketTarget target{.address = *IpAddress::parse("127.0.0.1"),
                                  .port = target_port,
                                  .netns = 0,
                                  .index = index,
                                  .http = true};
        ASSERT_TRUE(sockets_->set_targets({target}));
        ASSERT_TRUE(sockets_->set_namespaces({this_namespace()}));
        auto program = HttpProgram::attach({.sockets_fd = sockets_->sockets_fd(), .cgroups = {}},
                                           [this](const http_event& event) { take(event); });
        ASSERT_TRUE(program) << program.error().message();
        program_.emplace(std::move(*program));
        program_->set_target_ports({target_port});
        ASSERT_TRUE(program_->set_services(
            {{.netns = static_cast<std::uint32_t>(this_namespace().id.inode), .port = service_port}}));
    }

    void take(const http_event& event) {
        const auto* const bytes = reinterpret_cast<const char*>(&event);
        switch (event.type) {
            case HTTP_EVENT_EXCHANGE:
                exchanges_.push_back(reinterpret_cast<const http_exchange&>(event));
                raw_.append(bytes, sizeof(http_exchange));
                break;
            case HTTP_EVENT_FRAME:
                frames_.push_back(reinterpret_cast<const http_frame&>(event));
                raw_.append(bytes, sizeof(http_frame));
                break;
            default:
                closed_ += 1;
        }
    }

    std::map<std::pair<int, int>, std::uint64_t> requests() const {
        std::map<std::pair<int, int>, std::uint64_t> result;
        const HttpCounts counts = program_->read();
        for (const HttpRequests& count : counts.requests) {
            EXPECT_EQ(count.key.target, index);
            result[{count.key.method, count.key.status}] = count.requests;
        }
        return result;
    }

    http_target_counts counts() const {
        const auto all = program_->read().targets;
        return all.empty() ? http_target_counts{} : all.front().counts;
    }

    void expect_nothing_lost() const {
        const HttpTotals totals = program_->totals();
        for (std::size_t reason = 0; reason < HTTP_LOSSES; ++reason)
            EXPECT_EQ(totals.lost[reason], 0U) << reason;
    }

    std::optional<NewNetworkNamespace> netns_;
    std::optional<SocketProgram> sockets_;
    std::optional<HttpProgram> program_;
    std::vector<http_exchange> exchanges_;
    std::vector<http_frame> frames_;
    std::string raw_;
    int closed_ = 0;
};

std::string response(int status, const std::string& body) {
    return "HTTP/1.1 " + std::to_string(status) + " x\r\nContent-Length: " + std::to_string(body.size()) +
           "\r\n\r\n" + body;
}

const std::string get = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";

TEST_F(HttpProgramTest, CountsExchangesOnce) {
    Pair pair(target_port);
    for (int i = 0; i < 3; ++i) {
        pair.ask(get);
        EXPECT_EQ(counts().open_requests, 1);
        pair.answer(response(200 + i, "ok"));
        EXPECT_EQ(counts().open_requests, 0);
    }
    EXPECT_EQ(requests(),
              (std::map<std::pair<int, int>, std::uint64_t>{
                  {{HTTP_METHOD_GET, 200}, 1}, {{HTTP_METHOD_GET, 201}, 1}, {{HTTP_METHOD_GET, 202}, 1}}));
    EXPECT_EQ(program_->connections(), 1U);
    pair.close();
    EXPECT_EQ(program_->connections(), 0U);
    expect_nothing_lost();
}

// Loopback hands over packets of 64 KiB.
TEST_F(HttpProgramTest, PassesLargeBodies) {
    const std::string body(40 << 20, 'x');
    std::string chunks;
    for (int i = 0; i < 3000; ++i)
        chunks += "800\r\n" + std::string(2048, 'y') + "\r\n";
    const std::string chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + "0\r\n\r\n";
    const std::string plain = response(201, body);
    Pair pair(target_port);
    pair.ask("POST / HTTP/1.1\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
    pair.answer(plain);
    pair.ask(get);
    pair.answer(chunked);
    pair.ask(get);
    pair.answer(response(204, ""));
    EXPECT_EQ(requests(),
              (std::map<std::pair<int, int>, std::uint64_t>{
                  {{HTTP_METHOD_POST, 201}, 1}, {{HTTP_METHOD_GET, 200}, 1}, {{HTTP_METHOD_GET, 204}, 1}}));
    EXPECT_EQ(counts().size_sum, plain.size() + chunked.size() + response(204, "").size());
    pair.close();
    expect_nothing_lost();
}

TEST_F(HttpProgramTest, CountsWhatWasCutOff) {
    {
        Pair pair(target_port);
        pair.ask(get);
        pair.answer("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort");
        pair.close();
    }
    {
        Pair pair(target_port);
        pair.ask(get);
        pair.answer("HTTP/1.0 200 OK\r\n\r\nuntil the end");
        pair.close_server();
        EXPECT_EQ(requests(), (std::map<std::pair<int, int>, std::uint64_t>{{{HTTP_METHOD_GET, 200}, 2}}));
        pair.close();
    }
    {
        Pair pair(target_port);
        pair.ask(get);
        pair.close();
    }
    EXPECT_EQ(requests(), (std::map<std::pair<int, int>, std::uint64_t>{
                              {{HTTP_METHOD_GET, 200}, 2}, {{HTTP_METHOD_GET, HTTP_STATUS_NONE}, 1}}));
    EXPECT_EQ(counts().aborted, 2U);
    EXPECT_EQ(counts().open_requests, 0);
    expect_nothing_lost();
}

TEST_F(HttpProgramTest, CountsWebSocketsWhileTheyAreOpen) {
    Pair pair(target_port);
    pair.ask("GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n");
    pair.answer("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n");
    pair.ask("\x81\x02xy");
    EXPECT_EQ(counts().open_websockets, 1);
    EXPECT_EQ(counts().open_requests, 0);
    pair.close();
    EXPECT_EQ(counts().open_websockets, 0);
    EXPECT_TRUE(program_->read().durations.empty());
    expect_nothing_lost();
}

// By target, method and status.
using OwnedRequests = std::map<std::tuple<std::uint32_t, int, int>, std::uint64_t>;

TEST_F(HttpProgramTest, TellsTargetsAtOneAddressApartByHost) {
    constexpr std::uint32_t other = 9;
    ASSERT_TRUE(program_->set_hosts({{.target = index, .name = "Other.Example", .owner = other}}));
    const auto ask_for = [](const std::string& fields) { return "GET / HTTP/1.1\r\n" + fields + "\r\n"; };
    const auto open_of = [&](std::uint32_t target) {
        const HttpCounts counts = program_->read();
        for (const HttpTargetCounts& each : counts.targets)
            if (each.target == target)
                return std::pair(each.counts.open_requests, each.counts.open_websockets);
        return std::pair(__s64{0}, __s64{0});
    };
    struct Case {
        std::string fields;
        std::uint32_t owner;
    };
    const std::vector<Case> cases{
        {"Host: first.example\r\n", index},
        {"Host: other.example\r\n", other},
        {"host:OTHER.example:8080\r\n", other},
        {"Host: other.example.\r\n", index},
        {"Host: another.example\r\n", index},
        {"Host: 10.0.0.1\r\nX-Forwarded-Host: other.example\r\n", other},
        {"X-Forwarded-Host: other.example, first.example\r\nHost: first.example\r\n", other},
        {"Host: other.example\r\nX-Forwarded-Host: first.example\r\n", index},
        {"X-Host: other.example\r\n", index},
        {"", index},
    };
    OwnedRequests expected;
    Pair pair(target_port);
    for (std::size_t i = 0; i < cases.size(); ++i) {
        const std::uint32_t owner = cases[i].owner;
        pair.ask(ask_for(cases[i].fields));
        EXPECT_EQ(open_of(owner).first, 1) << i;
        EXPECT_EQ(open_of(owner == other ? index : other).first, 0) << i;
        pair.answer(response(220 + static_cast<int>(i), "ok"));
        expected[{owner, HTTP_METHOD_GET, 220 + static_cast<int>(i)}] = 1;
    }
    // Names that nobody has take no room.
    for (int i = 0; i < 300; ++i) {
        pair.ask(ask_for("Host: " + std::to_string(i) + ".example\r\n"));
        pair.answer(response(404, ""));
    }
    expected[{index, HTTP_METHOD_GET, 404}] = 300;
    // Two at once, one of each.
    pair.ask(ask_for("Host: first.example\r\n") + ask_for("Host: other.example\r\n"));
    EXPECT_EQ(open_of(index).first, 1);
    EXPECT_EQ(open_of(other).first, 1);
    pair.answer(response(301, "") + response(302, ""));
    expected[{index, HTTP_METHOD_GET, 301}] = 1;
    expected[{other, HTTP_METHOD_GET, 302}] = 1;
    pair.ask(ask_for("Host: other.example\r\nUpgrade: websocket\r\n"));
    pair.answer("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n");
    expected[{other, HTTP_METHOD_GET, 101}] = 1;
    EXPECT_EQ(open_of(other), std::pair(__s64{0}, __s64{1}));
    pair.close();
    EXPECT_EQ(open_of(other), std::pair(__s64{0}, __s64{0}));
    EXPECT_EQ(open_of(index), std::pair(__s64{0}, __s64{0}));
    // Cut off: each its own.
    Pair cut(target_port);
    cut.ask(ask_for("Host: first.example\r\n") + ask_for("Host: other.example\r\n"));
    cut.close();
    expected[{index, HTTP_METHOD_GET, HTTP_STATUS_NONE}] = 1;
    expected[{other, HTTP_METHOD_GET, HTTP_STATUS_NONE}] = 1;
    OwnedRequests found;
    const HttpCounts counts = program_->read();
    for (const HttpRequests& each : counts.requests)
        found[{each.key.target, each.key.method, each.key.status}] = each.requests;
    EXPECT_EQ(found, expected);
    for (const HttpTargetCounts& each : counts.targets) {
        EXPECT_EQ(each.counts.aborted, 1U) << each.target;
        EXPECT_EQ(each.counts.open_requests, 0) << each.target;
    }
    expect_nothing_lost();
    // They share no more.
    ASSERT_TRUE(program_->set_hosts({}));
    Pair again(target_port);
    again.ask(ask_for("Host: other.example\r\n"));
    EXPECT_EQ(open_of(index).first, 1);
    again.close();
}

TEST_F(HttpProgramTest, MeetsConnectionsThatExist) {
    program_->set_target_ports({});
    Pair pair(target_port);
    pair.ask(get);
    program_->set_target_ports({target_port});
    pair.answer(response(200, "not seen to begin"));
    pair.ask(get);
    pair.answer(response(404, ""));
    EXPECT_EQ(requests(), (std::map<std::pair<int, int>, std::uint64_t>{{{HTTP_METHOD_GET, 404}, 1}}));
    pair.close();
    expect_nothing_lost();
}

TEST_F(HttpProgramTest, IgnoresOtherSockets) {
    Pair pair(4081);
    pair.ask(get);
    pair.answer(response(200, ""));
    EXPECT_EQ(program_->connections(), 0U);
    EXPECT_TRUE(requests().empty());
}

TEST_F(HttpProgramTest, SendsExchangesOfServicesOnce) {
    Pair pair(service_port);
    pair.ask(
        "POST /api/v1/auth/login?secret=QUERY HTTP/1.1\r\nHost: pangolin.example:3000\r\nCookie: p=COOKIE\r\n"
        "Authorization: Bearer AUTHORIZATION\r\nContent-Length: 8\r\n\r\nPASSWORD");
    const std::string refusal = response(401, "{\"message\":\"wrong\"}");
    pair.answer(refusal);
    pair.ask("GET /api/v1/user HTTP/1.1\r\nHost: b\r\n\r\n");
    pair.answer(response(200, "BODY"));
    pair.ask("POST /api/v1/badger/verify-session HTTP/1.1\r\nHost: b\r\nContent-Length: 2\r\n\r\n{}");
    pair.answer(response(200, "{\"data\":{\"valid\":true}}"));
    ASSERT_TRUE(program_->consume());
    ASSERT_EQ(exchanges_.size(), 3U);
    const http_exchange& login = exchanges_[0];
    EXPECT_EQ(std::string(login.target, login.target_length), "/api/v1/auth/login");
    EXPECT_EQ(std::string(login.host, login.host_length), "pangolin.example:3000");
    EXPECT_EQ(login.method, HTTP_METHOD_POST);
    EXPECT_EQ(login.status, 401);
    EXPECT_EQ(std::string(login.body, login.body_length), "{\"message\":\"wrong\"}");
    EXPECT_EQ(login.response_bytes, refusal.size());
    EXPECT_EQ(login.event.service_port, service_port);
    EXPECT_EQ(login.event.peer_is_loopback, 1);
    EXPECT_GT(login.duration_ns, 0U);
    EXPECT_EQ(exchanges_[1].body_length, 0);
    const http_exchange& verified = exchanges_[2];
    EXPECT_EQ(std::string(verified.body, verified.body_length), "{\"data\":{\"valid\":true}}");
    for (const char* const secret : {"QUERY", "COOKIE", "AUTHORIZATION", "PASSWORD", "BODY"})
        EXPECT_EQ(raw_.find(secret), std::string::npos) << secret;
    pair.close();
    expect_nothing_lost();
}

std::string masked(unsigned char first, const std::string& payload) {
    const unsigned char key[] = {0x11, 0x22, 0x33, 0x44};
    std::string frame{static_cast<char>(first)};
    if (payload.size() < 126) {
        frame += static_cast<char>(0x80 | payload.size());
    } else {
        frame += static_cast<char>(0x80 | 126);
        frame += static_cast<char>(payload.size() >> 8);
        frame += static_cast<char>(payload.size());
    }
    frame.append(reinterpret_cast<const char*>(key), 4);
    for (std::size_t i = 0; i < payload.size(); ++i)
        frame += static_cast<char>(payload[i] ^ key[i % 4]);
    return frame;
}

TEST_F(HttpProgramTest, SendsFramesOfServices) {
    Pair pair(service_port);
    pair.ask("GET /api/v1/ws?token=TOKEN&clientType=newt HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n");
    pair.answer("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n");
    const std::string message = "{\"type\":\"newt/ping\"}";
    const std::string long_message = "{\"type\":\"x\"}" + std::string(5000, 'p');
    pair.ask(masked(0x81, message) + masked(0x01, long_message) + masked(0x80, "") + masked(0x89, "hi"));
    for (const char c : masked(0x81, message))
        pair.ask({c});
    pair.answer(std::string("\x82\x7f\0\0\0\0\0\1\0\0", 10) + std::string(65536, 'z') +
                std::string("\x8a\0", 2));
    ASSERT_TRUE(program_->consume());
    ASSERT_EQ(exchanges_.size(), 1U);
    EXPECT_EQ(exchanges_[0].status, 101);
    EXPECT_EQ(exchanges_[0].is_websocket, 1);
    EXPECT_EQ(exchanges_[0].client_type, HTTP_CLIENT_NEWT);
    EXPECT_EQ(std::string(exchanges_[0].target, exchanges_[0].target_length), "/api/v1/ws");
    EXPECT_EQ(raw_.find("TOKEN"), std::string::npos);
    struct Expected {
        int from_client, opcode, final;
        std::string payload;
        std::uint64_t length;
    };
    const std::vector<Expected> expected{
        {1, 1, 1, message, message.size()},
        {1, 1, 0, long_message.substr(0, HTTP_FRAME_BYTES), long_message.size()},
        {1, 0, 1, "", 0},
        {1, 9, 1, "hi", 2},
        {1, 1, 1, message, message.size()},
        {0, 2, 1, std::string(HTTP_FRAME_BYTES, 'z'), 65536},
        {0, 10, 1, "", 0}};
    ASSERT_EQ(frames_.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
        const http_frame& frame = frames_[i];
        EXPECT_EQ(frame.from_client, expected[i].from_client) << i;
        EXPECT_EQ(frame.opcode, expected[i].opcode) << i;
        EXPECT_EQ(frame.final, expected[i].final) << i;
        EXPECT_EQ(frame.payload_length, expected[i].length) << i;
        EXPECT_EQ(std::string(reinterpret_cast<const char*>(frame.payload), frame.payload_copied),
                  expected[i].payload)
            << i;
    }
    EXPECT_EQ(closed_, 0);
    pair.close();
    ASSERT_TRUE(program_->consume());
    EXPECT_EQ(closed_, 1);
    expect_nothing_lost();
}

}  // namespace
}  // namespace pangolin::test
