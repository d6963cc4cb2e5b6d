// Allowed IPs that are hard on a route table, for the compiler's tests and for the kernel's.
#pragma once

#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "loader/route_table.h"

namespace pangolin::test {

struct RouteCase {
    std::string name;
    std::vector<Route> routes;
};

// "10.0.0.0/8" for `slot`; the text must be right.
Route route(std::string_view prefix, std::uint32_t slot);

// Each with a name that is good for a test's name. Slots are below odd_case_slots.
std::vector<RouteCase> odd_route_cases();
inline constexpr std::uint32_t odd_case_slots = 20000;

// Up to `count` prefixes for slots 1 .. slots - 1: dense networks, hosts, every length, nested in each other,
// both families and v4-mapped IPv6.
std::vector<Route> random_routes(std::size_t count, std::uint32_t slots, std::mt19937_64& random);

// `count` consecutive networks of `length` bits from `first` on, for slots 1, 2, ...
std::vector<Route> consecutive_v4(std::uint32_t first, std::uint8_t length, std::uint32_t count);

}  // namespace pangolin::test
