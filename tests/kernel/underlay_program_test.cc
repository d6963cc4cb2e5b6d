// The underlay programs in the kernel, on packets made by hand.
#include <bpf/bpf.h>
#include <gtest/gtest.h>
#include <linux/pkt_cls.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "bpf/shared/blake2s.h"
#include "tests/kernel/underlay_fixture.h"
#include "tests/support/program_run.h"

namespace pangolin::test {
namespace {

using testing::Test;

std::array<std::uint32_t, 16> words_of(std::span<const std::uint8_t> bytes) {
    std::array<std::uint32_t, 16> words{};
    for (std::size_t i = 0; i < bytes.size(); ++i)
        words[i / 4] |= std::uint32_t{bytes[i]} << 8 * (i % 4);
    return words;
}

// mac1 by the code that both sides share.
std::array<std::uint8_t, 16> shared_mac1(const PublicKey& key, std::span<const std::uint8_t> covered) {
    std::array<std::uint32_t, 8> state = mac1_state(key);
    std::uint32_t length = BLAKE2S_BLOCK;
    while (covered.size() > BLAKE2S_BLOCK) {
        length += BLAKE2S_BLOCK;
        blake2s_compress(state.data(), words_of(covered.first(BLAKE2S_BLOCK)).data(), length, 0);
        covered = covered.subspan(BLAKE2S_BLOCK);
    }
    length += static_cast<std::uint32_t>(covered.size());
    blake2s_compress(state.data(), words_of(covered).data(), length, BLAKE2S_LAST_BLOCK);
    std::array<std::uint8_t, 16> mac{};
    for (std::size_t i = 0; i < mac.size(); ++i)
        mac[i] = static_cast<std::uint8_t>(state[i / 4] >> 8 * (i % 4));
    return mac;
}

TEST(Mac1, IsWhatOpensslComputes) {
    PANGOLIN_TRACE_SEED();
    std::mt19937_64 random(random_seed());
    for (std::size_t size = 1; size < 300; ++size) {
        PublicKey key{};
        std::ranges::generate(key, [&] { return static_cast<std::uint8_t>(random()); });
        Message covered(size);
        std::ranges::generate(covered, [&] { return static_cast<std::uint8_t>(random()); });
        EXPECT_EQ(shared_mac1(key, covered), openssl_mac1(key, covered)) << size;
    }
}

// Values of Python's hashlib: blake2s(covered, key=blake2s(b"mac1----" + key).digest(), digest_size=16).
TEST(Mac1, IsWhatPythonComputes) {
    PublicKey key{};
    for (std::size_t i = 0; i < key.size(); ++i)
        key[i] = static_cast<std::uint8_t>(i);
    Message covered(116);
    for (std::size_t i = 0; i < covered.size(); ++i)
        covered[i] = static_cast<std::uint8_t>(i * 7 + 3);
    const std::array<std::uint8_t, 16> of_116 = {0x08, 0xb7, 0xa2, 0xe4, 0xe2, 0x5e, 0x9e, 0x4d,
                                                 0x15, 0x2f, 0x56, 0xfc, 0x35, 0x3b, 0xe8, 0x50};
    const std::array<std::uint8_t, 16> of_60 = {0xa1, 0x86, 0xa5, 0x7d, 0x04, 0xa1, 0x28, 0x8e,
                                                0x57, 0x07, 0x35, 0x08, 0x91, 0xbb, 0x0c, 0xe6};
    EXPECT_EQ(shared_mac1(key, covered), of_116);
    EXPECT_EQ(shared_mac1(key, std::span(covered).first(60)), of_60);
}

struct Path {
    const char* name;
    IpAddress host;
    IpAddress site;
    std::uint8_t option_words = 0;
};

class Underlay : public UnderlayFixture, public testing::WithParamInterface<Path> {
  protected:
    void SetUp() override {
        UnderlayFixture::SetUp();
        if (!Test::HasFatalFailure() && !Test::IsSkipped())
            open_probe();
    }

    static UdpEnd host() { return {GetParam().host, listen_port}; }
    static UdpEnd site(std::uint16_t port = 40000) { return {GetParam().site, port}; }

    void run(traffic_direction direction, const std::vector<std::uint8_t>& frame,
             std::uint32_t gso_size = 0) {
        const auto result = run_program(probe_->program_fd(direction), frame, {.gso_size = gso_size});
        ASSERT_TRUE(result) << result.error().message();
        ASSERT_EQ(static_cast<int>(result->return_value), TC_ACT_UNSPEC);
    }
    void receive(const Message& message, std::uint32_t gso_size = 0, std::uint16_t port = 40000) {
        run(TRAFFIC_INGRESS, udp_frame(site(port), host(), message, GetParam().option_words), gso_size);
    }
    void send(const Message& message, std::uint32_t gso_size = 0, std::uint16_t port = 40000) {
        run(TRAFFIC_EGRESS, udp_frame(host(), site(port), message, GetParam().option_words), gso_size);
    }

