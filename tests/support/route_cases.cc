#include "tests/support/route_cases.h"

#include <algorithm>
#include <iterator>

#include "loader/route_pools.h"

namespace pangolin::test {
namespace {

std::vector<Route> numbered(std::initializer_list<std::string_view> prefixes) {
    std::vector<Route> routes;
    for (const std::string_view prefix : prefixes)
        routes.push_back(route(prefix, static_cast<std::uint32_t>(routes.size() + 1)));
    return routes;
}

std::vector<Route> joined(std::initializer_list<std::vector<Route>> parts) {
    std::vector<Route> all;
    for (const std::vector<Route>& part : parts) {
        for (const Route& each : part)
            all.push_back({each.prefix, static_cast<std::uint32_t>(all.size() + 1)});
    }
    return all;
}

// Every prefix length that there is, all containing `address`.
std::vector<Route> every_length(std::string_view address) {
    std::vector<Route> routes;
    const IpAddress host = *IpAddress::parse(address);
    for (unsigned length = 0; length <= max_prefix_length(host.family); ++length)
        routes.push_back({IpPrefix::make(host, static_cast<std::uint8_t>(length)), length + 1});
    return routes;
}

// Every length once, no two nested but by chance.
std::vector<Route> every_length_apart(IpFamily family) {
    std::vector<Route> routes;
    std::mt19937_64 random(7);
    for (unsigned length = 1; length <= max_prefix_length(family); ++length) {
        const IpAddress address = family == IpFamily::v4 ? IpAddress::v4(static_cast<std::uint32_t>(random()))
                                                         : IpAddress{IpFamily::v6, random(), random()};
        routes.push_back({IpPrefix::make(address, static_cast<std::uint8_t>(length)), length});
    }
    return routes;
}

std::vector<Route> pools(std::uint32_t count) {
    std::vector<Route> all;
    for (std::uint32_t pool = 0; pool < count; ++pool)
        all = joined({all, consecutive_v4(0x0a000000 + (pool << 16), 30, 20 + pool)});
    return all;
}

// Shuffled, so that no answer depends on the order of different prefixes.
std::vector<Route> many(std::size_t count, std::uint32_t slots) {
    std::mt19937_64 random(count);
    std::vector<Route> routes = random_routes(count, slots, random);
    std::ranges::shuffle(routes, random);
    return routes;
}

std::vector<RouteCase> family_cases() {
    return {
        {"nothing", {}},
        {"v4_default_only", numbered({"0.0.0.0/0"})},
        {"v6_default_only", numbered({"::/0"})},
        {"both_defaults", numbered({"0.0.0.0/0", "::/0"})},
        {"v4_mapped_v6_does_not_catch_v4", numbered({"::ffff:0:0/96", "::ffff:10.0.0.0/104"})},
        {"v4_does_not_catch_v4_mapped_v6", numbered({"0.0.0.0/0", "10.0.0.0/8", "10.1.2.3/32"})},
        {"v4_and_its_v6_twins", numbered({"10.0.0.0/8", "::ffff:10.0.0.0/104", "10.1.2.3/32",
                                          "::ffff:10.1.2.3/128", "0.0.0.0/0", "::ffff:0:0/96", "::/0"})},
        {"v4_pool_and_its_v6_twin", numbered({"10.9.0.4/30", "10.9.0.8/30", "::ffff:10.9.0.4/126"})},
    };
}

std::vector<RouteCase> length_cases() {
    return {
        {"nested_v4", numbered({"10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.0/25", "10.1.2.3/32"})},
        {"nested_v6", numbered({"fd00::/8", "fd00::/64", "fd00::/65", "fd00::1/128", "fd00::/127"})},
        {"every_v4_length_nested", every_length("10.170.85.165")},
        {"every_v4_length_of_zero", every_length("0.0.0.0")},
        {"every_v4_length_of_ones", every_length("255.255.255.255")},
        {"every_v6_length_nested", every_length("fda5:5aa5:f00f:1234:8765:4321:55aa:aa55")},
        {"every_v6_length_of_zero", every_length("::")},
        {"every_v6_length_of_ones", every_length("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")},
        {"every_length_of_both", joined({every_length_apart(IpFamily::v4), every_length_apart(IpFamily::v6),
                                         every_length("192.0.2.1"), every_length("2001:db8::1")})},
        {"pairs", numbered({"10.0.0.0/31", "10.0.0.2/31", "10.0.0.5/32", "10.0.0.4/31", "fd00::2/127"})},
        {"ends_of_the_address_space",
         numbered({"0.0.0.0/32", "0.0.0.0/26", "255.255.255.255/32", "255.255.255.192/26", "::/128",
                   "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128", "::/127", "0.0.0.0/8", "255.0.0.0/8"})},
        {"duplicates",
         {route("10.0.0.4/30", 1), route("10.0.0.4/30", 2), route("fd00::/64", 3), route("fd00::/64", 4),
          route("10.0.0.0/8", 5), route("10.0.0.0/8", 6), route("10.0.0.4/30", 1)}},
    };
}

std::vector<RouteCase> pool_cases() {
    // 64 addresses a prefix in all: two hosts share a pool of 128 addresses, but not of 129.
    const std::uint32_t full = max_pool_addresses / 64;
    return {
        {"pool_under_wide_prefixes", joined({consecutive_v4(0x64598000, 30, 64),
                                             numbered({"100.88.0.0/13", "100.89.128.0/20", "0.0.0.0/0"})})},
        {"wide_prefix_ends_inside_a_pool",
         joined({consecutive_v4(0x64598000, 30, 64), numbered({"100.89.128.0/25", "100.89.128.64/26"})})},
        {"holes_in_a_pool_show_the_wide_prefix",
         joined({consecutive_v4(0x64598000, 30, 5), consecutive_v4(0x64598040, 32, 9),
                 numbered({"100.89.0.0/16"})})},
        {"more_pools_than_room", pools(ROUTE_POOLS + 3)},
        {"just_dense_enough", numbered({"10.0.0.0/32", "10.0.0.127/32"})},
        {"just_not_dense_enough", numbered({"10.0.0.0/32", "10.0.0.128/32"})},
        {"largest_pool", consecutive_v4(0x0a000000, 26, full)},
        {"largest_pool_and_its_neighbour",
         joined({consecutive_v4(0x0a000000, 26, full + 1), numbered({"10.0.0.0/8"})})},
        {"largest_pool_off_the_block",
         joined({numbered({"9.255.255.255/32"}), consecutive_v4(0x0a000000, 26, full),
                 numbered({"10.4.0.1/32"})})},
        {"several_pools_beyond_the_limit", joined({consecutive_v4(0x0a000000, 26, full / 2 + 1),
                                                   consecutive_v4(0x14000000, 26, full / 2 + 2)})},
        {"unaligned_pool", consecutive_v4(0x0a00000d, 32, 37)},
        {"ten_thousand_peers", consecutive_v4(0x64598004, 30, 10000)},
        {"sixty_thousand_prefixes", many(60000, odd_case_slots)},
    };
}

IpAddress random_network(std::mt19937_64& random) {
    // Few different leading bits, so that prefixes nest, meet and repeat.
    const auto host = static_cast<std::uint32_t>(random());
    switch (random() % 6) {
        case 0:
            return IpAddress::v4(0x64598000 | (host & 0xfff));
        case 1:
            return IpAddress::v4((host & 1 ? 0xffffff00 : 0) | (host >> 24));
        case 2:
            return IpAddress::v4(host);
        case 3:
            return {IpFamily::v6, 0xfd00000000000000ULL | (random() & 0xff),
                    random() & 0x8000000000000fffULL};
        case 4:
            return {IpFamily::v6, 0, 0x0000ffff00000000ULL | (0x64598000 | (host & 0xfff))};
        default:
            return {IpFamily::v6, random(), random()};
    }
}

std::uint8_t random_length(IpFamily family, std::mt19937_64& random) {
    const unsigned longest = max_prefix_length(family);
    const unsigned common[] = {longest, longest - 2, longest - 1, longest - 6, longest - 8, longest / 2};
    return static_cast<std::uint8_t>(random() % 4 == 0 ? random() % (longest + 1) : common[random() % 6]);
}

}  // namespace

Route route(std::string_view prefix, std::uint32_t slot) {
    return {IpPrefix::parse(prefix).value(), slot};
}

std::vector<RouteCase> odd_route_cases() {
    std::vector<RouteCase> all;
    for (std::vector<RouteCase> (*const cases)() : {family_cases, length_cases, pool_cases})
        std::ranges::move(cases(), std::back_inserter(all));
    return all;
}

std::vector<Route> random_routes(std::size_t count, std::uint32_t slots, std::mt19937_64& random) {
    std::vector<Route> routes;
    while (routes.size() < count) {
        const IpAddress network = random_network(random);
        routes.push_back({IpPrefix::make(network, random_length(network.family, random)),
                          static_cast<std::uint32_t>(1 + random() % (slots - 1))});
    }
    return routes;
}

std::vector<Route> consecutive_v4(std::uint32_t first, std::uint8_t length, std::uint32_t count) {
    std::vector<Route> routes;
    for (std::uint32_t i = 0; i < count; ++i)
        routes.push_back({IpPrefix::make(IpAddress::v4(first + (i << (32 - length))), length), i + 1});
    return routes;
}

}  // namespace pangolin::test
