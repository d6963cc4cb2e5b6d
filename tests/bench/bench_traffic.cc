// What the traffic programs cost a packet, above an empty program, for several sets of allowed IPs; and what
// targets add to it.
//
// Method (as in the kernel's bench_bpf_timing): batches of about 10 ms, empty and measured program in turn,
// the median of the differences. Each batch runs over many peers. "warm" runs each packet 64 times in a row,
// as bursts of one connection do; "cold" runs it once, between system calls that turn the caches over.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "empty.skel.h"
#include "loader/traffic_program.h"
#include "tests/support/packet_builder.h"
#include "tests/support/program_run.h"

namespace pangolin::test {
namespace {

constexpr std::size_t packets_per_batch = 2000;
constexpr int batches = 15;

struct Layout {
    std::string name;
    std::vector<IpPrefix> (*prefixes)(std::size_t count, std::mt19937_64& random);
};

// Pangolin's default: consecutive /30 networks from one pool.
std::vector<IpPrefix> pool(std::size_t count, std::mt19937_64&) {
    std::vector<IpPrefix> result;
    for (std::size_t i = 0; i < count; ++i)
        result.push_back(
            IpPrefix::make(IpAddress::v4(0x64598000U + 4U * static_cast<std::uint32_t>(i + 1)), 30));
    return result;
}

template <int length>
std::vector<IpPrefix> scattered_v4(std::size_t count, std::mt19937_64& random) {
    std::vector<IpPrefix> result;
    for (std::size_t i = 0; i < count; ++i)
        result.push_back(IpPrefix::make(IpAddress::v4(static_cast<std::uint32_t>(random())), length));
    return result;
}

template <int length>
std::vector<IpPrefix> scattered_v6(std::size_t count, std::mt19937_64& random) {
    std::vector<IpPrefix> result;
    for (std::size_t i = 0; i < count; ++i)
        result.push_back(
            IpPrefix::make({IpFamily::v6, 0xfd00000000000000ULL | random() >> 8, random()}, length));
    return result;
}

// Half /32, half /30: two probes for the latter.
std::vector<IpPrefix> mixed_v4(std::size_t count, std::mt19937_64& random) {
    std::vector<IpPrefix> result = scattered_v4<32>(count / 2 + 1, random);
    std::ranges::copy(scattered_v4<30>(count / 2, random), std::back_inserter(result));
    result.resize(count);
    return result;
}

std::vector<std::uint8_t> packet_to(const IpAddress& address, bool tcp, std::uint16_t port = 0) {
    PacketBuilder builder;
    if (address.family == IpFamily::v4)
        builder.ipv4(
            {.source = address, .destination = address, .protocol = static_cast<std::uint8_t>(tcp ? 6 : 17)});
    else
        builder.ipv6({.source = address,
                      .destination = address,
                      .next_header = static_cast<std::uint8_t>(tcp ? 6 : 17)});
    (tcp ? builder.tcp() : builder.udp()).ports(port, port).payload(512);
    return builder.build();
}

double batch_ns(int program_fd, const std::vector<std::vector<std::uint8_t>>& packets, std::uint32_t repeat) {
    std::uint64_t sum = 0;
    for (const auto& packet : packets) {
        const auto run = run_program(program_fd, packet, {.repeat = repeat});
        if (!run) {
            fmt::print(stderr, "{}\n", run.error().message());
            std::exit(1);
        }
        sum += run->duration_ns;
    }
    return static_cast<double>(sum) / static_cast<double>(packets.size());
}

struct Baseline {
    const char* name;
    int program_fd;
};

void print_difference(const std::string& what, int program_fd, const Baseline& baseline,
                      const std::vector<std::vector<std::uint8_t>>& packets, std::uint32_t repeat) {
    std::vector<double> differences;
    std::vector<double> bases;
    batch_ns(program_fd, packets, repeat);
    for (int batch = 0; batch < batches; ++batch) {
        const double base = batch_ns(baseline.program_fd, packets, repeat);
        differences.push_back(batch_ns(program_fd, packets, repeat) - base);
        bases.push_back(base);
    }
    std::ranges::sort(differences);
    std::ranges::sort(bases);
    fmt::print("bench=traffic {} ns_above_{}={:.1f} p10={:.1f} p90={:.1f} {}_ns={:.1f}\n", what,
               baseline.name, differences[batches / 2], differences[batches / 10],
               differences[batches * 9 / 10], baseline.name, bases[batches / 2]);
}

void measure(const Layout& layout, std::size_t peers, bool tcp, int empty_fd) {
    std::mt19937_64 random(peers);
    const std::vector<IpPrefix> prefixes = layout.prefixes(peers, random);
    std::vector<Route> routes;
    for (std::size_t i = 0; i < prefixes.size(); ++i)
        routes.push_back({prefixes[i], static_cast<std::uint32_t>(i + 1)});
    const RouteTable table = RouteTable::compile(routes);
    auto program = TrafficProgram::load(
        {.slots = static_cast<std::uint32_t>(peers + 1), .routes = table.capacity()}, ethernet_length);
    if (!program) {
        fmt::print(stderr, "{}\n", program.error().message());
        std::exit(1);
    }
    if (const auto published = program->publish(table); !published) {
        fmt::print(stderr, "{}\n", published.error().message());
        std::exit(1);
    }

    std::vector<std::vector<std::uint8_t>> packets;
    for (std::size_t i = 0; i < packets_per_batch; ++i)
        packets.push_back(packet_to(prefixes[random() % prefixes.size()].network, tcp));

    for (const std::uint32_t repeat : {64U, 1U})
        print_difference(fmt::format("layout={} peers={} protocol={} caches={}", layout.name, peers,
                                     tcp ? "tcp" : "udp", repeat > 1 ? "warm" : "cold"),
                         program->program_fd(TRAFFIC_INGRESS), {"empty", empty_fd}, packets, repeat);
}

TrafficProgram loaded(const TrafficCapacity& capacity, const RouteTable& routes, const TargetTable& targets) {
    auto program = TrafficProgram::load(capacity, ethernet_length);
    if (!program || !program->publish(routes, targets)) {
        fmt::print(stderr, "{}\n", program ? "cannot publish" : program.error().message());
        std::exit(1);
    }
    return std::move(*program);
}

constexpr std::uint32_t targets_of_a_peer = 5;
constexpr std::uint16_t first_port = 40000;

// What looking for targets adds: the programs with them above the same programs without, in turn.
void measure_targets(const Layout& layout, std::size_t peers, bool tcp, bool flows = false) {
    std::mt19937_64 random(peers);
    const std::vector<IpPrefix> prefixes = layout.prefixes(peers, random);
    std::vector<Route> routes;
    std::vector<CountedTarget> targets;
    // Every second peer has targets.
    for (std::size_t i = 0; i < prefixes.size(); ++i) {
        routes.push_back({prefixes[i], static_cast<std::uint32_t>(i + 1)});
        for (std::uint32_t j = 0; j < targets_of_a_peer && i % 2 == 0; ++j)
            targets.push_back({.address = prefixes[i].network,
                               .port = static_cast<std::uint16_t>(first_port + random() % 25000),
                               .protocol = tcp ? TargetProtocol::tcp : TargetProtocol::udp,
                               .index = static_cast<std::uint32_t>(targets.size() + 1),
                               .has_flows = flows});
    }
    const RouteTable route_table = RouteTable::compile(routes);
    const TargetTable target_table = TargetTable::compile(targets);
    TrafficCapacity capacity{.slots = static_cast<std::uint32_t>(peers + 1),
                             .routes = route_table.capacity()};
    const TrafficProgram without = loaded(capacity, route_table, {});
    capacity.targets = target_table.capacity();
    const TrafficProgram with = loaded(capacity, route_table, target_table);

    struct Traffic {
        const char* name;
        std::vector<std::vector<std::uint8_t>> packets;
    };
    Traffic traffic[] = {{"targets", {}}, {"other_ports", {}}, {"other_peers", {}}};
    for (std::size_t i = 0; i < packets_per_batch; ++i) {
        const CountedTarget& target = targets[random() % targets.size()];
        traffic[0].packets.push_back(packet_to(target.address, tcp, target.port));
        traffic[1].packets.push_back(packet_to(target.address, tcp, first_port - 1));
        traffic[2].packets.push_back(
            packet_to(prefixes[random() % (peers / 2) * 2 + 1].network, tcp, first_port));
    }
    for (const Traffic& each : traffic) {
        for (const std::uint32_t repeat : {64U, 1U})
            print_difference(fmt::format("layout={} peers={} targets={} to={} protocol={} caches={}",
                                         layout.name, peers, targets.size(), each.name,
                                         tcp     ? "tcp"
                                         : flows ? "udp_with_flows"
                                                 : "udp",
                                         repeat > 1 ? "warm" : "cold"),
                             with.program_fd(TRAFFIC_INGRESS),
                             {"without_targets", without.program_fd(TRAFFIC_INGRESS)}, each.packets, repeat);
    }
}

}  // namespace
}  // namespace pangolin::test

