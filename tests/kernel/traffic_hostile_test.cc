// Packets that nobody sends in good faith, each held against the reference decoder.
#include <gtest/gtest.h>
#include <linux/pkt_cls.h>

#include <algorithm>
#include <random>

#include "loader/traffic_program.h"
#include "tests/kernel/expected_traffic.h"
#include "tests/kernel/hostile_packets.h"
#include "tests/support/packet_builder.h"
#include "tests/support/privileges.h"
#include "tests/support/program_run.h"
#include "tests/support/random_seed.h"

namespace pangolin::test {
namespace {

constexpr traffic_direction directions[] = {TRAFFIC_INGRESS, TRAFFIC_EGRESS};

// A slot for each first byte of an address, IPv4 and IPv6 apart, so that every packet lands somewhere.
std::vector<Route> routes_for_everything() {
    std::vector<Route> routes;
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
        routes.push_back({IpPrefix::make(IpAddress::v4(byte << 24), 8), 1 + byte});
        routes.push_back({IpPrefix::make({IpFamily::v6, std::uint64_t{byte} << 56, 0}, 8), 257 + byte});
    }
    return routes;
}

// Where the packets go to and come from: all ports that are usually in them, and some that damage may make.
std::vector<CountedTarget> targets_in_the_way() {
    std::vector<CountedTarget> targets;
    for (const char* const address : {"10.0.0.1", "100.89.128.4", "fd00::1", "2001::2"}) {
        for (const TargetProtocol protocol : {TargetProtocol::tcp, TargetProtocol::udp}) {
            for (const std::uint16_t port : {0, 1, 256, 0x6000, 0x4500})
                targets.push_back({.address = IpAddress::parse(address).value(),
                                   .port = port,
                                   .protocol = protocol,
                                   .index = static_cast<std::uint32_t>(targets.size() + 1)});
        }
    }
    return targets;
}

class HostilePackets : public testing::Test {
  protected:
    void SetUp() override {
        PANGOLIN_REQUIRE_ROOT();
        const std::vector<Route> routes = routes_for_everything();
        const RouteTable table = RouteTable::compile(routes);
        const std::vector<CountedTarget> targets = targets_in_the_way();
        const TargetTable target_table = TargetTable::compile(targets);
        auto program = TrafficProgram::load(
            {.slots = 513, .routes = table.capacity(), .targets = target_table.capacity()}, ethernet_length);
        ASSERT_TRUE(program) << program.error().message();
        ASSERT_TRUE(program->publish(table, target_table));
        program_.emplace(std::move(*program));
        expected_.emplace(routes);
        expected_->set_targets(targets);
    }

    void TearDown() override {
        if (program_ && expected_)
            expected_->expect_counted(*program_);
    }

    void send(traffic_direction direction, std::span<const std::uint8_t> frame, std::uint32_t gso_size = 0) {
        // The kernel refuses to run a frame that says IP and is shorter than an IP header.
        std::vector<std::uint8_t> untyped(frame.begin(), frame.end());
        untyped[12] = untyped[13] = 0;
        const auto result = run_program(program_->program_fd(direction), untyped, {.gso_size = gso_size});
        ASSERT_TRUE(result) << result.error().message() << ", " << frame.size() << " bytes";
        ASSERT_EQ(static_cast<int>(result->return_value), TC_ACT_UNSPEC);
        expected_->add(direction, frame.subspan(ethernet_length), gso_size);
    }

    void send_both(std::span<const std::uint8_t> frame, std::uint32_t gso_size = 0) {
        for (const traffic_direction direction : directions)
            send(direction, frame, gso_size);
    }

