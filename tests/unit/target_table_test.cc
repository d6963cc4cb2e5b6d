#include "loader/target_table.h"

#include <gtest/gtest.h>

#include <bit>
#include <map>
#include <random>
#include <tuple>

#include "tests/support/random_seed.h"

namespace pangolin::test {
namespace {

IpAddress address(const char* text) {
    return IpAddress::parse(text).value();
}

using Identity = std::tuple<IpAddress, std::uint16_t, TargetProtocol>;

TEST(TargetTable, TellsAddressPortProtocolAndFamilyApart) {
    const CountedTarget targets[] = {
        {address("10.0.0.1"), 80, TargetProtocol::tcp, 1},
        {address("10.0.0.1"), 80, TargetProtocol::udp, 2},
        {address("10.0.0.1"), 81, TargetProtocol::tcp, 3},
        {address("10.0.0.2"), 80, TargetProtocol::tcp, 4},
        {address("::ffff:10.0.0.1"), 80, TargetProtocol::tcp, 5},
        {address("fd00::1"), 80, TargetProtocol::tcp, 6},
        {address("fd00:1::1"), 80, TargetProtocol::tcp, 7},
    };
    const TargetTable table = TargetTable::compile(targets);
    for (const CountedTarget& each : targets)
        EXPECT_EQ(table.find(each.address, each.port, each.protocol), each.index);
    EXPECT_EQ(table.find(address("10.0.0.2"), 80, TargetProtocol::udp), 0U);
    EXPECT_EQ(table.find(address("10.0.0.3"), 80, TargetProtocol::tcp), 0U);
    EXPECT_EQ(table.size(), 7U);
    EXPECT_EQ(table.addresses().size(), 5U);
    EXPECT_EQ(table.capacity().indexes, 8U);
}

TEST(TargetTable, WithoutTargetsFindsNothingAndNeedsNoRoom) {
    const TargetTable compiled = TargetTable::compile({});
    for (const TargetTable& table : {TargetTable(), compiled}) {
        EXPECT_EQ(table.find(address("::"), 0, TargetProtocol::tcp), 0U);
        EXPECT_EQ(table.hash_seed(), 0U);
        EXPECT_TRUE(TargetCapacity{}.holds(table.capacity()));
    }
}

TEST(TargetTable, OfEqualTargetsTheLastCounts) {
    const CountedTarget targets[] = {{address("fd00::1"), 443, TargetProtocol::tcp, 9},
                                     {address("fd00::1"), 443, TargetProtocol::tcp, 3},
                                     {address("fd00::1"), 443, TargetProtocol::tcp, 5}};
    const TargetTable table = TargetTable::compile(targets);
    EXPECT_EQ(table.find(address("fd00::1"), 443, TargetProtocol::tcp), 5U);
    EXPECT_EQ(table.size(), 1U);
}

TEST(TargetTable, TargetsMayShareAnIndex) {
    const CountedTarget targets[] = {{address("10.0.0.1"), 53, TargetProtocol::tcp, 1},
                                     {address("10.0.0.1"), 53, TargetProtocol::udp, 1}};
    const TargetTable table = TargetTable::compile(targets);
    EXPECT_EQ(table.find(address("10.0.0.1"), 53, TargetProtocol::tcp), 1U);
    EXPECT_EQ(table.find(address("10.0.0.1"), 53, TargetProtocol::udp), 1U);
    EXPECT_EQ(table.capacity().indexes, 2U);
}

// As Pangolin numbers them, and as badly as anybody could: the table must not grow without bounds.
TEST(TargetTable, HoldsRegularlyNumberedTargetsWithinAModestTable) {
    for (unsigned shift = 0; shift < 128; shift += 8) {
        SCOPED_TRACE("shift " + std::to_string(shift));
        std::vector<CountedTarget> targets;
        for (std::uint64_t number = 0; number < 256; ++number) {
            const IpAddress site{IpFamily::v6, shift < 64 ? 0 : number << (shift - 64),
                                 shift < 64 ? number << shift : 0};
            for (std::uint16_t port = 40000; port < 40008; ++port)
                targets.push_back(
                    {site, port, TargetProtocol::tcp, static_cast<std::uint32_t>(targets.size() + 1)});
        }
        const TargetTable table = TargetTable::compile(targets);
        EXPECT_LE(table.entries().size(), 8192U);
        for (const CountedTarget& each : targets)
            ASSERT_EQ(table.find(each.address, each.port, each.protocol), each.index);
    }
    // One site with every port.
    std::vector<CountedTarget> targets;
    for (std::uint32_t port = 0; port < 65536; ++port) {
        for (const TargetProtocol protocol : {TargetProtocol::tcp, TargetProtocol::udp})
            targets.push_back({address("100.89.128.4"), static_cast<std::uint16_t>(port), protocol,
                               static_cast<std::uint32_t>(targets.size() + 1)});
    }
    const TargetTable table = TargetTable::compile(targets);
    EXPECT_LE(table.entries().size(), 524288U);
    for (const CountedTarget& each : targets)
        ASSERT_EQ(table.find(each.address, each.port, each.protocol), each.index);
}

TEST(TargetTable, AgreesWithAMapOnRandomTargets) {
    PANGOLIN_TRACE_SEED();
    std::mt19937_64 random(random_seed());
    const auto random_identity = [&]() -> Identity {
        const std::uint64_t number = random() % 32;
        const IpAddress site = random() % 2 == 0
                                   ? IpAddress::v4(0x64598000U + 4 * static_cast<std::uint32_t>(number))
                                   : IpAddress{IpFamily::v6, 0xfd00ULL << 48 | number, number % 3};
        return {site, static_cast<std::uint16_t>(40000 + random() % 64),
                random() % 2 == 0 ? TargetProtocol::tcp : TargetProtocol::udp};
    };
    for (int round = 0; round < 500 && !testing::Test::HasFailure(); ++round) {
        std::map<Identity, std::uint32_t> model;
        std::vector<CountedTarget> targets;
        for (std::uint64_t left = random() % 300; left > 0; --left) {
            const auto [site, port, protocol] = random_identity();
            targets.push_back({site, port, protocol, static_cast<std::uint32_t>(1 + random() % 100)});
            model[{site, port, protocol}] = targets.back().index;
        }
        const TargetCapacity minimum{.indexes = 0, .entries = random() % 2 == 0 ? 1U : 2048U};
        const TargetTable table = TargetTable::compile(targets, minimum);
        EXPECT_EQ(table.size(), model.size());
        EXPECT_TRUE(std::has_single_bit(table.entries().size()));
        EXPECT_GE(table.capacity().entries, targets.empty() ? 1U : minimum.entries);
        for (int i = 0; i < 2000; ++i) {
            const Identity identity = random_identity();
            const auto expected = model.find(identity);
            ASSERT_EQ(std::apply([&](auto... each) { return table.find(each...); }, identity),
                      expected == model.end() ? 0U : expected->second);
        }
    }
}

}  // namespace
}  // namespace pangolin::test