    Message initiation_here(std::uint32_t sender) {
        return initiation(listener_.public_key, sender, random_);
    }
    // To this host.
    Message response_here(std::uint32_t sender, std::uint32_t receiver) {
        return response(listener_.public_key, sender, receiver, random_);
    }
    // From this host: the mac1 is for the site's key.
    Message response_there(std::uint32_t sender, std::uint32_t receiver) {
        return response(site_key_, sender, receiver, random_);
    }

    PublicKey site_key_{7};
};

INSTANTIATE_TEST_SUITE_P(Paths, Underlay,
                         testing::Values(Path{"v4", IpAddress::v4(0xc0000201), IpAddress::v4(0xc6336407)},
                                         Path{"v4_options", IpAddress::v4(0xc0000201),
                                              IpAddress::v4(0xc6336407), 3},
                                         Path{"v6",
                                              {IpFamily::v6, 0x2001'0db8'0000'0001, 1},
                                              {IpFamily::v6, 0x2001'0db8'0000'0002, 0x1122334455667788}}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_P(Underlay, SeesTheSiteBegin) {
    receive(initiation_here(0x11));
    EXPECT_EQ(take_outcomes(), Outcomes{});
    send(response_there(0x22, 0x11));
    receive(data(0x23, 128));
    receive(cookie_reply(0x23));
    EXPECT_EQ(take_outcomes(), Outcomes{});
    receive(data(0x22, 128));
    EXPECT_EQ(take_outcomes(), (Outcomes{{HANDSHAKE_SUCCESS, 1}}));
    EXPECT_TRUE(is_at(handshakes_.at(0).identity, site()));
    EXPECT_EQ(handshakes_.at(0).role, std::uint32_t{HANDSHAKE_RESPONDER});
    EXPECT_GT(handshakes_.at(0).end_ns, handshakes_.at(0).begin_ns);
    receive(data(0x22, 128));
    EXPECT_EQ(take_outcomes(), Outcomes{});
}

TEST_P(Underlay, TakesTheShortestDataForConfirmation) {
    receive(initiation_here(0x11));
    send(response_there(0x22, 0x11));
    receive(data(0x22, 31));
    EXPECT_EQ(take_outcomes(), Outcomes{});
    receive(data(0x22, 32));
    EXPECT_EQ(take_outcomes(), (Outcomes{{HANDSHAKE_SUCCESS, 1}}));
}

TEST_P(Underlay, SeesThisHostBegin) {
    send(initiation(site_key_, 0x31, random_));
    receive(data(0x31, 64));
    receive(response_here(0x41, 0x32));
    EXPECT_EQ(take_outcomes(), Outcomes{});
    receive(response_here(0x41, 0x31));
    EXPECT_EQ(take_outcomes(), (Outcomes{{HANDSHAKE_SUCCESS, 1}}));
    EXPECT_TRUE(is_at(handshakes_.at(0).identity, site()));
    EXPECT_EQ(handshakes_.at(0).role, std::uint32_t{HANDSHAKE_INITIATOR});
}

TEST_P(Underlay, SeesCookiesOfBothSides) {
    send(initiation(site_key_, 0x31, random_));
    receive(cookie_reply(0x31));
    EXPECT_EQ(take_outcomes(), (Outcomes{{HANDSHAKE_COOKIE_REPLY, 1}}));
    EXPECT_TRUE(is_at(handshakes_.at(0).identity, site()));
    receive(initiation_here(0x12));
    send(response_there(0x22, 0x12));
    receive(cookie_reply(0x22));
    EXPECT_EQ(take_outcomes(), (Outcomes{{HANDSHAKE_COOKIE_REPLY, 1}}));
    EXPECT_EQ(handshakes_.at(0).role, std::uint32_t{HANDSHAKE_RESPONDER});
    receive(initiation_here(0x11));
    send(cookie_reply(0x11));
    EXPECT_EQ(take_outcomes(), (Outcomes{{HANDSHAKE_COOKIE_REPLY, 1}}));
    ASSERT_EQ(counts_.size(), 1U);
    EXPECT_EQ(counts_[0].identity.kind, std::uint32_t{HANDSHAKE_NOBODY});
}

TEST_P(Underlay, KnowsAReplayByItsOrigin) {
    const Message first = initiation_here(0x11);
    receive(first);
    send(response_there(0x22, 0x11));
    receive(data(0x22, 32));
    take_outcomes();
    receive(first, 0, 50000);
    receive(first);
    EXPECT_EQ(take_outcomes(), (Outcomes{{HANDSHAKE_REPLAY, 2}}));
    ASSERT_EQ(counts_.size(), 1U);
    EXPECT_TRUE(is_at(counts_[0].identity, site()));
}

TEST_P(Underlay, CountsMessagesForAnotherKey) {
    receive(initiation(site_key_, 0x11, random_));
    receive(response(site_key_, 0x11, 0x22, random_));
    EXPECT_EQ(take_outcomes(), (Outcomes{{HANDSHAKE_INVALID_MAC, 2}}));
    // Each covered byte matters.
    const Message good = initiation_here(0x11);
    for (std::size_t at = 4; at < 132; ++at) {
        Message bad = good;
        bad[at] ^= 0x10;
        receive(bad);
    }
    EXPECT_EQ(take_outcomes(), (Outcomes{{HANDSHAKE_INVALID_MAC, 128}}));
    Message other_cookie = good;
    other_cookie[140] ^= 1;
    receive(other_cookie);
    EXPECT_EQ(take_outcomes(), Outcomes{});
}

TEST_P(Underlay, FollowsKeyAndPort) {
    listener_.public_key[3] ^= 1;
    listener_.port = 1234;
    receive(initiation_here(0x11));
    EXPECT_EQ(take_outcomes(), (Outcomes{{HANDSHAKE_INVALID_MAC, 1}}));
    ASSERT_TRUE(probe_->follow(listener_));
    receive(initiation_here(0x12));
    EXPECT_EQ(take_outcomes(), Outcomes{});
    listener_.port = listen_port;
    ASSERT_TRUE(probe_->follow(listener_));
    receive(initiation_here(0x13));
    EXPECT_EQ(take_outcomes(), Outcomes{});
    listener_.port = 0;
    ASSERT_TRUE(probe_->follow(listener_));
    receive(initiation(site_key_, 0x13, random_));
    EXPECT_EQ(take_outcomes(), Outcomes{});
}

TEST_P(Underlay, LeavesWhatIsNoHandshake) {
    for (const std::size_t size : {0U, 1U, 4U, 31U, 32U, 91U, 93U, 147U, 149U, 1400U}) {
        for (std::uint8_t type = 0; type < 6; ++type) {
            Message message = data(0x22, std::max<std::size_t>(size, 8));
            message.resize(size);
            if (size > 0)
                message[0] = type;
            receive(message);
            send(message);
        }
    }
    Message reserved = initiation(site_key_, 0x11, random_);
    reserved[2] = 1;
    receive(reserved);
    const Message forged = initiation(site_key_, 0x11, random_);
    run(TRAFFIC_INGRESS, udp_frame(site(), {GetParam().host, 51821}, forged));
    run(TRAFFIC_INGRESS, udp_frame(host(), site(), forged));
    run(TRAFFIC_EGRESS, udp_frame(site(), host(), forged));
    auto other_host = udp_frame(site(), host(), forged);
    other_host[0] = 2;
    run(TRAFFIC_INGRESS, other_host);
    auto other_protocol = udp_frame(site(), host(), forged);
    other_protocol[12] ^= 1;
    run(TRAFFIC_INGRESS, other_protocol);
    auto truncated = udp_frame(site(), host(), forged);
    truncated.resize(truncated.size() - 1);
    run(TRAFFIC_INGRESS, truncated);
    if (GetParam().host.family == IpFamily::v4) {
        run(TRAFFIC_INGRESS, udp_frame(site(), host(), forged, 0, 0x2000));
        run(TRAFFIC_INGRESS, udp_frame(site(), host(), forged, 0, 0x0010));
    }
    EXPECT_EQ(take_outcomes(), Outcomes{});
    EXPECT_EQ(probe_->losses(), HandshakeLosses{});
}

TEST_P(Underlay, LeavesWhatIsOnlyForwarded) {
    __sk_buff context{};
    context.ingress_ifindex = 1;
    const auto frame = udp_frame(host(), site(), initiation(site_key_, 0x31, random_));
    bpf_test_run_opts options{};
    options.sz = sizeof options;
    options.data_in = frame.data();
    options.data_size_in = static_cast<std::uint32_t>(frame.size());
    options.ctx_in = &context;
    options.ctx_size_in = sizeof context;
    options.repeat = 1;
    const int error = bpf_prog_test_run_opts(probe_->program_fd(TRAFFIC_EGRESS), &options);
    if (error == -EINVAL)
        GTEST_SKIP() << "this kernel's BPF_PROG_RUN sets no ingress interface";
    ASSERT_EQ(error, 0);
    receive(response_here(0x41, 0x31));
    EXPECT_EQ(take_outcomes(), Outcomes{});
    send(initiation(site_key_, 0x32, random_));
    receive(response_here(0x41, 0x32));
    EXPECT_EQ(take_outcomes(), (Outcomes{{HANDSHAKE_SUCCESS, 1}}));
}

TEST_P(Underlay, CountsOneOfTwoStackedDevices) {
    receive(initiation_here(0x11));
    const Message answer = response_there(0x22, 0x11);
    send(answer);
    send(answer);
    receive(data(0x22, 32));
    EXPECT_EQ(take_outcomes(), (Outcomes{{HANDSHAKE_SUCCESS, 1}}));
    EXPECT_EQ(probe_->losses(), HandshakeLosses{});
}

TEST_P(Underlay, KnowsWhoIsNeverAnswered) {
    const auto outcomes_later = [this] {
        std::this_thread::sleep_for(std::chrono::milliseconds(1050));
        return take_outcomes();
    };
    for (std::uint32_t sender = 0; sender < 10; ++sender)
        receive(initiation_here(sender));
    send(response_there(0x22, 3));
    send(cookie_reply(4));
    take_outcomes();
    for (std::uint32_t sender = 10; sender < 15; ++sender)
        receive(initiation_here(sender));
    EXPECT_EQ(outcomes_later(), (Outcomes{{HANDSHAKE_UNKNOWN_PEER, 8}}));
    send(response_there(0x23, 12));
    EXPECT_EQ(take_outcomes(), Outcomes{});
    EXPECT_EQ(outcomes_later(), (Outcomes{{HANDSHAKE_UNKNOWN_PEER, 4}}));
    EXPECT_EQ(outcomes_later(), Outcomes{});
}

TEST_P(Underlay, LooksIntoReceivedSuperPackets) {
    // Behind data of another size, only the last can be a handshake message.
    receive(joined({data(1, 720), data(2, 720), initiation(site_key_, 0x11, random_)}), 720);
    EXPECT_EQ(take_outcomes(), (Outcomes{{HANDSHAKE_INVALID_MAC, 1}}));
    receive(joined({initiation(site_key_, 1, random_), initiation(site_key_, 2, random_),
                    initiation(site_key_, 3, random_), response(site_key_, 1, 2, random_)}),
            148);
    EXPECT_EQ(take_outcomes(), (Outcomes{{HANDSHAKE_INVALID_MAC, 4}}));
    // The same bytes as one datagram are none.
    receive(joined({initiation(site_key_, 1, random_), initiation(site_key_, 2, random_)}));
    EXPECT_EQ(take_outcomes(), Outcomes{});
    receive(initiation_here(0x11));
    send(response_there(0x22, 0x11));
    receive(joined({data(1, 720), data(0x22, 720), data(1, 720), data(2, 50)}), 720);
    EXPECT_EQ(take_outcomes(), (Outcomes{{HANDSHAKE_SUCCESS, 1}}));
}

TEST_P(Underlay, LooksIntoSentSuperPackets) {
    receive(initiation_here(0x11));
    receive(initiation_here(0x12));
    receive(initiation_here(0x13));
    send(joined({response_there(0x21, 0x11), response_there(0x22, 0x12), cookie_reply(0x13)}), 92);
    send(joined({data(1, 1000), data(1, 1000), initiation(site_key_, 0x31, random_)}), 1000);
    receive(data(0x22, 32));
    receive(data(0x21, 32));
    receive(response_here(0x77, 0x31));
    EXPECT_EQ(take_outcomes(), (Outcomes{{HANDSHAKE_SUCCESS, 3}, {HANDSHAKE_COOKIE_REPLY, 1}}));
}

TEST_P(Underlay, EndsAtTheLastSegment) {
    receive(initiation_here(0x11));
    send(response_there(0x22, 0x11));
    Message many;
    // BPF_PROG_RUN takes less than a page.
    for (std::uint32_t i = 0; i < 100; ++i)
        many = joined({many, data(0x1000 + i, 32)});
    receive(joined({many, data(0x22, 32)}), 32);
    EXPECT_EQ(take_outcomes(), (Outcomes{{HANDSHAKE_SUCCESS, 1}}));
}

}  // namespace
}  // namespace pangolin::test
