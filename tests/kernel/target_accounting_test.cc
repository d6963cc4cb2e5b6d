// Targets come, go, move and share while their packets run: every byte is credited once, to who owned it
// then.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/packet_builder.h"
#include "tests/support/privileges.h"
#include "tests/support/program_run.h"
#include "tests/support/random_seed.h"
#include "userspace/target_traffic.h"
#include "userspace/traffic_arithmetic.h"

namespace pangolin::test {
namespace {

using Labels = std::pair<std::string, std::string>;
using Bytes = std::map<Labels, std::uint64_t>;

constexpr std::uint32_t sites_of_a_node = 5;
constexpr std::uint16_t first_port = 40000;

WireGuardKey key_of(std::uint32_t node) {
    WireGuardKey key;
    key.bytes.fill(static_cast<std::uint8_t>(node + 1));
    return key;
}

// The same at every exit node.
IpAddress address_of(std::uint32_t site) {
    return IpAddress::v4(0x64598000U + 4 * (site + 1));
}

std::vector<std::uint8_t> packet(traffic_direction direction, const DialledAddress& remote,
                                 std::uint16_t local_port, std::size_t payload) {
    const IpAddress host = IpAddress::v4(0x64598001U);
    const bool in = direction == TRAFFIC_INGRESS;
    PacketBuilder builder;
    builder.ipv4({.source = in ? remote.address : host,
                  .destination = in ? host : remote.address,
                  .protocol = static_cast<std::uint8_t>(remote.protocol)});
    (remote.protocol == TargetProtocol::tcp ? builder.tcp() : builder.udp())
        .ports(in ? remote.port : local_port, in ? local_port : remote.port);
    return builder.payload(payload).build();
}

// One exit node's interface, handled as InterfaceMonitor does.
class Node {
  public:
    Node(std::uint32_t number, std::uint32_t max_targets)
        : key_(key_of(number)), targets_(max_targets), routes_(compile_routes()), program_(load({})) {
        EXPECT_TRUE(program_->publish(routes_));
    }

    void follow(const TargetIndex& index, Ledger& ledger) {
        targets_.credit(*program_);
        if (!targets_.follow(index, key_, ledger))
            return;
        const TargetTable table = targets_.compile(program_->capacity().targets);
        if (program_->capacity().targets.holds(table.capacity())) {
            ASSERT_TRUE(program_->publish(routes_, table));
        } else {
            ++replaced_;
            const TargetCapacity needed = targets_.capacity_needed(table);
            auto larger = load({.indexes = needed.indexes + needed.indexes / 2, .entries = needed.entries});
            ASSERT_TRUE(larger->publish(routes_, targets_.compile(larger->capacity().targets)));
            targets_.replace(*program_, *larger);
            program_ = std::move(larger);
        }
        targets_.credit(*program_);
        targets_.retire_gone(*program_);
        targets_.clear_retired(*program_);
    }

    void run(traffic_direction direction, const std::vector<std::uint8_t>& frame) {
        ASSERT_TRUE(run_program(program_->program_fd(direction), frame, {}));
    }

    TargetTraffic& targets() { return targets_; }
    TrafficProgram& program() { return *program_; }
    int replaced() const { return replaced_; }

  private:
    static RouteTable compile_routes() {
        std::vector<Route> routes;
        for (std::uint32_t site = 0; site < sites_of_a_node; ++site)
            routes.push_back({IpPrefix::make(address_of(site), 30), site + 1});
        return RouteTable::compile(routes);
    }
    std::unique_ptr<TrafficProgram> load(const TargetCapacity& targets) {
        auto loaded = TrafficProgram::load(
            {.slots = sites_of_a_node + 2, .routes = routes_.capacity(), .targets = targets},
            ethernet_length);
        if (!loaded)
            throw std::runtime_error(loaded.error().message());
        return std::make_unique<TrafficProgram>(std::move(*loaded));
    }

