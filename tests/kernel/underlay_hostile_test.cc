// The underlay programs against those who want to harm: exact counts, and memory that has bounds.
#include <bpf/bpf.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include "loader/base/unique_fd.h"
#include "tests/kernel/underlay_fixture.h"
#include "tests/support/packet_builder.h"
#include "tests/support/program_run.h"

namespace pangolin::test {
namespace {

class HostileUnderlay : public UnderlayFixture {
  protected:
    void SetUp() override {
        UnderlayFixture::SetUp();
        if (!Test::HasFatalFailure() && !Test::IsSkipped())
            open_probe();
    }

    void run(traffic_direction direction, const std::vector<std::uint8_t>& frame,
             std::uint32_t gso_size = 0) {
        ASSERT_TRUE(run_program(probe_->program_fd(direction), frame, {.gso_size = gso_size}));
    }

    UdpEnd host_{IpAddress::v4(0xc0000201), listen_port};
    UdpEnd random_site() {
        return {IpAddress::v4(static_cast<std::uint32_t>(random_()) | 1),
                static_cast<std::uint16_t>(random_() | 1)};
    }

    struct MapUse {
        std::uint32_t id = 0;
        std::size_t elements = 0;
        std::uint32_t capacity = 0;
    };
    // Of the maps of the probe's ingress program, by name as the kernel cuts it.
    std::map<std::string, MapUse> map_use() const {
        std::vector<std::uint32_t> ids(64);
        bpf_prog_info info{};
        info.nr_map_ids = static_cast<std::uint32_t>(ids.size());
        info.map_ids = reinterpret_cast<std::uint64_t>(ids.data());
        std::uint32_t length = sizeof info;
        EXPECT_EQ(bpf_prog_get_info_by_fd(probe_->program_fd(TRAFFIC_INGRESS), &info, &length), 0);
        std::map<std::string, MapUse> use;
        for (std::uint32_t i = 0; i < info.nr_map_ids; ++i) {
            const UniqueFd map(bpf_map_get_fd_by_id(ids[i]));
            bpf_map_info described{};
            length = sizeof described;
            EXPECT_EQ(bpf_map_get_info_by_fd(map.get(), &described, &length), 0);
            MapUse& found = use[described.name];
            found = {ids[i], 0, described.max_entries};
            std::vector<std::uint8_t> key(described.key_size);
            const void* previous = nullptr;
            while (found.elements <= 2 * std::size_t{found.capacity} &&
                   bpf_map_get_next_key(map.get(), previous, key.data()) == 0) {
                previous = key.data();
                ++found.elements;
            }
        }
        return use;
    }
};

TEST_F(HostileUnderlay, CountsAMillionForgedInitiations) {
    PANGOLIN_TRACE_SEED();
    constexpr std::uint64_t forgeries = 1'000'000;
    std::vector<std::uint8_t> frame =
        udp_frame(random_site(), host_, initiation(listener_.public_key, 1, random_));
    const std::size_t ip = ethernet_length;
    for (std::uint64_t i = 0; i < forgeries; ++i) {
        const std::uint64_t source = random_();
        const std::uint64_t mac[] = {random_(), random_()};
        std::memcpy(frame.data() + ip + 12, &source, 4);
        std::memcpy(frame.data() + ip + 20, &source, 2);
        std::memcpy(frame.data() + ip + 28 + 116, mac, sizeof mac);
        run(TRAFFIC_INGRESS, frame);
    }
    EXPECT_EQ(take_outcomes(), (Outcomes{{HANDSHAKE_INVALID_MAC, forgeries}}));
    EXPECT_EQ(counts_.size(), 1U);
    EXPECT_EQ(probe_->losses(), HandshakeLosses{});
    const auto use = map_use();
    EXPECT_EQ(use.at("handshake_count").elements, 1U);
    EXPECT_EQ(use.at("handshakes").elements, 0U);
    EXPECT_EQ(use.at("pending_initiat").elements, 0U);
}

// Who knows the interface's public key can make a valid mac1.
TEST_F(HostileUnderlay, CountsAFloodOfStrangersBesideASite) {
    constexpr std::uint32_t strangers = 100'000;
    constexpr std::uint32_t sites = 100;
    const PublicKey site_key{9};
    for (std::uint32_t i = 0; i < strangers; ++i) {
        run(TRAFFIC_INGRESS, udp_frame(random_site(), host_, initiation(listener_.public_key, i, random_)));
        if (i % (strangers / sites) != 0)
            continue;
        const UdpEnd site = random_site();
        run(TRAFFIC_INGRESS, udp_frame(site, host_, initiation(listener_.public_key, i, random_)));
        run(TRAFFIC_EGRESS, udp_frame(host_, site, response(site_key, i, i, random_)));
        run(TRAFFIC_INGRESS, udp_frame(site, host_, data(i, 32)));
    }
    Outcomes outcomes = take_outcomes();
    std::this_thread::sleep_for(std::chrono::milliseconds(1050));
    for (const auto& [result, count] : take_outcomes())
        outcomes[result] += count;
    EXPECT_EQ(outcomes, (Outcomes{{HANDSHAKE_SUCCESS, sites}, {HANDSHAKE_UNKNOWN_PEER, strangers}}));
    const auto use = map_use();
    EXPECT_LE(use.at("pending_initiat").elements, use.at("pending_initiat").capacity);
    EXPECT_GT(use.at("pending_initiat").elements, 0U);
}

// Nothing is counted for them: no type, length and mac1 fit by chance.
TEST_F(HostileUnderlay, SurvivesRandomPackets) {
    PANGOLIN_TRACE_SEED();
    for (int i = 0; i < 200'000; ++i) {
        Message message(random_() % 400);
        std::ranges::generate(message, [&] { return static_cast<std::uint8_t>(random_()); });
        // Near enough to be looked at, but of a type that there is not.
        if (message.size() >= 4) {
            message[0] = static_cast<std::uint8_t>(random_() % 8);
            message[1] = static_cast<std::uint8_t>(1 + random_() % 255);
        }
        const bool ingress = random_() % 2 == 0;
        std::vector<std::uint8_t> frame =
            udp_frame(ingress ? random_site() : host_, ingress ? host_ : random_site(), message);
        for (std::uint64_t damage = random_() % 4; damage > 0; --damage)
            frame[12 + random_() % 32] = static_cast<std::uint8_t>(random_());
        const std::size_t size = random_() % 4 == 0 ? 14 + random_() % (frame.size() - 13) : frame.size();
        frame.resize(std::max<std::size_t>(size, 34));
        const std::uint32_t gso_size =
            random_() % 3 == 0 ? 1 + static_cast<std::uint32_t>(random_() % 300) : 0;
        // The kernel refuses to run some of them.
        (void)run_program(probe_->program_fd(ingress ? TRAFFIC_INGRESS : TRAFFIC_EGRESS), frame,
                          {.gso_size = gso_size});
    }
    const Outcomes outcomes = take_outcomes();
    // A segment may begin anywhere in the random bytes, but 3 zero bytes behind a type are rare.
    for (const auto& [result, count] : outcomes)
        EXPECT_LT(count, 5U) << result;
}

}  // namespace
}  // namespace pangolin::test
