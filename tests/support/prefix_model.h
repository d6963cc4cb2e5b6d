// Longest-prefix matching as plain as it can be written, to hold the fast one against.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "loader/route_table.h"

namespace pangolin::test {

// Looks at every route for every address. Shares no code with RouteTable, not even the masks.
class PrefixModel {
  public:
    explicit PrefixModel(std::span<const Route> routes) : routes_(routes.begin(), routes.end()) {}

    // Longest prefix wins, of equal ones the last; TRAFFIC_SLOT_UNMATCHED without one.
    std::uint32_t find(const IpAddress& address) const;

  private:
    std::vector<Route> routes_;
};

// The first and last address of a prefix and their neighbours outside (around the end of the address space).
std::vector<IpAddress> edge_addresses(const IpPrefix& prefix);

// The address of the other family that is the same 128-bit number: an IPv4 address as ::ffff:a.b.c.d in an
// IPv6 header, and such an IPv6 address as IPv4. An address without a twin is returned as it is.
IpAddress twin_of(const IpAddress& address);

IpAddress random_address(std::mt19937_64& random);

// Addresses that put `routes` to the test: every route's edges and their twins, a random address in each
// route and as many anywhere; a random choice of `limit` of them.
std::vector<IpAddress> telling_addresses(std::span<const Route> routes, std::size_t limit,
                                         std::mt19937_64& random);

}  // namespace pangolin::test