    WireGuardKey key_;
    TargetTraffic targets_;
    RouteTable routes_;
    std::unique_ptr<TrafficProgram> program_;
    int replaced_ = 0;
};

std::shared_ptr<SiteDirectory> directory_of_two_nodes(std::uint32_t resources) {
    auto directory = std::make_shared<SiteDirectory>();
    for (std::uint32_t site = 0; site < 2 * sites_of_a_node; ++site) {
        Site& added = directory->sites.emplace_back();
        added.site_id = "site-" + std::to_string(site);
        added.tunnel_address = address_of(site % sites_of_a_node);
        added.exit_node_public_key = key_of(site / sites_of_a_node);
    }
    for (std::uint32_t i = 0; i < resources; ++i) {
        Resource& added = directory->resources.emplace_back();
        added.resource_id = "resource-" + std::to_string(100000 + i);
        added.protocol = i % 3 == 0 ? "udp" : "tcp";
    }
    return directory;
}

Target target(std::uint32_t resource, std::uint32_t site, std::uint16_t port) {
    Target added;
    added.resource = resource;
    added.site = site;
    added.dialled = TargetAddress::make(address_of(site % sites_of_a_node), port);
    return added;
}

// Who owns it, found the slow way; site_id alone for relayed traffic, none for what nobody owns.
Labels owner_of(const SiteDirectory& directory, std::uint32_t node, const DialledAddress& dialled) {
    std::vector<std::pair<bool, std::uint32_t>> candidates;
    for (const Site& site : directory.sites)
        if (*site.exit_node_public_key == key_of(node) && site.tunnel_address == dialled.address &&
            site.listen_port == dialled.port && dialled.protocol == TargetProtocol::udp)
            return {site.site_id, ""};
    for (std::uint32_t i = 0; i < directory.targets.size(); ++i) {
        const Target& each = directory.targets[i];
        const bool udp = directory.resources[each.resource].protocol == "udp";
        if (each.dialled->address == dialled.address && each.dialled->port == dialled.port &&
            udp == (dialled.protocol == TargetProtocol::udp) &&
            *directory.sites[*each.site].exit_node_public_key == key_of(node))
            candidates.emplace_back(!each.enabled, i);
    }
    if (candidates.empty())
        return {};
    const Target& owner = directory.targets[std::ranges::min(candidates).second];
    return {directory.sites[*owner.site].site_id, directory.resources[owner.resource].resource_id};
}

Bytes credited(const SiteDirectory& directory, Ledger& ledger) {
    Bytes result;
    const auto add = [&](const Labels& labels, const target_counts& counts) {
        const std::uint64_t bytes = counts.count[TRAFFIC_INGRESS].bytes + counts.count[TRAFFIC_EGRESS].bytes;
        if (bytes > 0)
            result[labels] = bytes;
    };
    for (const ResourceAccount& account : ledger.resources.resources())
        add({account.labels->site_id, account.labels->resource_id}, account.traffic);
    for (const Site& site : directory.sites)
        add({site.site_id, ""}, ledger.sites.of(site.site_id)->relay);
    return result;
}

TEST(TargetAccounting, CreditsEveryByteOnceWhateverTheDirectoryDoes) {
    PANGOLIN_REQUIRE_ROOT();
    PANGOLIN_TRACE_SEED();
    std::mt19937_64 random(random_seed());
    Node nodes[] = {{0, 1000}, {1, 1000}};
    Ledger ledger;
    Bytes expected;
    for (int round = 0; round < 60 && !HasFailure(); ++round) {
        auto directory = directory_of_two_nodes(9);
        for (Site& site : directory->sites)
            if (random() % 2 == 0)
                site.listen_port = static_cast<std::uint16_t>(first_port + random() % 4);
        for (auto count = random() % 200; count > 0; --count) {
            Target added = target(random() % 9, random() % (std::size_t{2} * sites_of_a_node),
                                  static_cast<std::uint16_t>(first_port + random() % 4));
            added.enabled = random() % 4 != 0;
            directory->targets.push_back(added);
        }
        std::ranges::stable_sort(directory->targets, {}, &Target::resource);
        const TargetIndex index(*directory);
        for (Node& node : nodes)
            node.follow(index, ledger);
        for (int i = 0; i < 400; ++i) {
            const std::uint32_t node = random() % 2;
            const auto direction = static_cast<traffic_direction>(random() % 2);
            const DialledAddress dialled{address_of(random() % sites_of_a_node),
                                         static_cast<std::uint16_t>(first_port + random() % 4),
                                         random() % 2 == 0 ? TargetProtocol::tcp : TargetProtocol::udp};
            const auto frame = packet(direction, dialled, 50000, random() % 1000);
            nodes[node].run(direction, frame);
            if (const Labels owner = owner_of(*directory, node, dialled); !owner.first.empty())
                expected[owner] += frame.size() - ethernet_length;
        }
        if (random() % 2 == 0)
            nodes[0].targets().credit(nodes[0].program());
        if (round % 7 == 6) {
            for (Node& node : nodes)
                node.targets().credit(node.program());
            EXPECT_EQ(credited(*directory, ledger), expected) << "round " << round;
        }
    }
    EXPECT_GT(nodes[0].replaced(), 0) << "the test was to see it";
}

TEST(TargetAccounting, GrowsToThousandsWithoutLoss) {
    PANGOLIN_REQUIRE_ROOT();
    Node node(0, 6000);
    Ledger ledger;
    Bytes expected;
    auto directory = directory_of_two_nodes(5000);
    for (std::uint32_t wanted : {1U, 3U, 200U, 1000U, 5000U}) {
        while (directory->targets.size() < wanted) {
            const auto i = static_cast<std::uint32_t>(directory->targets.size());
            directory->targets.push_back(
                target(i, i % sites_of_a_node, static_cast<std::uint16_t>(first_port + i / sites_of_a_node)));
        }
        node.follow(TargetIndex(*directory), ledger);
        for (std::uint32_t i = 0; i < wanted; i += 1 + wanted / 50) {
            const Target& to = directory->targets[i];
            const bool udp = directory->resources[to.resource].protocol == "udp";
            const auto frame = packet(
                TRAFFIC_EGRESS,
                {*to.dialled->address, to.dialled->port, udp ? TargetProtocol::udp : TargetProtocol::tcp},
                50000, 100 + i % 1000);
            node.run(TRAFFIC_EGRESS, frame);
            expected[{directory->sites[*to.site].site_id, directory->resources[to.resource].resource_id}] +=
                frame.size() - ethernet_length;
        }
    }
    node.targets().credit(node.program());
    EXPECT_EQ(credited(*directory, ledger), expected);
    EXPECT_GE(node.replaced(), 3);
    EXPECT_EQ(node.targets().refused(), 0U);
}

TEST(TargetAccounting, SaysWhatItRefuses) {
    PANGOLIN_REQUIRE_ROOT();
    Node node(0, 3);
    Ledger ledger;
    auto directory = directory_of_two_nodes(10);
    for (std::uint32_t i = 0; i < 5; ++i)
        directory->targets.push_back(target(i, 0, static_cast<std::uint16_t>(first_port + i)));
    node.follow(TargetIndex(*directory), ledger);
    EXPECT_EQ(node.targets().size(), 3U);
    EXPECT_EQ(node.targets().refused(), 2U);
}

TEST(TargetAccounting, FlowsAreThoseOfTheLastMinute) {
    PANGOLIN_REQUIRE_ROOT();
    Node node(0, 100);
    Ledger ledger;
    auto directory = directory_of_two_nodes(4);
    directory->sites[0].listen_port = first_port + 9;
    directory->targets = {target(0, 0, first_port), target(0, 1, first_port), target(1, 0, first_port),
                          target(3, 0, first_port + 1)};
    node.follow(TargetIndex(*directory), ledger);
    std::chrono::steady_clock::time_point now{std::chrono::hours(5)};
    const auto flows = [&](const char* resource, const char* site = "site-0") {
        ledger.begin_poll();
        node.targets().count_flows(node.program(), now);
        return ledger.resources.of(site, resource)->udp_flows;
    };
    const auto send = [&](traffic_direction direction, std::uint32_t site, std::uint16_t port,
                          std::uint16_t local_port) {
        node.run(direction, packet(direction, {address_of(site), port, TargetProtocol::udp}, local_port, 10));
    };
    EXPECT_EQ(flows("resource-100000"), 0U);
    EXPECT_EQ(flows("resource-100001"), std::nullopt) << "TCP";
    send(TRAFFIC_EGRESS, 0, first_port, 5000);
    send(TRAFFIC_INGRESS, 0, first_port, 5000);
    send(TRAFFIC_EGRESS, 0, first_port, 5001);
    send(TRAFFIC_INGRESS, 1, first_port, 5000);
    send(TRAFFIC_EGRESS, 0, first_port + 1, 5000);
    send(TRAFFIC_EGRESS, 0, first_port + 9, 5000);
    EXPECT_EQ(flows("resource-100000"), 2U);
    EXPECT_EQ(flows("resource-100000", "site-1"), 1U);
    EXPECT_EQ(flows("resource-100003"), 1U);
    EXPECT_EQ(node.targets().flows(), 4U) << "relayed traffic has none";
    now += std::chrono::seconds(40);
    EXPECT_EQ(flows("resource-100000"), 2U);
    send(TRAFFIC_INGRESS, 0, first_port, 5001);
    now += std::chrono::seconds(40);
    EXPECT_EQ(flows("resource-100000"), 1U);
    EXPECT_EQ(flows("resource-100000", "site-1"), 0U);
    // The programs are replaced by larger ones: flows stay.
    for (std::uint16_t i = 0; i < 40; ++i)
        directory->targets.push_back(target(3, 2, static_cast<std::uint16_t>(first_port + 20 + i)));
    node.follow(TargetIndex(*directory), ledger);
    ASSERT_EQ(node.replaced(), 2);
    EXPECT_EQ(flows("resource-100000"), 1U);
    // Another target has the index of one that is gone, but not its flows.
    directory->targets = {target(3, 4, first_port)};
    node.follow(TargetIndex(*directory), ledger);
    EXPECT_EQ(flows("resource-100003", "site-4"), 0U);
    EXPECT_EQ(flows("resource-100000"), std::nullopt);
}

TEST(TargetAccounting, FlowsBeyondTheMapAreCountedAsLost) {
    PANGOLIN_REQUIRE_ROOT();
    Node node(0, 100);
    Ledger ledger;
    auto directory = directory_of_two_nodes(1);
    directory->targets = {target(0, 0, first_port)};
    node.follow(TargetIndex(*directory), ledger);
    constexpr std::uint32_t beyond = 7;
    for (std::uint32_t i = 0; i < TRAFFIC_MAX_FLOWS + beyond; ++i)
        node.run(TRAFFIC_EGRESS, packet(TRAFFIC_EGRESS, {address_of(0), first_port, TargetProtocol::udp},
                                        static_cast<std::uint16_t>(i), 0));
    ledger.begin_poll();
    node.targets().count_flows(node.program(), std::chrono::steady_clock::time_point{});
    EXPECT_EQ(*ledger.resources.of("site-0", "resource-100000")->udp_flows, std::uint64_t{TRAFFIC_MAX_FLOWS});
    EXPECT_EQ(node.program().read_losses().loss[TRAFFIC_LOSS_FLOWS_FULL], beyond);
    node.targets().credit(node.program());
    EXPECT_EQ(packets(ledger.resources.of("site-0", "resource-100000")->traffic), TRAFFIC_MAX_FLOWS + beyond);
}

}  // namespace
}  // namespace pangolin::test
