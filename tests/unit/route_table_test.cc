#include "loader/route_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <map>

#include "loader/route_pools.h"
#include "tests/support/prefix_model.h"
#include "tests/support/random_seed.h"
#include "tests/support/route_cases.h"

namespace pangolin::test {
namespace {

// What every compiled table promises to the kernel program, which checks none of it.
void expect_well_formed(const RouteTable& table) {
    const route_set& set = table.set();
    std::uint32_t pool_addresses = 0;
    for (const route_pool& pool : set.pool) {
        EXPECT_EQ(pool.base % ROUTE_POOL_BLOCK, 0U);
        EXPECT_EQ(pool.size % ROUTE_POOL_BLOCK, 0U);
        if (pool.size != 0) {
            EXPECT_EQ(pool.offset, pool_addresses);
        }
        pool_addresses += pool.size;
    }
    EXPECT_LE(pool_addresses, max_pool_addresses);
    EXPECT_EQ(table.pool_blocks().size() * ROUTE_POOL_BLOCK, pool_addresses);
    EXPECT_TRUE(std::has_single_bit(table.entries().size()));
    EXPECT_LE(set.v4_lengths, std::uint32_t{ROUTE_V4_LENGTHS});
    EXPECT_LE(set.v6_lengths, std::uint32_t{ROUTE_V6_LENGTHS});
    std::size_t used = 0;
    for (const route_entry& entry : table.entries())
        used += entry.tag != 0;
    EXPECT_EQ(used, table.entry_count());
}

void expect_as_model(std::span<const Route> routes, const RouteTable& table,
                     std::span<const IpAddress> addresses) {
    const PrefixModel model(routes);
    for (const IpAddress& address : addresses)
        ASSERT_EQ(table.find(address), model.find(address)) << address.to_string();
}

class OddRoutes : public testing::TestWithParam<RouteCase> {};

TEST_P(OddRoutes, FindTheLongestPrefix) {
    PANGOLIN_TRACE_SEED();
    std::mt19937_64 random(random_seed());
    const std::vector<Route>& routes = GetParam().routes;
    const RouteTable table = RouteTable::compile(routes);
    expect_well_formed(table);
    // The model looks at every route for every address.
    const std::size_t limit = std::min<std::size_t>(20000, 20'000'000 / (routes.size() + 1));
    expect_as_model(routes, table, telling_addresses(routes, limit, random));
}

TEST_P(OddRoutes, GiveTheSameInALargerTable) {
    PANGOLIN_TRACE_SEED();
    std::mt19937_64 random(random_seed());
    const std::vector<Route>& routes = GetParam().routes;
    const RouteTable small = RouteTable::compile(routes);
    const RouteTable large = RouteTable::compile(
        routes, {.entries = small.capacity().entries * 4, .pool_blocks = small.capacity().pool_blocks});
    EXPECT_EQ(large.capacity().entries, small.capacity().entries * 4);
    for (const IpAddress& address : telling_addresses(routes, 20000, random))
        ASSERT_EQ(small.find(address), large.find(address)) << address.to_string();
}

INSTANTIATE_TEST_SUITE_P(Cases, OddRoutes, testing::ValuesIn(odd_route_cases()),
                         [](const auto& info) { return info.param.name; });

TEST(RouteTable, AgreesWithTheModelOnRandomRoutes) {
    PANGOLIN_TRACE_SEED();
    std::mt19937_64 random(random_seed());
    for (int round = 0; round < 2000; ++round) {
        SCOPED_TRACE("round " + std::to_string(round));
        const std::size_t count = random() % 4 == 0 ? random() % 400 : random() % 24;
        const std::vector<Route> routes = random_routes(count, 50, random);
        const RouteTable table = RouteTable::compile(routes);
        expect_well_formed(table);
        expect_as_model(routes, table, telling_addresses(routes, 400, random));
        if (testing::Test::HasFailure())
            return;
    }
}

TEST(RouteTable, OfEqualPrefixesTheLastWins) {
    for (const char* const prefix : {"10.0.0.4/30", "10.0.0.0/8", "fd00::/64", "0.0.0.0/0", "::/0"}) {
        const Route routes[] = {route(prefix, 7), route(prefix, 9), route(prefix, 8)};
        EXPECT_EQ(RouteTable::compile(routes).find(routes[0].prefix.network), 8U) << prefix;
    }
}

TEST(RouteTable, IsTheSameForEveryOrderOfDifferentPrefixes) {
    PANGOLIN_TRACE_SEED();
    std::mt19937_64 random(random_seed());
    std::map<IpPrefix, Route> different;
    for (const Route& each : random_routes(500, 50, random))
        different.emplace(each.prefix, each);
    std::vector<Route> routes;
    for (const auto& [prefix, each] : different)
        routes.push_back(each);
    const std::vector<IpAddress> addresses = telling_addresses(routes, 2000, random);
    const RouteTable first = RouteTable::compile(routes);
    for (int round = 0; round < 20; ++round) {
        std::ranges::shuffle(routes, random);
        const RouteTable again = RouteTable::compile(routes);
        for (const IpAddress& address : addresses)
            ASSERT_EQ(again.find(address), first.find(address)) << address.to_string();
    }
}

// Networks that differ in a few regular bits, as people number them, must not collide under every seed: then
// no table is large enough.
TEST(RouteTable, HoldsRegularlyNumberedNetworks) {
    const Route three[] = {route("fd00:0:0:5::/64", 1), route("fd00:0:0:6::/63", 2),
                           route("fd00:0:0:8::/61", 3)};
    EXPECT_LE(RouteTable::compile(three).capacity().entries, 16U);
    for (unsigned shift = 0; shift < 128; shift += 8) {
        SCOPED_TRACE("shift " + std::to_string(shift));
        std::vector<Route> routes;
        for (std::uint64_t number = 0; number < 256; ++number) {
            const IpAddress network{IpFamily::v6, shift < 64 ? 0 : number << (shift - 64),
                                    shift < 64 ? number << shift : 0};
            for (unsigned length = 120 - shift; length <= 128 - shift; ++length)
                routes.push_back({IpPrefix::make(network, static_cast<std::uint8_t>(length)), 1});
        }
        EXPECT_LE(RouteTable::compile(routes).capacity().entries, 4096U);
    }
}

TEST(RouteTable, HoldsManyPrefixesOfOneLengthWithinAModestTable) {
    std::mt19937_64 random(3);
    std::vector<Route> routes;
    for (std::uint32_t i = 1; i <= 60000; ++i)
        routes.push_back({IpPrefix::make({IpFamily::v6, random(), random()}, 64), i});
    const RouteTable table = RouteTable::compile(routes);
    expect_well_formed(table);
    EXPECT_LE(table.capacity().entries, 60000U * 5);
    for (const Route& each : routes)
        ASSERT_EQ(table.find(each.prefix.network), each.slot);
}

std::vector<route_pool> pools_of(std::initializer_list<std::string_view> prefixes) {
    std::vector<Route> routes;
    for (const std::string_view prefix : prefixes)
        routes.push_back(route(prefix, 1));
    return choose_pools(routes);
}

TEST(RoutePools, JoinPrefixesWhileThereAreAtMost64AddressesForEach) {
    EXPECT_EQ(pools_of({"10.0.0.0/32", "10.0.0.127/32"}).size(), 1U);
    EXPECT_EQ(pools_of({"10.0.0.0/32", "10.0.0.128/32"}).size(), 2U);
    EXPECT_EQ(pools_of({"10.0.0.0/26"}).size(), 1U);
    EXPECT_EQ(pools_of({"10.0.0.0/25"}).size(), 0U);
    EXPECT_EQ(pools_of({"fd00::/126", "fd00::4/126"}).size(), 0U);
}

TEST(RoutePools, StayBelowTheLimit) {
    const std::uint32_t full = max_pool_addresses / 64;
    const std::vector<route_pool> exactly = choose_pools(consecutive_v4(0x0a000000, 26, full));
    ASSERT_EQ(exactly.size(), 1U);
    EXPECT_EQ(exactly[0].size, max_pool_addresses);
    const std::vector<route_pool> one_more = choose_pools(consecutive_v4(0x0a000000, 26, full + 1));
    ASSERT_EQ(one_more.size(), 1U);
    EXPECT_EQ(one_more[0].size, max_pool_addresses);
}

// Rounding to whole blocks must not cost the operator with the most peers the whole pool.
TEST(RoutePools, KeepALargePoolThatBeginsInsideABlock) {
    std::vector<Route> routes = consecutive_v4(0x0a000040, 26, max_pool_addresses / 64 - 1);
    routes.push_back(route("10.0.0.63/32", 9999));
    routes.push_back(route("10.4.0.62/32", 9998));
    ASSERT_FALSE(choose_pools(routes).empty());
    EXPECT_GT(choose_pools(routes)[0].size, max_pool_addresses / 2);
}

TEST(RoutePools, TakeTheDensestOfMany) {
    std::vector<Route> routes;
    for (std::uint32_t pool = 0; pool < 6; ++pool) {
        for (const Route& each : consecutive_v4(0x0a000000 + (pool << 16), 30, 10 + pool))
            routes.push_back(each);
    }
    const std::vector<route_pool> pools = choose_pools(routes);
    ASSERT_EQ(pools.size(), std::size_t{ROUTE_POOLS});
    for (std::uint32_t i = 0; i < ROUTE_POOLS; ++i)
        EXPECT_EQ(pools[i].base, 0x0a000000 + ((5 - i) << 16));
}

TEST(RoutePools, ReachTheEndsOfTheAddressSpace) {
    const std::vector<route_pool> pools = pools_of({"255.255.255.255/32", "0.0.0.0/32", "0.0.0.1/32"});
    ASSERT_EQ(pools.size(), 2U);
    EXPECT_EQ(pools[0].base, 0U);
    EXPECT_EQ(pools[1].base, 0xfffffff0U);
    EXPECT_EQ(pools[1].size, 16U);
}

}  // namespace
}  // namespace pangolin::test
