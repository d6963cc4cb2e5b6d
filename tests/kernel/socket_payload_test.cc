// What connections to targets carry, and their round trips.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <thread>
#include <vector>

#include "tests/kernel/socket_fixture.h"

namespace pangolin::test {
namespace {

using namespace std::chrono_literals;

class SocketPayloadTest : public SocketFixture {};

// What arrives there is all that counts, whatever was sent again on the way.
TEST_F(SocketPayloadTest, PayloadIsExactThroughLosses) {
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

TEST_F(SocketPayloadTest, PayloadOfLiveConnectionsIsASamplingOld) {
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
TEST_F(SocketPayloadTest, PayloadIsExactAtEveryEnd) {
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

TEST_F(SocketPayloadTest, CountsWhatIsSentWithTheFirstPacket) {
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

TEST_F(SocketPayloadTest, SamplesRoundTripsOfConnectionsThatWereActive) {
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

}  // namespace
}  // namespace pangolin::test
