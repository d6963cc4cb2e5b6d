// The socket programs on real connections between two namespaces: near is the proxy's, far has the targets.
#include "loader/socket_program.h"

#include <bpf/bpf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <chrono>
#include <fstream>
#include <functional>
#include <numeric>
#include <thread>
#include <vector>

#include "tests/support/linked_namespaces.h"
#include "tests/support/privileges.h"
#include "tests/support/tcp_sockets.h"

namespace pangolin::test {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t raw = 3;     // 10.89.0.2:4000
constexpr std::uint32_t raw6 = 4;    // [fd89::2]:4000
constexpr std::uint32_t nobody = 6;  // 10.89.0.2:4001, where nobody listens

SocketTarget target(const char* address, std::uint16_t port, std::uint32_t index, std::uint32_t netns = 0) {
    return {.address = *IpAddress::parse(address), .port = port, .netns = netns, .index = index};
}

std::uint64_t samples(const socket_counts& counts) {
    return std::accumulate(std::begin(counts.rtt.bucket), std::end(counts.rtt.bucket), std::uint64_t{0});
}

class SocketProgramTest : public testing::Test {
  protected:
    void SetUp() override {
        PANGOLIN_REQUIRE_ROOT();
        net_.emplace();
        ASSERT_TRUE(net_->ready());
        listener_ = net_->far_socket([] { return listen_on_all(); });
        ASSERT_TRUE(listener_);
        attach();
    }

    void attach(const SocketProgramOptions& options = {}) {
        program_.reset();
        auto program = SocketProgram::attach(options);
        ASSERT_TRUE(program) << program.error().message();
        program_.emplace(std::move(*program));
        set_targets(usual_targets());
        set_namespaces({net_->near_interface().netns});
    }

    static std::vector<SocketTarget> usual_targets() {
        return {target("10.89.0.2", listening, raw), target("fd89::2", listening, raw6),
                target("10.89.0.2", closed, nobody)};
    }

    void set_targets(const std::vector<SocketTarget>& targets) {
        const auto set = program_->set_targets(targets);
        ASSERT_TRUE(set) << set.error().message();
    }

    void set_namespaces(const std::vector<NetworkNamespace>& namespaces) {
        const auto set = program_->set_namespaces(namespaces);
        ASSERT_TRUE(set) << set.error().message();
    }

    void sample() {
        const auto sampled = program_->sample();
        ASSERT_TRUE(sampled) << sampled.error().message();
    }

    socket_counts counts(std::uint32_t index = raw) const {
        for (const TargetSocketCounts& one : program_->read()) {
            if (one.index == index)
                return one.counts;
        }
        return {};
    }

    // What was counted is exactly this.
    struct Expected {
        std::uint64_t attempts = 0, established = 0;
        std::array<std::uint64_t, SOCKET_FAILURES> failures{};
        std::array<std::uint64_t, SOCKET_ENDS> ends{};
        std::uint64_t found = 0;
    };

    void expect(const Expected& expected, std::uint32_t index = raw) const {
        const socket_counts now = counts(index);
        EXPECT_EQ(now.attempts, expected.attempts);
        EXPECT_EQ(now.established, expected.established);
        EXPECT_EQ(now.found, expected.found);
        for (std::size_t i = 0; i < SOCKET_FAILURES; ++i)
            EXPECT_EQ(now.failures[i], expected.failures[i]) << "failure " << i;
        for (std::size_t i = 0; i < SOCKET_ENDS; ++i)
            EXPECT_EQ(now.ends[i], expected.ends[i]) << "end " << i;
    }

    // Once every connection of the index has come to its end.
    void expect_ended(const Expected& expected, std::uint32_t index = raw) const {
        wait_until([&] { return live_connections(counts(index)) == 0; });
        expect(expected, index);
        EXPECT_EQ(live_connections(counts(index)), 0U);
    }

    static bool wait_until(const std::function<bool()>& done, std::chrono::milliseconds limit = 3000ms) {
        const auto end = std::chrono::steady_clock::now() + limit;
        while (!done()) {
            if (std::chrono::steady_clock::now() > end)
                return false;
            pause_for(5ms);
        }
        return true;
    }

    ConnectionPair pair(const char* to = "10.89.0.2") const { return connect_pair(listener_, to); }

    // From now on the far side drops what comes for the port.
    void silence_far_side() const {
        ASSERT_TRUE(
            net_->run_far("nft add table inet t && "
                          "nft add chain inet t in \"{ type filter hook input priority 0; }\" && "
                          "nft add rule inet t in tcp dport 4000 drop"));
    }

    // The targets speak HTTP.
    void set_http_targets() {
        std::vector<SocketTarget> targets = usual_targets();
        for (SocketTarget& each : targets)
            each.http = true;
        set_targets(targets);
    }

