// The traffic programs in the kernel: that they find the peer, and that nothing is lost on the way.
#include "loader/traffic_program.h"

#include <gtest/gtest.h>
#include <linux/pkt_cls.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "tests/kernel/expected_traffic.h"
#include "tests/support/packet_builder.h"
#include "tests/support/privileges.h"
#include "tests/support/program_run.h"
#include "tests/support/random_seed.h"
#include "tests/support/route_cases.h"

namespace pangolin::test {
namespace {

constexpr traffic_direction directions[] = {TRAFFIC_INGRESS, TRAFFIC_EGRESS};

TrafficProgram load(const RouteTable& table, std::uint32_t slots) {
    auto program = TrafficProgram::load({.slots = slots, .routes = table.capacity()}, ethernet_length);
    if (!program)
        throw std::runtime_error(program.error().message());
    EXPECT_TRUE(program->publish(table));
    return std::move(*program);
}

// A UDP packet from or to `remote`. The other end is nobody's, so that looking at it finds nothing.
std::vector<std::uint8_t> packet_of(traffic_direction direction, const IpAddress& remote) {
    const bool v4 = remote.family == IpFamily::v4;
    const IpAddress local =
        v4 ? IpAddress::v4(0xc6336401) : IpAddress{IpFamily::v6, 0x0100'dead'0000'0000, 1};
    const IpAddress& source = direction == TRAFFIC_INGRESS ? remote : local;
    const IpAddress& destination = direction == TRAFFIC_INGRESS ? local : remote;
    PacketBuilder builder;
    if (v4)
        builder.ipv4({.source = source, .destination = destination, .protocol = 17});
    else
        builder.ipv6({.source = source, .destination = destination, .next_header = 17});
    return builder.udp().payload(remote.low % 60).build();
}

std::span<const std::uint8_t> ip_of(const std::vector<std::uint8_t>& frame) {
    return std::span(frame).subspan(ethernet_length);
}

void run(const TrafficProgram& program, traffic_direction direction, const std::vector<std::uint8_t>& frame,
         std::uint32_t repeat = 1) {
    const auto result = run_program(program.program_fd(direction), frame, {.repeat = repeat});
    ASSERT_TRUE(result) << result.error().message();
    ASSERT_EQ(static_cast<int>(result->return_value), TC_ACT_UNSPEC);
}

void run_both(const TrafficProgram& program, ExpectedTraffic& expected, const IpAddress& remote) {
    for (const traffic_direction direction : directions) {
        const std::vector<std::uint8_t> frame = packet_of(direction, remote);
        run(program, direction, frame);
        expected.add(direction, ip_of(frame));
    }
}

class OddRoutesInTheKernel : public testing::TestWithParam<RouteCase> {};

TEST_P(OddRoutesInTheKernel, FindTheLongestPrefix) {
    PANGOLIN_REQUIRE_ROOT();
    PANGOLIN_TRACE_SEED();
    std::mt19937_64 random(random_seed());
    const std::vector<Route>& routes = GetParam().routes;
    const TrafficProgram program = load(RouteTable::compile(routes), odd_case_slots);
    ExpectedTraffic expected(routes);
    // The model looks at every route for every address.
    const std::size_t limit = routes.size() > 20000 ? 300 : 2000;
    for (const IpAddress& remote : telling_addresses(routes, limit, random))
        run_both(program, expected, remote);
    expected.expect_counted(program);
}

INSTANTIATE_TEST_SUITE_P(Cases, OddRoutesInTheKernel, testing::ValuesIn(odd_route_cases()),
                         [](const auto& info) { return info.param.name; });

TEST(TrafficRoutes, ArePublishedAgainAndAgain) {
    PANGOLIN_REQUIRE_ROOT();
    PANGOLIN_TRACE_SEED();
    std::mt19937_64 random(random_seed());
    constexpr std::uint32_t slots = 50;
    const RouteCapacity room{.entries = 4096, .pool_blocks = 4096};
    auto program = TrafficProgram::load({.slots = slots, .routes = room}, ethernet_length);
    ASSERT_TRUE(program) << program.error().message();
    ExpectedTraffic expected({});
    for (int round = 0; round < 150 && !testing::Test::HasFailure(); ++round) {
        SCOPED_TRACE("round " + std::to_string(round));
        const std::vector<Route> routes = random_routes(random() % 300, slots, random);
        const RouteTable table = RouteTable::compile(routes, room);
        ASSERT_TRUE(room.holds(table.capacity()));
        EXPECT_TRUE(program->publish(table));
        expected.set_routes(routes);
        for (const IpAddress& remote : telling_addresses(routes, 100, random)) {
            run_both(*program, expected, remote);
            // Packets of this round only: the map must not run full over all of them.
            program->forget_unmatched(remote);
            expected.forget_unmatched(remote);
        }
        expected.expect_counted(*program);
    }
}

// A table that was compiled without regard to the room in the kernel.
TEST(TrafficRoutes, MayBeCompiledForLessRoom) {
    PANGOLIN_REQUIRE_ROOT();
    const std::vector<Route> many = consecutive_v4(0x0a000000, 24, 300);
    const TrafficCapacity capacity{.slots = 400, .routes = {.entries = 8192, .pool_blocks = 64}};
    auto program = TrafficProgram::load(capacity, ethernet_length);
    ASSERT_TRUE(program) << program.error().message();
    ExpectedTraffic expected({});
    for (const std::size_t count : {300U, 3U, 40U, 0U, 1U}) {
        const std::span<const Route> routes = std::span(many).first(count);
        EXPECT_TRUE(program->publish(RouteTable::compile(routes)));
        expected.set_routes(routes);
        for (const Route& each : many)
            run_both(*program, expected, each.prefix.network);
    }
    expected.expect_counted(*program);
}

// Runs packets of `remotes` in turn on one CPU until told to stop.
class PacketStream {
  public:
    PacketStream(const TrafficProgram& program, traffic_direction direction,
                 const std::vector<IpAddress>& remotes)
        : sent_(remotes.size()), thread_([this, &program, direction, remotes](const std::stop_token& stop) {
              std::vector<std::vector<std::uint8_t>> frames;
              for (const IpAddress& remote : remotes)
                  frames.push_back(packet_of(direction, remote));
              for (std::size_t i = 0; !stop.stop_requested(); i = (i + 1) % frames.size()) {
                  run(program, direction, frames[i]);
                  ++sent_[i];
              }
          }) {}

    // Packets sent for each address.
    const std::vector<std::uint64_t>& stop() {
        thread_.request_stop();
        thread_.join();
        return sent_;
    }

  private:
    std::vector<std::uint64_t> sent_;
    std::jthread thread_;
};

constexpr std::uint32_t moving_peers = 40;

// Half of the addresses in a pool, half in the hash table; the slot of address i is base + i.
std::vector<Route> moving_routes(std::uint32_t base) {
    std::vector<Route> routes;
    for (std::uint32_t i = 0; i < moving_peers; ++i) {
        const IpPrefix prefix = i % 2 == 0 ? IpPrefix::make(IpAddress::v4(0x0a000000 + i), 32)
                                           : IpPrefix::make({IpFamily::v6, 0xfd00ULL << 48 | i, 1}, 64);
        routes.push_back({prefix, base + i});
    }
    return routes;
}

std::uint64_t packets_in(const TrafficProgram& program, std::uint32_t first, std::uint32_t count) {
    std::uint64_t sum = 0;
    for (std::uint32_t slot = first; slot < first + count; ++slot)
        sum += total(program.read(slot)).packets;
    return sum;
}

TEST(TrafficRoutes, LeaveTheOldSlotsAloneAfterPublishReturns) {
    PANGOLIN_REQUIRE_ROOT();
    constexpr std::uint32_t groups = 3;
    const RouteTable first = RouteTable::compile(moving_routes(1));
    TrafficProgram program = load(first, 1 + groups * moving_peers);
    std::vector<IpAddress> remotes;
    for (const Route& each : moving_routes(1))
        remotes.push_back(each.prefix.network);

    PacketStream ingress(program, TRAFFIC_INGRESS, remotes);
    PacketStream egress(program, TRAFFIC_EGRESS, remotes);
    for (std::uint32_t round = 1; round <= 100; ++round) {
        const std::uint32_t old = 1 + (round - 1) % groups * moving_peers;
        const std::uint32_t now = 1 + round % groups * moving_peers;
        EXPECT_TRUE(program.publish(RouteTable::compile(moving_routes(now), first.capacity())));
        const std::uint64_t left = packets_in(program, old, moving_peers);
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        EXPECT_EQ(packets_in(program, old, moving_peers), left) << "round " << round;
    }
    const std::vector<std::uint64_t> in = ingress.stop();
    const std::vector<std::uint64_t> out = egress.stop();
    for (std::uint32_t i = 0; i < moving_peers; ++i) {
        std::uint64_t counted = 0;
        for (std::uint32_t group = 0; group < groups; ++group)
            counted += packets_in(program, 1 + group * moving_peers + i, 1);
        EXPECT_EQ(counted, in[i] + out[i]) << "address " << i;
    }
    EXPECT_TRUE(program.read_unmatched().empty());
}

TEST(TrafficSlots, AreZeroAfterClear) {
    PANGOLIN_REQUIRE_ROOT();
    const Route only[] = {route("10.0.0.1/32", 1)};
    TrafficProgram program = load(RouteTable::compile(only), 3);
    run(program, TRAFFIC_INGRESS, packet_of(TRAFFIC_INGRESS, only[0].prefix.network), 10);
    EXPECT_EQ(total(program.read(1)).packets, 10U);
    program.clear(1);
    EXPECT_EQ(total(program).packets, 0U);
}

}  // namespace
}  // namespace pangolin::test
