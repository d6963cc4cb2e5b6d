// Traffic of addresses that are no peer's, and counting on several CPUs at once.
#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <map>
#include <thread>

#include "loader/traffic_program.h"
#include "tests/kernel/expected_traffic.h"
#include "tests/support/packet_builder.h"
#include "tests/support/privileges.h"
#include "tests/support/program_run.h"
#include "tests/support/route_cases.h"

namespace pangolin::test {
namespace {

TrafficProgram load(std::span<const Route> routes) {
    const RouteTable table = RouteTable::compile(routes);
    auto program = TrafficProgram::load(
        {.slots = static_cast<std::uint32_t>(routes.size()) + 1, .routes = table.capacity()},
        ethernet_length);
    if (!program)
        throw std::runtime_error(program.error().message());
    program->publish(table);
    return std::move(*program);
}

// Source and destination are `address`: the same for both directions.
std::vector<std::uint8_t> packet_of(const IpAddress& address) {
    PacketBuilder builder;
    if (address.family == IpFamily::v4)
        builder.ipv4({.source = address, .destination = address});
    else
        builder.ipv6({.source = address, .destination = address});
    return builder.tcp().payload(100).build();
}

IpAddress numbered(std::uint32_t number) {
    return number % 2 == 0 ? IpAddress::v4(0x0b000000 + number)
                           : IpAddress{IpFamily::v6, 0xfd00ULL << 48, number};
}

void run(const TrafficProgram& program, traffic_direction direction, const IpAddress& address,
         std::uint32_t repeat = 1) {
    const auto result = run_program(program.program_fd(direction), packet_of(address), {.repeat = repeat});
    ASSERT_TRUE(result) << result.error().message();
}

// Runs `work(worker)` on `workers` threads at once, spread over the CPUs.
template <class Work>
void on_many_cpus(std::uint32_t workers, const Work& work) {
    std::vector<std::jthread> threads;
    for (std::uint32_t worker = 0; worker < workers; ++worker) {
        threads.emplace_back([worker, &work] {
            cpu_set_t cpus;
            CPU_ZERO(&cpus);
            CPU_SET(worker % std::max(1U, std::thread::hardware_concurrency()), &cpus);
            sched_setaffinity(0, sizeof cpus, &cpus);
            work(worker);
        });
    }
}

TEST(UnmatchedTraffic, KeepsAddressesOfBothFamiliesApart) {
    PANGOLIN_REQUIRE_ROOT();
    const TrafficProgram program = load({});
    ExpectedTraffic expected({});
    for (const char* const text :
         {"10.0.0.1", "::ffff:10.0.0.1", "::10.0.0.1", "0.0.0.0", "::", "::ffff:0:0"}) {
        const std::vector<std::uint8_t> frame = packet_of(IpAddress::parse(text).value());
        for (const traffic_direction direction : {TRAFFIC_INGRESS, TRAFFIC_EGRESS}) {
            ASSERT_TRUE(run_program(program.program_fd(direction), frame));
            expected.add(direction, std::span(frame).subspan(ethernet_length));
        }
    }
    expected.expect_counted(program);
}

TEST(UnmatchedTraffic, IsForgottenByAddressAndFamily) {
    PANGOLIN_REQUIRE_ROOT();
    TrafficProgram program = load({});
    for (const char* const text : {"10.0.0.1", "::ffff:10.0.0.1", "10.0.0.2"})
        run(program, TRAFFIC_INGRESS, IpAddress::parse(text).value());
    program.forget_unmatched(IpAddress::parse("10.0.0.1").value());
    std::vector<std::string> left;
    for (const UnmatchedTraffic& each : program.read_unmatched())
        left.push_back(each.remote.to_string());
    std::ranges::sort(left);
    EXPECT_EQ(left, (std::vector<std::string>{"10.0.0.2", "::ffff:10.0.0.1"}));
}

TEST(UnmatchedTraffic, OfMoreAddressesThanRoomIsCountedInOneSlot) {
    PANGOLIN_REQUIRE_ROOT();
    TrafficProgram program = load({});
    const std::uint32_t room = program.unmatched_capacity();
    constexpr std::uint32_t more = 1000;
    for (std::uint32_t i = 0; i < room + more; ++i) {
        run(program, TRAFFIC_INGRESS, numbered(i));
        run(program, TRAFFIC_EGRESS, numbered(i));
    }
    EXPECT_EQ(program.read_unmatched().size(), room);
    EXPECT_EQ(program.read_losses().loss[TRAFFIC_LOSS_UNMATCHED_FULL], 2 * more);
    const traffic_counts over = program.read(TRAFFIC_SLOT_UNMATCHED);
    // 140 bytes over IPv4, 160 over IPv6, half of each.
    for (const auto& direction : over.count) {
        EXPECT_EQ(direction[TRAFFIC_TCP].packets, more);
        EXPECT_EQ(direction[TRAFFIC_TCP].bytes, more * 150);
    }
    EXPECT_EQ(total(program).packets, 2 * (room + more));

    // Room that becomes free is used again.
    program.forget_unmatched(numbered(0));
    run(program, TRAFFIC_INGRESS, numbered(room + more));
    EXPECT_EQ(program.read_losses().loss[TRAFFIC_LOSS_UNMATCHED_FULL], 2 * more);
    EXPECT_EQ(program.read_unmatched().size(), room);
}

// CPUs may overrun the map's limit by a few when they insert at once: those must not escape reading.
TEST(UnmatchedTraffic, IsCompleteWhenManyCpusFillTheMapAtOnce) {
    PANGOLIN_REQUIRE_ROOT();
    for (int round = 0; round < 3; ++round) {
        const TrafficProgram program = load({});
        const std::uint32_t each = program.unmatched_capacity() / 2;
        on_many_cpus(4, [&](std::uint32_t worker) {
            for (std::uint32_t i = 0; i < each; ++i)
                run(program, TRAFFIC_INGRESS, numbered(worker * each + i));
        });
        EXPECT_EQ(total(program).packets, 4 * each);
        EXPECT_EQ(program.read_losses().loss[TRAFFIC_LOSS_UNMATCHED_FULL],
                  total(program.read(TRAFFIC_SLOT_UNMATCHED)).packets);
    }
}

// Shared and new addresses, slots and unmatched ones, from several threads on every CPU.
TEST(TrafficCounts, AreExactOnManyCpusAtOnce) {
    PANGOLIN_REQUIRE_ROOT();
    constexpr std::uint32_t workers = 8;
    constexpr std::uint32_t rounds = 5;
    constexpr std::uint32_t addresses = 6;
    constexpr std::uint32_t repeat = 5000;
    std::vector<Route> routes;
    for (std::uint32_t i = 0; i < addresses; ++i)
        routes.push_back({IpPrefix::make(numbered(i), i % 2 == 0 ? 32 : 128), i + 1});
    const TrafficProgram program = load(routes);
    // The second half of the addresses is nobody's.
    on_many_cpus(workers, [&](std::uint32_t worker) {
        // Neighbours run on different CPUs and count into the same elements.
        const traffic_direction direction = worker / 2 % 2 == 0 ? TRAFFIC_INGRESS : TRAFFIC_EGRESS;
        for (std::uint32_t round = 0; round < rounds; ++round) {
            for (std::uint32_t i = 0; i < 2 * addresses; ++i)
                run(program, direction, numbered(i), repeat);
        }
    });
    ExpectedTraffic expected(routes);
    for (std::uint32_t i = 0; i < 2 * addresses; ++i) {
        const std::vector<std::uint8_t> frame = packet_of(numbered(i));
        for (const traffic_direction direction : {TRAFFIC_INGRESS, TRAFFIC_EGRESS})
            expected.add(direction, std::span(frame).subspan(ethernet_length), 0,
                         workers / 2 * rounds * repeat);
    }
    expected.expect_counted(program);
}

}  // namespace
}  // namespace pangolin::test
