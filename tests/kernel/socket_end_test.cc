// How connections to targets end, and how they fail.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <functional>
#include <thread>

#include "tests/kernel/socket_fixture.h"

namespace pangolin::test {
namespace {

using namespace std::chrono_literals;

class SocketFailureTest : public SocketFixture {};

// What happens on an established connection, and how it has ended then.
struct End {
    const char* name;
    std::function<void(ConnectionPair&)> happens;
    socket_end expected;
    bool http = false;
    std::chrono::milliseconds age{};
};

class SocketEndTest : public SocketFixture, public testing::WithParamInterface<End> {};

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

TEST_F(SocketFailureTest, TellsARefusedConnection) {
    EXPECT_FALSE(connected("10.89.0.2", closed));
    EXPECT_FALSE(connected("::ffff:10.89.0.2", closed));
    expect({.attempts = 2, .failures = {2}}, nobody);
    EXPECT_EQ(program_->sockets(), 0U);
}

// Whoever polls may take the socket's error before its state changes.
TEST_F(SocketFailureTest, TellsARefusedConnectionWhoseErrorIsTaken) {
    const Address to = address("10.89.0.2", closed);
    constexpr std::uint64_t times = 2000;
    std::atomic<int> current = -1;
    std::atomic<bool> over = false;
    {
        const std::jthread thief([&] {
            while (!over) {
                int error = 0;
                socklen_t size = sizeof error;
                ::getsockopt(current, SOL_SOCKET, SO_ERROR, &error, &size);
            }
        });
        for (std::uint64_t i = 0; i < times; ++i) {
            const UniqueFd socket(tcp_socket(to));
            current = socket.get();
            connect_to(socket.get(), to);
            current = -1;
        }
        over = true;
    }
    expect({.attempts = times, .failures = {times}}, nobody);
}

TEST_F(SocketFailureTest, TellsAMissingRoute) {
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

TEST_F(SocketFailureTest, CountsEveryTryOfASocketThatHasNoRoute) {
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

TEST_F(SocketFailureTest, TellsATimeout) {
    silence_far_side();
    set_sysctl("tcp_syn_retries", "1");
    EXPECT_FALSE(connected("10.89.0.2"));
    EXPECT_EQ(errno, ETIMEDOUT);
    expect({.attempts = 1, .failures = {0, 1}});
}

// Traefik gives up a silent host before the kernel does.
TEST_F(SocketFailureTest, TellsWhetherTheProxyGaveUpASilentHost) {
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

TEST_F(SocketFailureTest, TellsThatIcmpSaidUnreachable) {
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

TEST_F(SocketFailureTest, TellsThatNobodyHasTheAddress) {
    set_targets({target("10.89.0.3", listening, raw)});
    set_sysctl("tcp_syn_retries", "2");
    std::ofstream("/proc/sys/net/ipv4/neigh/pgx0/retrans_time_ms") << 100;
    EXPECT_FALSE(connected("10.89.0.3"));
    EXPECT_EQ(errno, EHOSTUNREACH);
    expect({.attempts = 1, .failures = {0, 0, 1}});
}

TEST_F(SocketFailureTest, TellsThatNoLocalPortIsLeft) {
    set_sysctl("ip_local_port_range", "40000 40000");
    const UniqueFd first = connected("10.89.0.2");
    ASSERT_TRUE(first);
    EXPECT_FALSE(connected("10.89.0.2"));
    EXPECT_EQ(errno, EADDRNOTAVAIL);
    expect({.attempts = 2, .established = 1, .failures = {0, 0, 1}});
    EXPECT_EQ(live_connections(counts()), 1U);
}

TEST_F(SocketFailureTest, TellsThatAnEstablishedConnectionDied) {
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

}  // namespace
}  // namespace pangolin::test