int main() {
    using namespace pangolin::test;
    empty_bpf* const empty = empty_bpf__open_and_load();
    if (empty == nullptr) {
        fmt::print(stderr, "cannot load BPF programs (HINT: Run as root.)\n");
        return 1;
    }
    const int empty_fd = bpf_program__fd(empty->progs.empty);
    const Layout layouts[] = {
        {"pool_v4_30", pool},
        {"scattered_v4_32", scattered_v4<32>},
        {"scattered_v4_30", scattered_v4<30>},
        {"mixed_v4_30_32", mixed_v4},
        {"scattered_v6_128", scattered_v6<128>},
        {"scattered_v6_64", scattered_v6<64>},
    };
    for (const Layout& layout : layouts) {
        for (const std::size_t peers : {std::size_t{1}, std::size_t{100}, std::size_t{10000}}) {
            measure(layout, peers, true, empty_fd);
            measure(layout, peers, false, empty_fd);
        }
    }
    for (const std::size_t layout : {0, 1, 4}) {
        // 1,000 peers with five targets each, and as many without.
        measure_targets(layouts[layout], 2000, true);
        measure_targets(layouts[layout], 2000, false);
        measure_targets(layouts[layout], 2000, false, true);
    }
    empty_bpf__destroy(empty);
    return 0;
}
