// The TCP programs on real sockets in two namespaces.
#include "loader/tcp_program.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <chrono>
#include <fstream>
#include <numeric>
#include <thread>

#include "tests/support/linked_namespaces.h"
#include "tests/support/privileges.h"
#include "tests/support/tcp_sockets.h"

namespace pangolin::test {
namespace {

constexpr std::uint32_t far_slot = 3;
constexpr std::uint32_t far6_slot = 4;

std::uint64_t samples(const tcp_counts& counts) {
    return std::accumulate(std::begin(counts.rtt.bucket), std::end(counts.rtt.bucket), std::uint64_t{0});
}

// Of the calling thread's namespace.
std::int64_t retransmitted_segments() {
    return LinkedNamespaces::number_of("nstat -asz TcpRetransSegs | grep -o 'TcpRetransSegs.*'");
}

class TcpProgramTest : public testing::Test {
  protected:
    void SetUp() override {
        PANGOLIN_REQUIRE_ROOT();
        net_.emplace();
        ASSERT_TRUE(net_->ready());
        listener_ = net_->far_socket([] { return listen_on_all(); });
        ASSERT_TRUE(listener_);
        auto peers = PeerLookup::create(16);
        ASSERT_TRUE(peers) << peers.error().message();
        peers_.emplace(std::move(*peers));
        const auto set = peers_->set_routes({{*IpPrefix::parse("10.89.0.2/31"), far_slot},
                                             {*IpPrefix::parse("10.89.7.0/24"), far_slot},
                                             {*IpPrefix::parse("fd89::2/127"), far6_slot}});
        ASSERT_TRUE(set) << set.error().message();
        program_.emplace(attach());
    }

    TcpProgram attach(std::uint32_t max_peers = 16) {
        WireGuardInterface interface;
        static_cast<NetworkInterface&>(interface) = net_->near_interface();
        auto program = TcpProgram::attach(interface, *peers_, max_peers);
        if (!program)
            throw std::runtime_error(program.error().message());
        return std::move(*program);
    }

    tcp_counts counts(std::uint32_t slot = far_slot) const {
        for (const SlotTcpCounts& one : program_->read()) {
            if (one.slot == slot)
                return one.counts;
        }
        return {};
    }

    std::uint64_t result(tcp_result result, std::uint32_t slot = far_slot) const {
        return counts(slot).connections[result];
    }

    std::uint64_t results() const {
        const tcp_counts all = counts();
        return std::accumulate(std::begin(all.connections), std::end(all.connections), std::uint64_t{0});
    }

    void sample() {
        const auto sampled = program_->sample();
        ASSERT_TRUE(sampled) << sampled.error().message();
    }

