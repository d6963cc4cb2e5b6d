// The socket programs on real connections between two namespaces: near is the proxy's, far has the targets.
#include "loader/socket_program.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
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
constexpr std::uint32_t http = 5;    // 10.89.0.2:4000 with `http` set, in some tests
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

    ConnectionPair pair(const char* to = "10.89.0.2") const { return connect_pair(listener_, to); }

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

}  // namespace
}  // namespace pangolin::test