    std::optional<TrafficProgram> program_;
    std::optional<ExpectedTraffic> expected_;
};

TEST_F(HostilePackets, CutOffAtEveryByte) {
    for (const NamedPacket& packet : one_of_each_kind()) {
        SCOPED_TRACE(packet.name);
        for (std::size_t size = ethernet_length; size <= packet.frame.size(); ++size) {
            for (const std::uint32_t gso_size : {0U, 1U, 8U, 1000U})
                send_both(std::span(packet.frame).first(size), gso_size);
        }
        if (HasFailure())
            return;
    }
}

TEST_F(HostilePackets, EveryFirstByteAtEveryLength) {
    for (unsigned first = 0; first < 256; ++first) {
        for (std::size_t size = 0; size <= 64; ++size) {
            std::vector<std::uint8_t> frame = PacketBuilder().payload(size).build();
            if (size > 0)
                frame[ethernet_length] = static_cast<std::uint8_t>(first);
            send_both(frame);
        }
    }
}

TEST_F(HostilePackets, EveryProtocolNumber) {
    const IpAddress remote = IpAddress::parse("10.0.0.1").value();
    const IpAddress remote6 = IpAddress::parse("fd00::1").value();
    for (unsigned number = 0; number < 256; ++number) {
        const auto protocol = static_cast<std::uint8_t>(number);
        for (const std::uint32_t gso_size : {0U, 100U}) {
            send_both(PacketBuilder()
                          .ipv4({.source = remote, .destination = remote, .protocol = protocol})
                          .payload(300)
                          .build(),
                      gso_size);
            send_both(PacketBuilder()
                          .ipv6({.source = remote6, .destination = remote6, .next_header = protocol})
                          .payload(300)
                          .build(),
                      gso_size);
            send_both(PacketBuilder()
                          .ipv6({.source = remote6, .destination = remote6, .next_header = 60})
                          .extension(protocol)
                          .payload(300)
                          .build(),
                      gso_size);
        }
    }
}

TEST_F(HostilePackets, SuperPacketsOfEverySize) {
    for (const NamedPacket& packet : one_of_each_kind()) {
        SCOPED_TRACE(packet.name);
        std::vector<std::uint8_t> frame = packet.frame;
        frame.resize(frame.size() + 1900);
        for (const std::uint32_t gso_size : {1U, 2U, 7U, 8U, 536U, 1448U, 1899U, 1900U, 1901U, 65535U}) {
            for (const std::size_t payload :
                 {0U, 1U, 7U, 8U, 9U, 535U, 536U, 537U, 1072U, 1073U, 1448U, 1449U})
                send_both(std::span(frame).first(packet.frame.size() + payload), gso_size);
        }
    }
}

TEST_F(HostilePackets, ChainsOfExtensionHeaders) {
    PANGOLIN_TRACE_SEED();
    std::mt19937_64 random(random_seed());
    for (int i = 0; i < 60000 && !HasFailure(); ++i) {
        std::vector<std::uint8_t> frame = random_chain(random);
        // Half of them cut off somewhere.
        if (random() % 2 == 0)
            frame.resize(ethernet_length + random() % (frame.size() - ethernet_length + 1));
        send(directions[random() % 2], frame, random() % 3 == 0 ? 1 + random() % 1500 : 0);
    }
}

// Right but for some bytes: gets further than noise does.
TEST_F(HostilePackets, DamagedPackets) {
    PANGOLIN_TRACE_SEED();
    std::mt19937_64 random(random_seed());
    const std::vector<NamedPacket> packets = one_of_each_kind();
    for (int i = 0; i < 400000 && !HasFailure(); ++i) {
        // Before so many datagrams have begun that the program forgets some of them.
        if (i % 50000 == 49999) {
            TearDown();
            SetUp();
        }
        std::vector<std::uint8_t> frame = packets[random() % packets.size()].frame;
        frame.resize(frame.size() + random() % 200);
        for (std::uint64_t damage = random() % 4; damage > 0; --damage)
            frame[ethernet_length + random() % (frame.size() - ethernet_length)] =
                static_cast<std::uint8_t>(random());
        send(directions[i % 2], frame, i % 5 == 0 ? 1 + random() % 300 : 0);
    }
}

TEST_F(HostilePackets, RandomBytes) {
    PANGOLIN_TRACE_SEED();
    std::mt19937_64 random(random_seed());
    for (int i = 0; i < 500000 && !HasFailure(); ++i) {
        std::vector<std::uint8_t> frame(ethernet_length + random() % 128);
        for (std::uint8_t& byte : frame)
            byte = static_cast<std::uint8_t>(random());
        // Noise alone is IP of a known version once in eight times.
        if (frame.size() > ethernet_length && random() % 4 != 0)
            frame[ethernet_length] =
                static_cast<std::uint8_t>(random() % 2 == 0 ? 0x60 : 0x40 | random() % 16);
        send(directions[i % 2], frame, random() % 4 == 0 ? 1 + random() % 65535 : 0);
    }
}

// By hand, in case the reference decoder makes the same mistake as the program.
TEST(KnownPackets, CountAsWorkedOutByHand) {
    PANGOLIN_REQUIRE_ROOT();
    for (const KnownPacket& known : known_packets()) {
        SCOPED_TRACE(known.description);
        auto program = TrafficProgram::load({}, ethernet_length);
        ASSERT_TRUE(program) << program.error().message();
        const auto result =
            run_program(program->program_fd(TRAFFIC_EGRESS), known.frame, {.gso_size = known.gso_size});
        ASSERT_TRUE(result) << result.error().message();
        EXPECT_EQ(static_cast<int>(result->return_value), TC_ACT_UNSPEC);
        const std::vector<UnmatchedTraffic> counted = program->read_unmatched();
        ASSERT_EQ(counted.size(), 1U);
        EXPECT_EQ(counted[0].remote.to_string(), known.destination);
        const traffic_count& count = counted[0].counts.count[TRAFFIC_EGRESS][known.protocol];
        EXPECT_EQ(count.packets, known.packets);
        EXPECT_EQ(count.bytes, known.bytes);
        EXPECT_EQ(total(*program).packets, known.packets);
        EXPECT_EQ(program->read_losses().loss[TRAFFIC_LOSS_GSO_HEADER], known.segments_unknown ? 1U : 0U);
    }
}

}  // namespace
}  // namespace pangolin::test