    std::optional<LinkedNamespaces> net_;
    UniqueFd listener_;
    std::optional<SocketProgram> program_;
};

TEST_F(SocketProgramTest, AttachesEverything) {
    EXPECT_FALSE(program_->connect_trouble()) << program_->connect_trouble()->message();
    EXPECT_EQ(program_->attachments(), 6U);
    EXPECT_TRUE(program_->read().empty());
    EXPECT_EQ(program_->sockets(), 0U);
}

TEST_F(SocketProgramTest, CountsAConnectionFromAttemptToEnd) {
    ConnectionPair both = pair();
    ASSERT_TRUE(both);
    expect({.attempts = 1, .established = 1});
    EXPECT_EQ(live_connections(counts()), 1U);
    EXPECT_EQ(program_->sockets(), 1U);
    both.client.reset();
    both.server.reset();
    pause_for(50ms);
    expect({.attempts = 1, .established = 1, .ends = {1}});
    EXPECT_EQ(live_connections(counts()), 0U);
    EXPECT_EQ(program_->sockets(), 0U);
    EXPECT_EQ(samples(counts()), 1U);
}

TEST_F(SocketProgramTest, KnowsIpv6AndMappedAddresses) {
    ASSERT_TRUE(pair("fd89::2"));
    expect({.attempts = 1, .established = 1, .ends = {1}}, raw6);
    ASSERT_TRUE(pair("::ffff:10.89.0.2"));
    expect({.attempts = 1, .established = 1, .ends = {1}}, raw);
}

void say(const UniqueFd& from, const UniqueFd& to, std::size_t size = 100) {
    const std::vector<char> data(size, 'x');
    std::vector<char> got(size);
    ASSERT_EQ(::send(from.get(), data.data(), size, MSG_NOSIGNAL), static_cast<ssize_t>(size));
    ASSERT_EQ(::recv(to.get(), got.data(), size, MSG_WAITALL), static_cast<ssize_t>(size));
}

// What happens on an established connection, and how it has ended then.
struct End {
    const char* name;
    std::function<void(ConnectionPair&)> happens;
    socket_end expected;
    bool http = false;
    std::chrono::milliseconds age{};
};

class SocketEndTest : public SocketProgramTest, public testing::WithParamInterface<End> {};

TEST_P(SocketEndTest, IsTold) {
    if (GetParam().http)
        set_http_targets();
    std::array pairs{pair("10.89.0.2"), pair("::ffff:10.89.0.2")};
    pause_for(GetParam().age);
    for (ConnectionPair& both : pairs) {
        ASSERT_TRUE(both);
        GetParam().happens(both);
        both.client.reset();
        both.server.reset();
    }
    Expected expected{.attempts = 2, .established = 2};
    expected.ends[GetParam().expected] = 2;
    expect_ended(expected);
    EXPECT_EQ(program_->sockets(), 0U);
    EXPECT_EQ(program_->lost().ends_missed, 0U);
}

INSTANTIATE_TEST_SUITE_P(
    , SocketEndTest,
    testing::Values(
        End{"ProxyClosesAtOnce", [](ConnectionPair& both) { both.client.reset(); }, SOCKET_END_ORDINARY},
        End{"ProxyClosesAfterAnAnswer",
            [](ConnectionPair& both) {
                say(both.client, both.server);
                say(both.server, both.client);
                both.client.reset();
            },
            SOCKET_END_ORDINARY},
        End{"ProxyResets", [](ConnectionPair& both) { reset(std::move(both.client)); }, SOCKET_END_ORDINARY},
        End{"ProxyClosesWithAnAnswerUnread",
            [](ConnectionPair& both) {
                ASSERT_EQ(::send(both.server.get(), "x", 1, 0), 1);
                pause_for(20ms);
                both.client.reset();
            },
            SOCKET_END_ORDINARY},
        End{"TargetClosesAfterAnAnswer",
            [](ConnectionPair& both) {
                say(both.client, both.server);
                say(both.server, both.client);
                both.server.reset();
            },
            SOCKET_END_ORDINARY},
        End{"AnswerComesWithTheEnd",
            [](ConnectionPair& both) {
                ASSERT_EQ(::send(both.server.get(), "x", 1, MSG_MORE), 1);
                both.server.reset();
            },
            SOCKET_END_ORDINARY},
        End{"TargetClosesUnasked", [](ConnectionPair& both) { both.server.reset(); }, SOCKET_END_EARLY},
        End{"TargetClosesUnanswered",
            [](ConnectionPair& both) {
                say(both.client, both.server);
                both.server.reset();
            },
            SOCKET_END_EARLY},
        End{"TargetResetsUnanswered",
            [](ConnectionPair& both) {
                ASSERT_EQ(::send(both.client.get(), "x", 1, 0), 1);
                both.server.reset();
            },
            SOCKET_END_EARLY},
        End{"ProxyAsksAfterTheTargetClosed",
            [](ConnectionPair& both) {
                both.server.reset();
                pause_for(20ms);
                ASSERT_EQ(::send(both.client.get(), "x", 1, MSG_NOSIGNAL), 1);
                pause_for(20ms);
            },
            SOCKET_END_EARLY},
        End{"HttpTargetClosesUnasked", [](ConnectionPair& both) { both.server.reset(); }, SOCKET_END_EARLY,
            true},
        End{"HttpTargetClosesUnanswered",
            [](ConnectionPair& both) {
                say(both.client, both.server);
                both.server.reset();
            },
            SOCKET_END_EARLY, true, 1100ms},
        End{"HttpTargetClosesWhatWasNeverUsed", [](ConnectionPair& both) { both.server.reset(); },
            SOCKET_END_ORDINARY, true, 1100ms},
        End{"HttpTargetResetsWhatWasNeverUsed", [](ConnectionPair& both) { reset(std::move(both.server)); },
            SOCKET_END_ORDINARY, true, 1100ms},
        End{"TargetResetsAmidAnAnswer",
            [](ConnectionPair& both) {
                say(both.client, both.server);
                say(both.server, both.client);
                reset(std::move(both.server));
            },
            SOCKET_END_RESET},
        End{"TargetResetsAfterTheLastOfTheQuestion",
            [](ConnectionPair& both) {
                say(both.client, both.server);
                ::shutdown(both.client.get(), SHUT_WR);
                say(both.server, both.client);
                reset(std::move(both.server));
            },
            SOCKET_END_RESET},
        End{"TargetResetsWhatTheProxyHasClosed",
            [](ConnectionPair& both) {
                say(both.client, both.server);
                say(both.server, both.client);
                both.client.reset();
                pause_for(20ms);
                reset(std::move(both.server));
            },
            SOCKET_END_ORDINARY},
        End{"ProxyAsksMoreThanTheTargetWants",
            [](ConnectionPair& both) {
                say(both.client, both.server);
                say(both.server, both.client);
                both.server.reset();
                pause_for(20ms);
                ASSERT_EQ(::send(both.client.get(), "x", 1, MSG_NOSIGNAL), 1);
                pause_for(20ms);
            },
            SOCKET_END_ORDINARY}),
    [](const testing::TestParamInfo<End>& info) { return info.param.name; });

TEST_F(SocketProgramTest, TellsARefusedConnection) {
    EXPECT_FALSE(connected("10.89.0.2", closed));
    EXPECT_FALSE(connected("::ffff:10.89.0.2", closed));
    expect({.attempts = 2, .failures = {2}}, nobody);
    EXPECT_EQ(program_->sockets(), 0U);
}

TEST_F(SocketProgramTest, TellsAMissingRoute) {
    ASSERT_TRUE(net_->run("ip addr flush dev pgx0"));
    for (const char* const to : {"10.89.0.2", "::ffff:10.89.0.2"}) {
        EXPECT_FALSE(connected(to));
        EXPECT_EQ(errno, ENETUNREACH) << to;
    }
    EXPECT_FALSE(connected("fd89::2"));
    expect({.attempts = 2, .failures = {0, 0, 2}}, raw);
    expect({.attempts = 1, .failures = {0, 0, 1}}, raw6);
}

// Of a socket that does not wait for its connection.
UniqueFd dialling(const char* to, std::uint16_t port = listening) {
    const Address server = address(to, port);
    UniqueFd socket(tcp_socket(server, SOCK_NONBLOCK));
    connect_to(socket.get(), server);
    return socket;
}

TEST_F(SocketProgramTest, CountsEveryTryOfASocketThatHasNoRoute) {
    ASSERT_TRUE(net_->run("ip route add unreachable 10.89.0.2/32"));
    const Address to = address("10.89.0.2", listening);
    UniqueFd socket(tcp_socket(to));
    for (int i = 0; i < 3; ++i)
        EXPECT_NE(connect_to(socket.get(), to), 0);
    expect({});
    ASSERT_TRUE(net_->run("ip route delete unreachable 10.89.0.2/32"));
    EXPECT_EQ(connect_to(socket.get(), to), 0);
    socket.reset();
    expect_ended({.attempts = 4, .established = 1, .failures = {0, 0, 3}, .ends = {1}});
}

TEST_F(SocketProgramTest, TellsATimeout) {
    silence_far_side();
    set_sysctl("tcp_syn_retries", "1");
    EXPECT_FALSE(connected("10.89.0.2"));
    EXPECT_EQ(errno, ETIMEDOUT);
    expect({.attempts = 1, .failures = {0, 1}});
}

// Traefik gives up a silent host before the kernel does.
TEST_F(SocketProgramTest, TellsWhetherTheProxyGaveUpASilentHost) {
    silence_far_side();
    dialling("10.89.0.2").reset();
    expect({.attempts = 1, .failures = {0, 0, 0, 1}});
    {
        const UniqueFd patient = dialling("10.89.0.2");
        const UniqueFd mapped = dialling("::ffff:10.89.0.2");
        pause_for(1300ms);
        EXPECT_EQ(live_connections(counts()), 0U);
        sample();
        EXPECT_EQ(program_->sockets(), 2U);
    }
    expect({.attempts = 3, .failures = {0, 2, 0, 1}});
    EXPECT_EQ(program_->sockets(), 0U);
}

TEST_F(SocketProgramTest, TellsThatIcmpSaidUnreachable) {
    ASSERT_TRUE(net_->run_far(
        "nft add table inet t && nft add chain inet t in \"{ type filter hook input priority 0; }\" && "
        "nft add rule inet t in tcp dport 4000 reject with icmpx type admin-prohibited"));
    set_sysctl("tcp_syn_retries", "1");
    for (const char* const to : {"10.89.0.2", "fd89::2"}) {
        EXPECT_FALSE(connected(to));
        EXPECT_NE(errno, ETIMEDOUT);
    }
    expect({.attempts = 1, .failures = {0, 0, 1}});
    expect({.attempts = 1, .failures = {0, 0, 1}}, raw6);
}

TEST_F(SocketProgramTest, TellsThatNobodyHasTheAddress) {
    set_targets({target("10.89.0.3", listening, raw)});
    set_sysctl("tcp_syn_retries", "2");
    std::ofstream("/proc/sys/net/ipv4/neigh/pgx0/retrans_time_ms") << 100;
    EXPECT_FALSE(connected("10.89.0.3"));
    EXPECT_EQ(errno, EHOSTUNREACH);
    expect({.attempts = 1, .failures = {0, 0, 1}});
}

TEST_F(SocketProgramTest, TellsThatNoLocalPortIsLeft) {
    set_sysctl("ip_local_port_range", "40000 40000");
    const UniqueFd first = connected("10.89.0.2");
    ASSERT_TRUE(first);
    EXPECT_FALSE(connected("10.89.0.2"));
    EXPECT_EQ(errno, EADDRNOTAVAIL);
    expect({.attempts = 2, .established = 1, .failures = {0, 0, 1}});
    EXPECT_EQ(live_connections(counts()), 1U);
}

TEST_F(SocketProgramTest, TellsThatAnEstablishedConnectionDied) {
    ConnectionPair both = pair();
    ASSERT_TRUE(both);
    say(both.client, both.server);
    say(both.server, both.client);
    const unsigned patience = 300;
    ASSERT_EQ(::setsockopt(both.client.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, &patience, sizeof patience), 0);
    silence_far_side();
    ASSERT_EQ(::send(both.client.get(), "x", 1, 0), 1);
    expect_ended({.attempts = 1, .established = 1, .ends = {0, 0, 0, 1}});
}

// What arrives there is all that counts, whatever was sent again on the way.
TEST_F(SocketProgramTest, PayloadIsExactThroughLosses) {
    ASSERT_TRUE(
        net_->run_far("nft add table inet t && "
                      "nft add chain inet t in \"{ type filter hook input priority 0; }\" && "
                      "nft add rule inet t in meta l4proto tcp numgen random mod 100 lt 5 drop"));
    ASSERT_TRUE(
        net_->run("nft add table inet t && "
                  "nft add chain inet t in \"{ type filter hook input priority 0; }\" && "
                  "nft add rule inet t in meta l4proto tcp numgen random mod 100 lt 5 drop"));
    // Not a few large packets.
    ASSERT_TRUE(net_->run("ip link set pgx0 gso_max_segs 2") &&
                net_->run_far("ip link set pgx1 gso_max_segs 2"));
    constexpr std::size_t up = 1'234'567, down = 2'345'678;
    ConnectionPair both = pair();
    ASSERT_TRUE(both);
    std::uint64_t arrived = 0, answered = 0;
    {
        const auto write_all = [](const UniqueFd& to, std::size_t size) {
            const std::vector<char> data(size, 'x');
            for (std::size_t sent = 0; sent < size;) {
                const ssize_t now = ::send(to.get(), data.data() + sent, size - sent, MSG_NOSIGNAL);
                if (now <= 0)
                    return;
                sent += static_cast<std::size_t>(now);
            }
            ::shutdown(to.get(), SHUT_WR);
        };
        const auto read_all = [](const UniqueFd& from, std::uint64_t& count) {
            std::vector<char> data(1 << 16);
            for (ssize_t got = 0; (got = ::recv(from.get(), data.data(), data.size(), 0)) > 0;)
                count += static_cast<std::uint64_t>(got);
        };
        const std::jthread sender([&] { write_all(both.client, up); });
        const std::jthread answerer([&] { write_all(both.server, down); });
        const std::jthread far_reader([&] { read_all(both.server, arrived); });
        const std::jthread near_reader([&] { read_all(both.client, answered); });
        // Never more than there is, never less than before.
        std::uint64_t before = 0;
        for (int i = 0; i < 40; ++i) {
            sample();
            const socket_counts now = counts();
            const std::uint64_t sum = now.bytes[TRAFFIC_INGRESS] + now.bytes[TRAFFIC_EGRESS];
            EXPECT_GE(sum, before);
            EXPECT_LE(now.bytes[TRAFFIC_INGRESS], down);
            EXPECT_LE(now.bytes[TRAFFIC_EGRESS], up);
            before = sum;
            pause_for(5ms);
        }
    }
    EXPECT_EQ(arrived, up);
    EXPECT_EQ(answered, down);
    both.client.reset();
    both.server.reset();
    wait_until([&] { return live_connections(counts()) == 0; }, 20s);
    EXPECT_EQ(counts().bytes[TRAFFIC_EGRESS], up);
    EXPECT_EQ(counts().bytes[TRAFFIC_INGRESS], down);
    EXPECT_GT(LinkedNamespaces::number_of("nstat -asz TcpRetransSegs | grep -o 'TcpRetransSegs.*'"), 0);
}

TEST_F(SocketProgramTest, PayloadOfLiveConnectionsIsASamplingOld) {
    ConnectionPair both = pair();
    ASSERT_TRUE(both);
    say(both.client, both.server, 1000);
    say(both.server, both.client, 70);
    EXPECT_EQ(counts().bytes[TRAFFIC_EGRESS], 0U);
    sample();
    EXPECT_EQ(counts().bytes[TRAFFIC_EGRESS], 1000U);
    EXPECT_EQ(counts().bytes[TRAFFIC_INGRESS], 70U);
    ::shutdown(both.client.get(), SHUT_WR);
    pause_for(20ms);
    sample();
    EXPECT_EQ(counts().bytes[TRAFFIC_EGRESS], 1000U) << "a FIN is no payload";
    say(both.server, both.client, 5);
    ::shutdown(both.server.get(), SHUT_WR);
    pause_for(20ms);
    sample();
    EXPECT_EQ(counts().bytes[TRAFFIC_INGRESS], 75U);
    both.client.reset();
    expect_ended({.attempts = 1, .established = 1, .ends = {1}});
    EXPECT_EQ(counts().bytes[TRAFFIC_EGRESS], 1000U);
    EXPECT_EQ(counts().bytes[TRAFFIC_INGRESS], 75U);
}

// Each way of ending, with payload that is known.
TEST_F(SocketProgramTest, PayloadIsExactAtEveryEnd) {
    std::uint64_t up = 0, down = 0;
    for (int how = 0; how < 6; ++how) {
        ConnectionPair both = pair();
        ASSERT_TRUE(both);
        const std::size_t size = 1000 + static_cast<std::size_t>(how);
        say(both.client, both.server, size);
        say(both.server, both.client, 3 * size);
        up += size;
        down += 3 * size;
        pause_for(20ms);
        if (how == 0)
            both.client.reset();
        else if (how == 1)
            both.server.reset();
        else if (how == 2)
            reset(std::move(both.client));
        else if (how == 3)
            reset(std::move(both.server));
        else if (how == 4)
            ::shutdown(both.client.get(), SHUT_RDWR);
        else
            ::shutdown(both.server.get(), SHUT_RDWR);
        pause_for(20ms);
        if (how % 2 == 0)
            sample();
    }
    wait_until([&] { return live_connections(counts()) == 0; });
    EXPECT_EQ(live_connections(counts()), 0U);
    EXPECT_EQ(counts().bytes[TRAFFIC_EGRESS], up);
    EXPECT_EQ(counts().bytes[TRAFFIC_INGRESS], down);
}

TEST_F(SocketProgramTest, CountsWhatIsSentWithTheFirstPacket) {
    set_sysctl("tcp_fastopen", "3");
    ASSERT_TRUE(net_->run_far("echo 3 >/proc/sys/net/ipv4/tcp_fastopen"));
    constexpr std::uint16_t port = listening + 10;
    const UniqueFd fast = net_->far_socket([] { return listen_on_all(16, port); });
    set_targets({target("10.89.0.2", port, raw)});
    const Address server = address("10.89.0.2", port);
    // The first one fetches the cookie, the second one sends data with its SYN.
    for (std::uint64_t i = 1; i <= 2; ++i) {
        UniqueFd client(tcp_socket(server));
        ASSERT_EQ(::sendto(client.get(), "hello", 5, MSG_FASTOPEN,
                           reinterpret_cast<const sockaddr*>(&server.storage), server.size),
                  5);
        const UniqueFd other = accepted(fast);
        std::array<char, 5> data{};
        ASSERT_EQ(::recv(other.get(), data.data(), data.size(), MSG_WAITALL), 5);
        sample();
        EXPECT_EQ(counts().bytes[TRAFFIC_EGRESS], 5 * i);
        client.reset();
    }
    expect_ended({.attempts = 2, .established = 2, .ends = {2}});
    EXPECT_EQ(counts().bytes[TRAFFIC_EGRESS], 10U);
}

TEST_F(SocketProgramTest, FindsConnectionsThatExistedBefore) {
    program_.reset();
    ConnectionPair v4 = pair();
    ConnectionPair v6 = pair("fd89::2");
    ConnectionPair mapped = pair("::ffff:10.89.0.2");
    ASSERT_TRUE(v4 && v6 && mapped);
    say(v4.client, v4.server, 5000);
    say(v4.server, v4.client, 3000);
    attach();
    expect({});
    for (int i = 0; i < 3; ++i)
        sample();
    expect({.found = 2});
    expect({.found = 1}, raw6);
    EXPECT_EQ(live_connections(counts()), 2U);
    EXPECT_EQ(counts().bytes[TRAFFIC_EGRESS] + counts().bytes[TRAFFIC_INGRESS], 0U);
    say(v4.client, v4.server, 50);
    say(v4.server, v4.client, 30);
    v4.server.reset();
    v4.client.reset();
    mapped.client.reset();
    v6.server.reset();
    pause_for(20ms);
    v6.client.reset();
    expect_ended({.ends = {2}, .found = 2});
    expect_ended({.ends = {0, 1}, .found = 1}, raw6);
    EXPECT_EQ(counts().bytes[TRAFFIC_EGRESS], 50U);
    EXPECT_EQ(counts().bytes[TRAFFIC_INGRESS], 30U);
}

// A spare connection that is as old as the exporter was never used as far as anybody knows.
TEST_F(SocketProgramTest, AnOldHttpConnectionThatWasNeverUsedIsNoError) {
    program_.reset();
    ConnectionPair both = pair();
    ASSERT_TRUE(both);
    attach();
    set_http_targets();
    sample();
    both.server.reset();
    pause_for(20ms);
    both.client.reset();
    expect_ended({.ends = {1}, .found = 1});
}

TEST_F(SocketProgramTest, ATargetThatGoesTakesNothingWithIt) {
    ConnectionPair both = pair();
    ASSERT_TRUE(both);
    say(both.client, both.server, 100);
    set_targets({});
    const ConnectionPair meanwhile = pair();
    sample();
    expect({.attempts = 1, .established = 1});
    const auto taken = program_->take(raw);
    ASSERT_TRUE(taken);
    EXPECT_EQ(taken->established, 1U);
    EXPECT_EQ(taken->bytes[TRAFFIC_EGRESS], 100U);
    EXPECT_FALSE(program_->take(raw));
    say(both.client, both.server, 11);
    // It comes back: the one that began in between is found.
    set_targets(usual_targets());
    sample();
    expect({.found = 1});
    EXPECT_EQ(taken->established + live_connections(counts()), 2U);
    both.client.reset();
    wait_until([&] { return counts().ends[SOCKET_END_ORDINARY] == 1; });
    expect({.ends = {1}, .found = 1});
    EXPECT_EQ(taken->established + live_connections(counts()), 1U);
    EXPECT_EQ(counts().bytes[TRAFFIC_EGRESS], 11U);
}

TEST_F(SocketProgramTest, ConnectionsKeepTheIndexThatTheyBeganWith) {
    ConnectionPair old = pair();
    set_targets({target("10.89.0.2", listening, 77)});
    ConnectionPair young = pair();
    say(old.client, old.server, 10);
    say(young.client, young.server, 20);
    old.client.reset();
    young.client.reset();
    expect_ended({.attempts = 1, .established = 1, .ends = {1}}, raw);
    expect_ended({.attempts = 1, .established = 1, .ends = {1}}, 77);
    EXPECT_EQ(counts(raw).bytes[TRAFFIC_EGRESS], 10U);
    EXPECT_EQ(counts(77).bytes[TRAFFIC_EGRESS], 20U);
}

TEST_F(SocketProgramTest, ANamespacesOwnTargetGoesBefore) {
    const auto here = static_cast<std::uint32_t>(net_->near_interface().netns.id.inode);
    set_targets({target("10.89.0.2", listening, 10), target("10.89.0.2", listening, 11, here),
                 target("10.89.0.2", listening, 12, here + 1), target("fd89::2", listening, 13, here + 1)});
    ASSERT_TRUE(pair());
    ASSERT_TRUE(pair("fd89::2"));
    expect_ended({.attempts = 1, .established = 1, .ends = {1}}, 11);
    EXPECT_EQ(program_->read().size(), 1U);
}

TEST_F(SocketProgramTest, IgnoresOtherNamespacesProtocolsAndEnds) {
    // The far namespace dials its own address, which is a target for us.
    EXPECT_TRUE(net_->far_socket([] { return connected("10.89.0.2"); }));
    const Address udp_address = address("10.89.0.2", listening);
    const UniqueFd udp(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(connect_to(udp.get(), udp_address), 0);
    // We are dialled.
    const UniqueFd listener = listen_on_all();
    EXPECT_TRUE(net_->far_socket([] { return connected("10.89.0.1"); }));
    EXPECT_TRUE(accepted(listener));
    sample();
    EXPECT_TRUE(program_->read().empty());
    EXPECT_EQ(program_->sockets(), 0U);
    set_namespaces({});
    EXPECT_TRUE(connected("10.89.0.2"));
    ASSERT_TRUE(net_->run("ip addr flush dev pgx0"));
    EXPECT_FALSE(connected("10.89.0.2"));
    EXPECT_TRUE(program_->read().empty());
}

TEST_F(SocketProgramTest, SeveralNamespacesAtTheSameTime) {
    const NamespaceChild other(NamespaceChild::Mounts::shared, [] {
        return LinkedNamespaces::run("ip link set lo up && ip addr add 10.89.0.2/32 dev lo");
    });
    ASSERT_TRUE(other.running());
    set_targets({target("10.89.0.2", listening, raw),
                 target("10.89.0.2", listening, 9, static_cast<std::uint32_t>(other.netns().id.inode))});
    set_namespaces({net_->near_interface().netns, other.netns()});
    const ConnectionPair here = pair();
    ConnectionPair there;
    const auto made = run_in_network_namespace(other.netns(), [&]() -> Result<void> {
        there = connect_pair(listen_on_all(), "10.89.0.2");
        return {};
    });
    ASSERT_TRUE(made && here && there);
    say(there.client, there.server, 321);
    sample();
    expect({.attempts = 1, .established = 1}, raw);
    expect({.attempts = 1, .established = 1}, 9);
    EXPECT_EQ(counts(9).bytes[TRAFFIC_EGRESS], 321U);
    // Left out, it is counted to its end.
    set_namespaces({net_->near_interface().netns});
    say(there.client, there.server, 1);
    sample();
    EXPECT_EQ(counts(9).bytes[TRAFFIC_EGRESS], 322U);
    there.client.reset();
    expect_ended({.attempts = 1, .established = 1, .ends = {1}}, 9);
}

TEST_F(SocketProgramTest, ANamespaceThatIsGoneIsNoError) {
    std::optional<NamespaceChild> other(std::in_place);
    ASSERT_TRUE(other->running());
    set_namespaces({net_->near_interface().netns, other->netns()});
    sample();
    other.reset();
    const ConnectionPair here = pair();
    sample();
    set_namespaces({net_->near_interface().netns});
    for (int i = 0; i < 40; ++i)
        sample();
    expect({.attempts = 1, .established = 1});
    EXPECT_EQ(live_connections(counts()), 1U);
}

TEST_F(SocketProgramTest, ForgetsARecordWhoseSocketIsGone) {
    const ConnectionPair both = pair();
    ASSERT_TRUE(both);
    const std::uint64_t no_cookie = ~std::uint64_t{0};
    socket_record orphan{};
    orphan.target = raw;
    orphan.flags = SOCKET_ESTABLISHED;
    ASSERT_EQ(bpf_map_update_elem(program_->sockets_fd(), &no_cookie, &orphan, BPF_ANY), 0);
    for (int i = 0; i < 40; ++i)
        sample();
    EXPECT_EQ(program_->sockets(), 1U);
    EXPECT_EQ(counts().ends[SOCKET_END_UNSEEN], 1U);
    ASSERT_TRUE(program_->take(raw));
    EXPECT_EQ(counts().ends[SOCKET_END_UNSEEN], 0U);
}

TEST_F(SocketProgramTest, RecordsAreFoundBySocketCookie) {
    set_http_targets();
    const ConnectionPair both = pair();
    ASSERT_TRUE(both);
    std::uint64_t cookie = 0;
    socklen_t size = sizeof cookie;
    ASSERT_EQ(::getsockopt(both.client.get(), SOL_SOCKET, SO_COOKIE, &cookie, &size), 0);
    socket_record record{};
    ASSERT_EQ(bpf_map_lookup_elem(program_->sockets_fd(), &cookie, &record), 0);
    EXPECT_EQ(record.target, raw);
    EXPECT_EQ(record.flags, std::uint32_t{SOCKET_HTTP | SOCKET_ESTABLISHED});
    EXPECT_EQ(record.netns, net_->near_interface().netns.id.inode);
}

TEST_F(SocketProgramTest, CountsWhatFindsNoRoom) {
    attach({.max_targets = 3, .max_sockets = 1, .cgroup = {}});
    EXPECT_EQ(program_->lost().targets_full, 0U);
    {
        const ConnectionPair first = pair();
        const ConnectionPair second = pair();
        EXPECT_EQ(program_->lost().sockets_full, 1U);
        EXPECT_EQ(counts().attempts, 2U);
        EXPECT_EQ(counts().established, 1U);
    }
    EXPECT_TRUE(pair());
    EXPECT_EQ(counts().established, 2U) << "there is room again";
    auto targets = usual_targets();
    targets.push_back(target("10.89.0.2", 4002, 20));
    targets.push_back(target("10.89.0.2", 4003, 21));
    set_targets(targets);
    EXPECT_EQ(program_->lost().targets_full, 2U);
    set_targets(usual_targets());
    EXPECT_EQ(program_->lost().targets_full, 0U);
    // Counts of targets that are gone keep their room until they are taken.
    EXPECT_TRUE(pair("fd89::2"));
    EXPECT_FALSE(connected("10.89.0.2", closed));
    set_targets({target("10.89.0.2", listening, 50)});
    EXPECT_TRUE(pair());
    EXPECT_GT(program_->lost().counts_full, 0U);
    EXPECT_TRUE(program_->take(raw));
    EXPECT_TRUE(pair());
    expect_ended({.attempts = 1, .established = 1, .ends = {1}}, 50);
}

TEST_F(SocketProgramTest, WorksWithoutControlGroups) {
    attach({.cgroup = "/nonexistent"});
    ASSERT_TRUE(program_->connect_trouble());
    EXPECT_THAT(program_->connect_trouble()->message(), testing::HasSubstr("/nonexistent"));
    EXPECT_EQ(program_->attachments(), 4U);
    ASSERT_TRUE(pair());
    expect_ended({.attempts = 1, .established = 1, .ends = {1}});
}

TEST_F(SocketProgramTest, SamplesRoundTripsOfConnectionsThatWereActive) {
    const ConnectionPair both = pair();
    ASSERT_TRUE(both);
    pause_for(20ms);
    sample();
    tcp_info kernel{};
    socklen_t size = sizeof kernel;
    ASSERT_EQ(::getsockopt(both.client.get(), IPPROTO_TCP, TCP_INFO, &kernel, &size), 0);
    EXPECT_EQ(samples(counts()), 1U);
    EXPECT_EQ(counts().rtt.sum_us, kernel.tcpi_rtt);
    sample();
    EXPECT_EQ(samples(counts()), 1U) << "idle";
    pause_for(20ms);
    say(both.client, both.server);
    pause_for(100ms);
    sample();
    EXPECT_EQ(samples(counts()), 2U);
}

// Many at the same time, each with an end of its own, while targets are set and connections sampled.
TEST_F(SocketProgramTest, CountsExactlyWhatHappensAtTheSameTime) {
    constexpr std::uint16_t threads = 4;
    constexpr std::uint64_t rounds = 500;
    std::vector<SocketTarget> targets = usual_targets();
    std::vector<UniqueFd> listeners;
    for (std::uint16_t thread = 0; thread < threads; ++thread) {
        const std::uint16_t port = 5000 + thread;
        targets.push_back(target("10.89.0.2", port, port));
        listeners.push_back(net_->far_socket([&] { return listen_on_all(0, port); }));
        ASSERT_TRUE(listeners.back());
    }
    set_targets(targets);
    {
        std::atomic<bool> over = false;
        const std::jthread disturbance([&] {
            while (!over) {
                auto more = targets;
                more.push_back(target("10.89.0.9", 1, 30));
                EXPECT_TRUE(program_->set_targets(more));
                EXPECT_TRUE(program_->set_targets(targets));
                EXPECT_TRUE(program_->sample());
            }
        });
        std::vector<std::jthread> workers;
        for (std::uint16_t thread = 0; thread < threads; ++thread)
            workers.emplace_back([&, thread] {
                for (std::uint64_t round = 0; round < rounds; ++round) {
                    ConnectionPair both = connect_pair(listeners[thread], "10.89.0.2",
                                                       static_cast<std::uint16_t>(5000 + thread));
                    ASSERT_TRUE(both);
                    say(both.client, both.server, 10);
                    if (round % 4 == 1) {
                        both.server.reset();
                    } else if (round % 4 != 0) {
                        say(both.server, both.client, 30);
                        if (round % 4 == 2)
                            both.client.reset();
                        else
                            reset(std::move(both.server));
                    }
                    EXPECT_FALSE(connected("10.89.0.2", closed));
                }
            });
        workers.clear();
        over = true;
    }
    for (std::uint16_t thread = 0; thread < threads; ++thread) {
        const std::uint32_t index = 5000U + thread;
        expect_ended(
            {.attempts = rounds, .established = rounds, .ends = {rounds / 2, rounds / 4, rounds / 4}}, index);
        EXPECT_EQ(counts(index).bytes[TRAFFIC_EGRESS], rounds * 10);
        EXPECT_EQ(counts(index).bytes[TRAFFIC_INGRESS], rounds / 2 * 30);
    }
    expect({.attempts = threads * rounds, .failures = {threads * rounds}}, nobody);
    EXPECT_EQ(program_->sockets(), 0U);
    EXPECT_EQ(program_->lost().ends_missed, 0U);
}

}  // namespace
}  // namespace pangolin::test