    std::optional<LinkedNamespaces> net_;
    UniqueFd listener_;
    std::optional<PeerLookup> peers_;
    std::optional<TcpProgram> program_;
};

TEST_F(TcpProgramTest, AttachesEverything) {
    EXPECT_EQ(program_->attachments(), 4U);
    EXPECT_TRUE(program_->read().empty());
    EXPECT_EQ(program_->lost(), 0U);
}

TEST_F(TcpProgramTest, CountsAnActiveOpenOnce) {
    for (int i = 1; i <= 3; ++i) {
        const UniqueFd client = connected("10.89.0.2");
        ASSERT_TRUE(client);
        const UniqueFd server = accepted(listener_);
        EXPECT_EQ(result(TCP_RESULT_SUCCESS), static_cast<std::uint64_t>(i));
    }
    EXPECT_EQ(results(), 3U);
    EXPECT_EQ(program_->read().size(), 1U);
}

TEST_F(TcpProgramTest, CountsAPassiveOpenOnce) {
    const UniqueFd listener = listen_on_all();
    const UniqueFd client = net_->far_socket([] { return connected("10.89.0.1"); });
    ASSERT_TRUE(client);
    const UniqueFd server = accepted(listener);
    ASSERT_TRUE(server);
    EXPECT_EQ(result(TCP_RESULT_SUCCESS), 1U);
    EXPECT_EQ(results(), 1U);
}

TEST_F(TcpProgramTest, CountsAFastOpenOnce) {
    set_sysctl("tcp_fastopen", "3");
    const UniqueFd listener = listen_on_all(16);
    ASSERT_TRUE(net_->run_far("echo 3 >/proc/sys/net/ipv4/tcp_fastopen"));
    const Address server = address("10.89.0.1", listening);
    // The first one fetches the cookie, the second one sends data with its SYN.
    for (std::uint64_t i = 1; i <= 2; ++i) {
        const UniqueFd client = net_->far_socket([&] {
            UniqueFd socket(tcp_socket(server));
            const ssize_t sent = ::sendto(socket.get(), "hello", 5, MSG_FASTOPEN,
                                          reinterpret_cast<const sockaddr*>(&server.storage), server.size);
            EXPECT_EQ(sent, 5);
            return socket;
        });
        ASSERT_TRUE(client);
        const UniqueFd accepted_socket = accepted(listener);
        char data[5];
        ASSERT_EQ(::recv(accepted_socket.get(), data, sizeof data, MSG_WAITALL), 5);
        pause_for(std::chrono::milliseconds(50));
        EXPECT_EQ(result(TCP_RESULT_SUCCESS), i);
    }
    EXPECT_EQ(LinkedNamespaces::number_of("nstat -asz TcpExtTCPFastOpenPassive | grep -o 'Passive .*'"), 1);
    EXPECT_EQ(results(), 2U);
}

TEST_F(TcpProgramTest, CountsIpv6AndMappedAddresses) {
    const UniqueFd v6 = connected("fd89::2");
    ASSERT_TRUE(v6);
    EXPECT_EQ(result(TCP_RESULT_SUCCESS, far6_slot), 1U);
    const UniqueFd mapped = connected("::ffff:10.89.0.2");
    ASSERT_TRUE(mapped);
    EXPECT_EQ(result(TCP_RESULT_SUCCESS, far_slot), 1U);
}

TEST_F(TcpProgramTest, IgnoresOtherAddressesNamespacesAndProtocols) {
    const UniqueFd local_listener = listen_on_all();
    EXPECT_TRUE(connected("127.0.0.1"));
    // The far namespace's own connections to an address that is a peer's in ours.
    EXPECT_TRUE(net_->far_socket([] { return connected("10.89.0.2"); }));
    const Address to = address("10.89.0.2", 9);
    const UniqueFd udp(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(connect_to(udp.get(), to), 0);
    sample();
    EXPECT_TRUE(program_->read().empty());
}

TEST_F(TcpProgramTest, TellsARefusedConnection) {
    EXPECT_FALSE(connected("10.89.0.2", closed));
    EXPECT_FALSE(connected("fd89::2", closed));
    EXPECT_EQ(result(TCP_RESULT_REFUSED), 1U);
    EXPECT_EQ(result(TCP_RESULT_REFUSED, far6_slot), 1U);
    const Address to = address("10.89.0.2", closed);
    const UniqueFd socket(tcp_socket(to, SOCK_NONBLOCK));
    ASSERT_EQ(connect_to(socket.get(), to), -1);
    pollfd wait{.fd = socket.get(), .events = POLLOUT, .revents = 0};
    ASSERT_EQ(::poll(&wait, 1, 2000), 1);
    EXPECT_EQ(result(TCP_RESULT_REFUSED), 2U);
    EXPECT_EQ(results(), 2U);
}

TEST_F(TcpProgramTest, TellsATimeout) {
    ASSERT_TRUE(
        net_->run_far("nft add table inet t && "
                      "nft add chain inet t in \"{ type filter hook input priority 0; }\" && "
                      "nft add rule inet t in tcp dport 4000 drop"));
    set_sysctl("tcp_syn_retries", "1");
    EXPECT_FALSE(connected("10.89.0.2"));
    EXPECT_EQ(result(TCP_RESULT_TIMEOUT), 1U);
    EXPECT_EQ(results(), 1U);
    EXPECT_GT(counts().retransmits, 0U);
    EXPECT_EQ(counts().retransmits, static_cast<std::uint64_t>(retransmitted_segments()));
}

TEST_F(TcpProgramTest, TellsThatIcmpSaidUnreachable) {
    // Routed to the far side, which has no way on.
    ASSERT_TRUE(net_->run("ip route add 10.89.7.0/24 via 10.89.0.2"));
    ASSERT_TRUE(
        net_->run_far("echo 1 >/proc/sys/net/ipv4/ip_forward && ip route add unreachable 10.89.7.0/24"));
    set_sysctl("tcp_syn_retries", "1");
    EXPECT_FALSE(connected("10.89.7.1"));
    EXPECT_EQ(errno, EHOSTUNREACH);
    EXPECT_EQ(result(TCP_RESULT_UNREACHABLE), 1U);
    EXPECT_EQ(results(), 1U);
}

TEST_F(TcpProgramTest, TellsThatNobodyHasTheAddress) {
    set_sysctl("tcp_syn_retries", "2");
    std::ofstream("/proc/sys/net/ipv4/neigh/pgx0/retrans_time_ms") << 100;
    EXPECT_FALSE(connected("10.89.0.3"));
    EXPECT_EQ(errno, EHOSTUNREACH);
    EXPECT_EQ(result(TCP_RESULT_UNREACHABLE), 1U);
    EXPECT_EQ(results(), 1U);
}

TEST_F(TcpProgramTest, TellsThatTheProgramGaveUp) {
    ASSERT_TRUE(
        net_->run_far("nft add table inet t && "
                      "nft add chain inet t in \"{ type filter hook input priority 0; }\" && "
                      "nft add rule inet t in tcp dport 4000 drop"));
    const Address to = address("10.89.0.2", listening);
    {
        const UniqueFd socket(tcp_socket(to, SOCK_NONBLOCK));
        ASSERT_EQ(connect_to(socket.get(), to), -1);
        pause_for(std::chrono::milliseconds(20));
        EXPECT_EQ(results(), 0U);
    }
    EXPECT_EQ(result(TCP_RESULT_ABORTED), 1U);
    const UniqueFd socket(tcp_socket(to, SOCK_NONBLOCK));
    ASSERT_EQ(connect_to(socket.get(), to), -1);
    const sockaddr none{.sa_family = AF_UNSPEC, .sa_data = {}};
    ASSERT_EQ(::connect(socket.get(), &none, sizeof none), 0);
    EXPECT_EQ(result(TCP_RESULT_ABORTED), 2U);
    EXPECT_EQ(results(), 2U);
}

// Both ends lose packets at random, so that there are retransmissions of all kinds, of super-packets as well.
TEST_F(TcpProgramTest, CountsRetransmissionsAsTheKernelDoes) {
    ASSERT_TRUE(
        net_->run_far("nft add table inet t && "
                      "nft add chain inet t in \"{ type filter hook input priority 0; }\" && "
                      "nft add rule inet t in meta l4proto tcp numgen random mod 100 lt 20 drop"));
    ASSERT_TRUE(
        net_->run("nft add table inet t && "
                  "nft add chain inet t in \"{ type filter hook input priority 0; }\" && "
                  "nft add rule inet t in meta l4proto tcp numgen random mod 100 lt 10 drop"));
    const UniqueFd near_listener = listen_on_all();
    const UniqueFd client = connected("10.89.0.2");
    ASSERT_TRUE(client);
    const UniqueFd server = accepted(listener_);
    std::jthread reader([&] {
        std::vector<char> data(1 << 16);
        while (::recv(server.get(), data.data(), data.size(), 0) > 0)
            continue;
    });
    const std::vector<char> data(1 << 16, 'x');
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(4);
    timeval limit{.tv_sec = 1, .tv_usec = 0};
    ::setsockopt(client.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    while (std::chrono::steady_clock::now() < end)
        ::send(client.get(), data.data(), data.size(), 0);
    // Answers to SYNs that are lost, until one was sent again.
    std::vector<UniqueFd> opening;
    for (int i = 0; i < 30; ++i)
        opening.push_back(net_->far_socket([] {
            const Address to = address("10.89.0.1", listening);
            UniqueFd socket(tcp_socket(to, SOCK_NONBLOCK));
            connect_to(socket.get(), to);
            return socket;
        }));
    pause_for(std::chrono::milliseconds(1500));
    // Nothing may be sent between the two readings.
    ASSERT_TRUE(net_->run("ip link set pgx0 down"));
    const std::int64_t kernel = retransmitted_segments();
    EXPECT_EQ(counts().retransmits, static_cast<std::uint64_t>(kernel));
    EXPECT_GT(kernel, 20);
    EXPECT_GT(LinkedNamespaces::number_of("nstat -asz TcpExtTCPSynRetrans | grep -o 'SynRetrans .*'"), 0);
    ::shutdown(server.get(), SHUT_RDWR);
}

TEST_F(TcpProgramTest, SamplesConnectionsThatWereActive) {
    const UniqueFd client = connected("10.89.0.2");
    const UniqueFd server = accepted(listener_);
    ASSERT_TRUE(client && server);
    pause_for(std::chrono::milliseconds(50));
    sample();
    tcp_info kernel{};
    socklen_t size = sizeof kernel;
    ASSERT_EQ(::getsockopt(client.get(), IPPROTO_TCP, TCP_INFO, &kernel, &size), 0);
    EXPECT_EQ(samples(counts()), 1U) << "the handshake's round trip";
    EXPECT_EQ(counts().rtt.sum_us, kernel.tcpi_rtt);
    pause_for(std::chrono::milliseconds(50));
    sample();
    EXPECT_EQ(samples(counts()), 1U) << "idle";
    ASSERT_EQ(::send(client.get(), "x", 1, 0), 1);
    pause_for(std::chrono::milliseconds(100));
    sample();
    EXPECT_EQ(samples(counts()), 2U);
    const tcp_counts now = counts();
    EXPECT_GT(now.rtt.sum_us, 0U);
    EXPECT_LT(now.rtt.sum_us, 1'000'000U);
}

TEST_F(TcpProgramTest, AddsTheRoundTripOfAConnectionThatEnds) {
    for (const bool by_reset : {false, true}) {
        UniqueFd client = connected("10.89.0.2");
        UniqueFd server = accepted(listener_);
        ASSERT_TRUE(client && server);
        const std::uint64_t before = samples(counts());
        EXPECT_EQ(before, by_reset ? 1U : 0U);
        if (by_reset) {
            const linger reset{.l_onoff = 1, .l_linger = 0};
            ::setsockopt(server.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        }
        server.reset();
        pause_for(std::chrono::milliseconds(20));
        client.reset();
        pause_for(std::chrono::milliseconds(100));
        EXPECT_EQ(samples(counts()), before + 1) << by_reset;
    }
    EXPECT_EQ(results(), 2U);
}

TEST_F(TcpProgramTest, MeasuresAKnownDelay) {
    if (!net_->run("tc qdisc add dev pgx0 root netem delay 40ms 2>/dev/null"))
        GTEST_SKIP() << "the kernel has no netem";
    const UniqueFd client = connected("10.89.0.2");
    const UniqueFd server = accepted(listener_);
    ASSERT_TRUE(client && server);
    pause_for(std::chrono::milliseconds(50));
    sample();
    const tcp_counts now = counts();
    ASSERT_EQ(samples(now), 1U);
    tcp_info kernel{};
    socklen_t size = sizeof kernel;
    ASSERT_EQ(::getsockopt(client.get(), IPPROTO_TCP, TCP_INFO, &kernel, &size), 0);
    EXPECT_EQ(now.rtt.sum_us, kernel.tcpi_rtt);
    EXPECT_GE(now.rtt.sum_us, 40'000U);
    EXPECT_EQ(now.rtt.bucket[latency_bucket(now.rtt.sum_us)], 1U);
}

TEST_F(TcpProgramTest, ForgetsASlot) {
    ASSERT_TRUE(connected("10.89.0.2"));
    ASSERT_TRUE(connected("fd89::2"));
    const auto last = program_->read(far_slot);
    ASSERT_TRUE(last);
    EXPECT_EQ(last->connections[TCP_RESULT_SUCCESS], 1U);
    program_->forget(far_slot);
    EXPECT_FALSE(program_->read(far_slot));
    EXPECT_EQ(program_->read().size(), 1U);
}

TEST_F(TcpProgramTest, CountsWhatFindsNoRoom) {
    program_.emplace(attach(0));
    ASSERT_TRUE(connected("10.89.0.2"));
    EXPECT_EQ(program_->lost(), 0U);
    ASSERT_TRUE(connected("fd89::2"));
    EXPECT_GT(program_->lost(), 0U);
    EXPECT_EQ(program_->read().size(), 1U);
}

TEST_F(TcpProgramTest, FollowsTheRoutes) {
    ASSERT_TRUE(peers_->set_routes({{*IpPrefix::parse("0.0.0.0/0"), 9}}));
    ASSERT_TRUE(connected("10.89.0.2"));
    ASSERT_TRUE(connected("fd89::2"));
    EXPECT_EQ(result(TCP_RESULT_SUCCESS, 9), 1U);
    ASSERT_TRUE(
        peers_->set_routes({{*IpPrefix::parse("0.0.0.0/0"), 9}, {*IpPrefix::parse("10.89.0.2/32"), 8}}));
    ASSERT_TRUE(connected("10.89.0.2"));
    EXPECT_EQ(result(TCP_RESULT_SUCCESS, 8), 1U);
    ASSERT_TRUE(peers_->set_routes({}));
    ASSERT_TRUE(connected("10.89.0.2"));
    EXPECT_EQ(result(TCP_RESULT_SUCCESS, 9) + result(TCP_RESULT_SUCCESS, 8), 2U);
}

// The element of every slot is found, however the kernel hands them out.
TEST_F(TcpProgramTest, ReadsManySlots) {
    constexpr std::uint32_t many = 700;
    program_.emplace(attach(many));
    for (std::uint32_t slot = 1; slot <= many; ++slot) {
        ASSERT_TRUE(peers_->set_routes({{*IpPrefix::parse("10.89.0.2/32"), slot}}));
        ASSERT_FALSE(connected("10.89.0.2", closed));
    }
    const auto all = program_->read();
    EXPECT_EQ(all.size(), many);
    for (const SlotTcpCounts& one : all)
        EXPECT_EQ(one.counts.connections[TCP_RESULT_REFUSED], 1U);
}

}  // namespace
}  // namespace pangolin::test
