// The socket programs on real connections between two namespaces: near is the proxy's, far has the targets.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <functional>
#include <numeric>
#include <optional>
#include <vector>

#include "loader/socket_program.h"
#include "tests/support/linked_namespaces.h"
#include "tests/support/privileges.h"
#include "tests/support/tcp_sockets.h"

namespace pangolin::test {

constexpr std::uint32_t raw = 3;     // 10.89.0.2:4000
constexpr std::uint32_t raw6 = 4;    // [fd89::2]:4000
constexpr std::uint32_t nobody = 6;  // 10.89.0.2:4001, where nobody listens

inline SocketTarget target(const char* address, std::uint16_t port, std::uint32_t index,
                           std::uint32_t netns = 0) {
    return {.address = *IpAddress::parse(address), .port = port, .netns = netns, .index = index};
}

inline std::uint64_t samples(const socket_counts& counts) {
    return std::accumulate(std::begin(counts.rtt.bucket), std::end(counts.rtt.bucket), std::uint64_t{0});
}

class SocketFixture : public testing::Test {
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

    static bool wait_until(const std::function<bool()>& done,
                           std::chrono::milliseconds limit = std::chrono::seconds(3)) {
        const auto end = std::chrono::steady_clock::now() + limit;
        while (!done()) {
            if (std::chrono::steady_clock::now() > end)
                return false;
            pause_for(std::chrono::milliseconds(5));
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

// Sends it and waits until it has arrived.
inline void say(const UniqueFd& from, const UniqueFd& to, std::size_t size = 100) {
    const std::vector<char> data(size, 'x');
    std::vector<char> got(size);
    ASSERT_EQ(::send(from.get(), data.data(), size, MSG_NOSIGNAL), static_cast<ssize_t>(size));
    ASSERT_EQ(::recv(to.get(), got.data(), size, MSG_WAITALL), static_cast<ssize_t>(size));
}

}  // namespace pangolin::test
