// An underlay probe in a network namespace of the test's own.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "loader/underlay_probe.h"
#include "tests/kernel/underlay_messages.h"
#include "tests/support/privileges.h"
#include "tests/support/random_seed.h"
#include "tests/support/tun_device.h"

namespace pangolin::test {

inline constexpr std::uint16_t listen_port = 51820;

// A tunnel of the calling thread's namespace that no device of it is.
inline WireGuardInterface tunnel_here() {
    WireGuardInterface tunnel;
    tunnel.name = "wg0";
    tunnel.index = 4242;
    // Readable for the thread that run_in_network_namespace() starts, unlike "thread-self".
    tunnel.netns.path = "/proc/self/task/" + std::to_string(::gettid()) + "/ns/net";
    tunnel.netns.name = "test";
    struct stat status{};
    ::stat(tunnel.netns.path.c_str(), &status);
    tunnel.netns.id = {.device = status.st_dev, .inode = status.st_ino};
    return tunnel;
}

// Numbers by result, of all identities.
using Outcomes = std::map<handshake_result, std::uint64_t>;

class UnderlayFixture : public testing::Test {
  protected:
    void SetUp() override {
        PANGOLIN_REQUIRE_ROOT();
        netns_.emplace();
        ASSERT_TRUE(netns_->entered());
        for (std::uint8_t& byte : listener_.public_key)
            byte = static_cast<std::uint8_t>(random_());
        listener_.port = listen_port;
    }

    void open_probe(HookMode mode = HookMode::automatic) {
        auto probe = UnderlayProbe::open(tunnel_here(), listener_, mode);
        ASSERT_TRUE(probe) << probe.error().message();
        probe_ = std::move(*probe);
    }

    // What has ended and what was counted since the last call.
    Outcomes take_outcomes() {
        Outcomes outcomes;
        handshakes_ = probe_->take_handshakes();
        counts_ = probe_->take_counts();
        for (const handshake& ended : handshakes_)
            ++outcomes[static_cast<handshake_result>(ended.result)];
        for (const HandshakeCount& count : counts_)
            outcomes[count.result] += count.count;
        return outcomes;
    }

    static bool is_at(const handshake_identity& identity, const UdpEnd& end) {
        const bool is_v6 = end.address.family == IpFamily::v6;
        return identity.kind == HANDSHAKE_ENDPOINT && identity.endpoint.address.high == end.address.high &&
               identity.endpoint.address.low == end.address.low && identity.endpoint.port == end.port &&
               (identity.endpoint.is_v6 != 0) == is_v6;
    }

    std::mt19937_64 random_{random_seed()};
    std::optional<NewNetworkNamespace> netns_;
    WireGuardListener listener_;
    std::unique_ptr<UnderlayProbe> probe_;
    // Of the last take_outcomes().
    std::vector<handshake> handshakes_;
    std::vector<HandshakeCount> counts_;
};

}  // namespace pangolin::test
