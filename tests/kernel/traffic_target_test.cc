// Counting by target: found by remote address, port and protocol, fragments included.
#include <gtest/gtest.h>
#include <linux/pkt_cls.h>

#include <algorithm>
#include <thread>

#include "loader/traffic_program.h"
#include "tests/kernel/expected_traffic.h"
#include "tests/support/packet_builder.h"
#include "tests/support/privileges.h"
#include "tests/support/program_run.h"
#include "tests/support/random_seed.h"
#include "tests/support/route_cases.h"

namespace pangolin::test {
namespace {

constexpr std::uint16_t first_port = 40000;
constexpr std::uint32_t ports = 6;
constexpr std::uint32_t site_count = 12;

const IpAddress host4 = IpAddress::v4(0xc6336401);
const IpAddress host6{IpFamily::v6, 0x0100'dead'0000'0000, 1};

IpAddress address(const char* text) {
    return IpAddress::parse(text).value();
}

// Half IPv4 in a pool, half IPv6 in the hash table.
IpAddress site_address(std::uint32_t site) {
    return site % 2 == 0 ? IpAddress::v4(0x64598000U + 4 * site)
                         : IpAddress{IpFamily::v6, 0xfd00ULL << 48 | site, 5};
}

std::vector<Route> site_routes() {
    std::vector<Route> routes;
    // The last two sites have no peer yet.
    for (std::uint32_t site = 0; site < site_count - 2; ++site)
        routes.push_back({IpPrefix::make(site_address(site), site % 2 == 0 ? 30 : 64), site + 1});
    return routes;
}

// Every third pair of sites has no target; of the others' ports about half are targets, of either protocol.
std::vector<CountedTarget> random_targets(std::mt19937_64& random) {
    std::vector<CountedTarget> targets;
    for (std::uint32_t site = 0; site < site_count; ++site) {
        for (std::uint32_t port = 0; port < ports && site / 2 % 3 != 1; ++port) {
            for (const TargetProtocol protocol : {TargetProtocol::tcp, TargetProtocol::udp}) {
                if (random() % 2 == 0)
                    targets.push_back({.address = site_address(site),
                                       .port = static_cast<std::uint16_t>(first_port + port),
                                       .protocol = protocol,
                                       .index = static_cast<std::uint32_t>(targets.size() + 1)});
            }
        }
    }
    return targets;
}

TrafficProgram loaded(const RouteTable& routes, const TargetTable& targets, const TargetCapacity& room) {
    auto program = TrafficProgram::load(
        {.slots = site_count + 2, .routes = routes.capacity(), .targets = room}, ethernet_length);
    if (!program)
        throw std::runtime_error(program.error().message());
    if (const auto published = program->publish(routes, targets); !published)
        throw std::runtime_error(published.error().message());
    return std::move(*program);
}

void run(const TrafficProgram& program, traffic_direction direction, const std::vector<std::uint8_t>& frame,
         const ProgramRun& how = {}) {
    const auto result = run_program(program.program_fd(direction), frame, how);
    ASSERT_TRUE(result) << result.error().message();
    ASSERT_EQ(static_cast<int>(result->return_value), TC_ACT_UNSPEC);
}

struct Flow {
    traffic_direction direction = TRAFFIC_INGRESS;
    IpAddress remote;
    std::uint8_t protocol = 6;
    std::uint16_t remote_port = 0;
    std::uint16_t local_port = 50000;
};

void transport(PacketBuilder& builder, const Flow& flow, std::uint8_t tcp_words = 5) {
    const bool in = flow.direction == TRAFFIC_INGRESS;
    if (flow.protocol == 6)
        builder.tcp(tcp_words);
    else
        builder.udp();
    builder.ports(in ? flow.remote_port : flow.local_port, in ? flow.local_port : flow.remote_port);
}

// The network header; `fragment` is its offset in units of 8 bytes, with `more` to come.
struct Piece {
    std::uint32_t identification = 0;
    std::uint16_t offset = 0;
    bool more = false;
    bool fragment() const { return offset != 0 || more; }
};

PacketBuilder network(const Flow& flow, const Piece& piece, std::uint8_t options) {
    const bool v4 = flow.remote.family == IpFamily::v4;
    const bool in = flow.direction == TRAFFIC_INGRESS;
    const IpAddress& local = v4 ? host4 : host6;
    PacketBuilder builder;
    if (v4) {
        return builder.ipv4({.source = in ? flow.remote : local,
                             .destination = in ? local : flow.remote,
                             .protocol = flow.protocol,
                             .header_words = static_cast<std::uint8_t>(5 + options),
                             .version = 4,
                             .fragment = static_cast<std::uint16_t>(piece.offset | (piece.more ? 0x2000 : 0)),
                             .identification = static_cast<std::uint16_t>(piece.identification)});
    }
    // Options before the fragment header, and behind it in the first fragment.
    const bool before = options % 2 == 1;
    const bool behind = options >= 2;
    const std::uint8_t upper = behind ? 60 : flow.protocol;
    const std::uint8_t next = piece.fragment() ? 44 : upper;
    builder.ipv6({.source = in ? flow.remote : local,
                  .destination = in ? local : flow.remote,
                  .next_header = before ? std::uint8_t{0} : next});
    if (before)
        builder.extension(next);
    if (piece.fragment())
        builder.fragment_header(upper, piece.offset, piece.more, piece.identification);
    if (behind && piece.offset == 0)
        builder.extension(flow.protocol, 1);
    return builder;
}

Flow random_flow(std::mt19937_64& random) {
    IpAddress remote = site_address(random() % site_count);
    if (random() % 8 == 0)
        ++remote.low;  // another address of the same peer
    constexpr std::uint8_t protocols[] = {6, 6, 17, 17, 17, 1, 47};
    return {.direction = random() % 2 == 0 ? TRAFFIC_INGRESS : TRAFFIC_EGRESS,
            .remote = remote,
            .protocol = protocols[random() % 7],
            .remote_port = static_cast<std::uint16_t>(first_port + random() % (ports + 1)),
            // What is a target there must not be taken for one here.
            .local_port = static_cast<std::uint16_t>(first_port + random() % ports)};
}

struct TestPacket {
    traffic_direction direction;
    std::vector<std::uint8_t> frame;
    std::uint32_t gso_size = 0;
};

// A whole packet or super-packet, or the fragments of a datagram: in order, out of order, or not all of them.
std::vector<TestPacket> random_datagram(std::mt19937_64& random) {
    const Flow flow = random_flow(random);
    const bool has_ports = flow.protocol == 6 || flow.protocol == 17;
    const std::uint8_t options = random() % 4 == 0 ? random() % 4 : 0;
    const auto tcp_words = static_cast<std::uint8_t>(5 + random() % 11);
    std::vector<TestPacket> packets;
    if (random() % 3 != 0) {
        PacketBuilder builder = network(flow, {}, options);
        if (has_ports)
            transport(builder, flow, tcp_words);
        const std::uint32_t gso_size = has_ports && random() % 4 == 0 ? 100 + random() % 1000 : 0;
        packets.push_back({flow.direction, builder.payload(random() % 2000).build(), gso_size});
        return packets;
    }
    const auto identification = static_cast<std::uint32_t>(random() % 5);
    const std::uint64_t count = 2 + random() % 4;
    for (std::uint64_t i = 0; i < count; ++i) {
        PacketBuilder builder = network(flow,
                                        {.identification = identification,
                                         .offset = static_cast<std::uint16_t>(i * 25),
                                         .more = i + 1 < count},
                                        options);
        if (i == 0 && has_ports)
            transport(builder, flow);
        packets.push_back({flow.direction, builder.payload(200).build()});
    }
    if (random() % 4 == 0)
        std::ranges::shuffle(packets, random);
    if (random() % 8 == 0)
        packets.erase(packets.begin());
    return packets;
}

TEST(TargetTraffic, IsExactForRandomPacketsAndTargets) {
    PANGOLIN_REQUIRE_ROOT();
    PANGOLIN_TRACE_SEED();
    std::mt19937_64 random(random_seed());
    const std::vector<Route> routes = site_routes();
    const RouteTable route_table = RouteTable::compile(routes);
    const TargetCapacity room{.indexes = site_count * ports * 2 + 1, .entries = 512};
    TrafficProgram program = loaded(route_table, {}, room);
    ExpectedTraffic expected(routes);
    // Without targets at first, and with others ten times: the counts go on, as do datagrams in between.
    for (int round = 0; round < 10 && !testing::Test::HasFailure(); ++round) {
        for (int i = 0; i < 6000; ++i) {
            for (const TestPacket& packet : random_datagram(random)) {
                run(program, packet.direction, packet.frame, {.gso_size = packet.gso_size});
                expected.add(packet.direction, std::span(packet.frame).subspan(ethernet_length),
                             packet.gso_size);
            }
        }
        expected.expect_counted(program);
        const std::vector<CountedTarget> targets = random_targets(random);
        ASSERT_TRUE(program.publish(route_table, TargetTable::compile(targets)));
        expected.set_targets(targets);
    }
    EXPECT_GT(program.read_losses().loss[TRAFFIC_LOSS_FRAGMENT], 100U);
}

// By hand, in case the model makes the same mistake as the program.
TEST(TargetTraffic, CountsAsWorkedOutByHand) {
    PANGOLIN_REQUIRE_ROOT();
    const std::vector<Route> routes = {route("100.89.128.4/30", 1)};
    const IpAddress site = address("100.89.128.4");
    const CountedTarget targets[] = {{site, 40000, TargetProtocol::tcp, 1},
                                     {site, 40000, TargetProtocol::udp, 2}};
    const TargetTable table = TargetTable::compile(targets);
    TrafficProgram program = loaded(RouteTable::compile(routes), table, table.capacity());
    const auto send = [&](const Flow& flow, const Piece& piece, std::size_t payload, std::uint32_t gso = 0) {
        PacketBuilder builder = network(flow, piece, 0);
        if (piece.offset == 0)
            transport(builder, flow);
        run(program, flow.direction, builder.payload(payload).build(), {.gso_size = gso});
    };
    const auto expect = [&](std::uint32_t target, traffic_direction direction, std::uint64_t packets,
                            std::uint64_t bytes) {
        const traffic_count count = program.read_target(target).count[direction];
        EXPECT_EQ(count.packets, packets) << "target " << target;
        EXPECT_EQ(count.bytes, bytes) << "target " << target;
    };
    const Flow tcp_in{TRAFFIC_INGRESS, site, 6, 40000};
    const Flow udp_out{TRAFFIC_EGRESS, site, 17, 40000};
    send(tcp_in, {}, 100);
    send(tcp_in, {}, 2500, 1000);
    expect(1, TRAFFIC_INGRESS, 4, 140 + 2500 + 3 * 40);
    expect(1, TRAFFIC_EGRESS, 0, 0);
    // Before the first fragment, after it, and of another datagram.
    send(udp_out, {.identification = 7, .offset = 25, .more = false}, 50);
    send(udp_out, {.identification = 7, .offset = 0, .more = true}, 192);
    send(udp_out, {.identification = 7, .offset = 25, .more = false}, 50);
    send(udp_out, {.identification = 8, .offset = 25, .more = false}, 50);
    expect(2, TRAFFIC_EGRESS, 2, 220 + 70);
    EXPECT_EQ(program.read_losses().loss[TRAFFIC_LOSS_FRAGMENT], 2U);
    // The port at this end, another port, another address of the peer.
    send({TRAFFIC_INGRESS, site, 6, 50000, 40000}, {}, 10);
    send({TRAFFIC_INGRESS, site, 6, 39999}, {}, 10);
    send({TRAFFIC_INGRESS, address("100.89.128.5"), 6, 40000}, {}, 10);
    expect(1, TRAFFIC_INGRESS, 4, 140 + 2500 + 3 * 40);
    EXPECT_EQ(total(program.read(1)).packets, 4U + 4 + 3);
    program.clear_target(1);
    expect(1, TRAFFIC_INGRESS, 0, 0);
    expect(2, TRAFFIC_EGRESS, 2, 290);
}

TEST(TargetTraffic, NeedsRoom) {
    PANGOLIN_REQUIRE_ROOT();
    const RouteTable routes = RouteTable::compile(site_routes());
    std::vector<CountedTarget> targets = {{site_address(0), 1, TargetProtocol::tcp, 3}};
    const TargetTable table = TargetTable::compile(targets);
    TrafficProgram program = loaded(routes, {}, table.capacity());
    EXPECT_TRUE(program.publish(routes, table));
    EXPECT_FALSE(program.publish(routes, TargetTable::compile(targets, {.indexes = 0, .entries = 64})));
    targets[0].index = 4;
    EXPECT_FALSE(program.publish(routes, TargetTable::compile(targets)));
    const TrafficProgram none = loaded(routes, {}, {});
    run(none, TRAFFIC_INGRESS, network({.remote = site_address(0)}, {.offset = 3}, 0).payload(9).build());
    EXPECT_EQ(none.read_losses().loss[TRAFFIC_LOSS_FRAGMENT], 0U);
}

// Every target moves to another index and back while its packets run: each is counted once, and what
// publish() has left behind is final.
TEST(TargetTraffic, LeavesTheOldIndexesAloneAfterPublishReturns) {
    PANGOLIN_REQUIRE_ROOT();
    constexpr std::uint32_t groups = 3;
    const RouteTable routes = RouteTable::compile(site_routes());
    const auto in_group = [](std::uint32_t group) {
        std::vector<CountedTarget> targets;
        for (std::uint32_t site = 0; site < site_count; ++site)
            targets.push_back(
                {site_address(site), first_port, TargetProtocol::udp, 1 + group * site_count + site});
        return TargetTable::compile(targets, {.indexes = 0, .entries = 64});
    };
    TrafficProgram program = loaded(routes, in_group(0), {.indexes = 1 + groups * site_count, .entries = 64});
    const auto packets_of = [&](std::uint32_t group, std::uint32_t site) {
        const target_counts counts = program.read_target(1 + group * site_count + site);
        return counts.count[TRAFFIC_INGRESS].packets + counts.count[TRAFFIC_EGRESS].packets;
    };
    std::uint64_t sent[TRAFFIC_DIRECTIONS][site_count] = {};
    const auto stream = [&](traffic_direction direction) {
        return std::jthread([&, direction](const std::stop_token& stop) {
            while (!stop.stop_requested()) {
                for (std::uint32_t site = 0; site < site_count; ++site, ++sent[direction][site - 1]) {
                    const Flow flow{direction, site_address(site), 17, first_port};
                    PacketBuilder builder = network(flow, {}, 0);
                    transport(builder, flow);
                    run(program, direction, builder.payload(20).build());
                }
            }
        });
    };
    std::jthread ingress = stream(TRAFFIC_INGRESS);
    std::jthread egress = stream(TRAFFIC_EGRESS);
    const auto sum = [&](std::uint32_t group) {
        std::uint64_t packets = 0;
        for (std::uint32_t site = 0; site < site_count; ++site)
            packets += packets_of(group, site);
        return packets;
    };
    for (std::uint32_t round = 1; round <= 100; ++round) {
        ASSERT_TRUE(program.publish(routes, in_group(round % groups)));
        const std::uint32_t old = (round - 1) % groups;
        const std::uint64_t left = sum(old);
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        EXPECT_EQ(sum(old), left) << "round " << round;
    }
    for (std::jthread* const thread : {&ingress, &egress}) {
        thread->request_stop();
        thread->join();
    }
    for (std::uint32_t site = 0; site < site_count; ++site)
        EXPECT_EQ(packets_of(0, site) + packets_of(1, site) + packets_of(2, site),
                  sent[TRAFFIC_INGRESS][site] + sent[TRAFFIC_EGRESS][site])
            << "site " << site;
}

}  // namespace
}  // namespace pangolin::test
