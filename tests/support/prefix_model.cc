#include "tests/support/prefix_model.h"

#include <algorithm>

namespace pangolin::test {
namespace {

// Bit 0 is the first on the wire, for IPv4 too.
bool bit_of(const IpAddress& address, unsigned bit) {
    if (address.family == IpFamily::v4)
        return address.v4_value() >> (31 - bit) & 1;
    return (bit < 64 ? address.high >> (63 - bit) : address.low >> (127 - bit)) & 1;
}

void set_bit(IpAddress& address, unsigned bit, bool value) {
    const unsigned from_right = (address.family == IpFamily::v4 ? 31 : 127) - bit;
    std::uint64_t& word = from_right < 64 ? address.low : address.high;
    const std::uint64_t mask = std::uint64_t{1} << from_right % 64;
    word = value ? word | mask : word & ~mask;
}

bool in_prefix(const IpAddress& address, const IpPrefix& prefix) {
    if (address.family != prefix.network.family)
        return false;
    for (unsigned bit = 0; bit < prefix.length; ++bit) {
        if (bit_of(address, bit) != bit_of(prefix.network, bit))
            return false;
    }
    return true;
}

IpAddress neighbour(IpAddress address, bool next) {
    if (address.family == IpFamily::v4)
        return IpAddress::v4(address.v4_value() + (next ? 1U : ~0U));
    if (next)
        address.high += ++address.low == 0;
    else
        address.high -= address.low-- == 0;
    return address;
}

IpAddress random_in(const IpPrefix& prefix, std::mt19937_64& random) {
    IpAddress address = prefix.network;
    for (unsigned bit = prefix.length; bit < max_prefix_length(address.family); ++bit)
        set_bit(address, bit, random() & 1);
    return address;
}

}  // namespace

std::uint32_t PrefixModel::find(const IpAddress& address) const {
    const Route* best = nullptr;
    for (const Route& route : routes_) {
        if ((best == nullptr || route.prefix.length >= best->prefix.length) &&
            in_prefix(address, route.prefix))
            best = &route;
    }
    return best == nullptr ? std::uint32_t{TRAFFIC_SLOT_UNMATCHED} : best->slot;
}

std::vector<IpAddress> edge_addresses(const IpPrefix& prefix) {
    IpAddress last = prefix.network;
    for (unsigned bit = prefix.length; bit < max_prefix_length(last.family); ++bit)
        set_bit(last, bit, true);
    return {prefix.network, last, neighbour(prefix.network, false), neighbour(last, true)};
}

IpAddress twin_of(const IpAddress& address) {
    IpAddress twin = address;
    if (address.high == 0 && address.low >> 32 == 0xffff)
        twin.family = address.family == IpFamily::v4 ? IpFamily::v6 : IpFamily::v4;
    return twin;
}

IpAddress random_address(std::mt19937_64& random) {
    if (random() & 1)
        return IpAddress::v4(static_cast<std::uint32_t>(random()));
    return {IpFamily::v6, random(), random()};
}

std::vector<IpAddress> telling_addresses(std::span<const Route> routes, std::size_t limit,
                                         std::mt19937_64& random) {
    std::vector<IpAddress> addresses;
    for (const Route& route : routes) {
        for (const IpAddress& edge : edge_addresses(route.prefix)) {
            addresses.push_back(edge);
            addresses.push_back(twin_of(edge));
        }
        addresses.push_back(random_in(route.prefix, random));
        addresses.push_back(random_address(random));
    }
    std::ranges::shuffle(addresses, random);
    if (addresses.size() > limit)
        addresses.resize(limit);
    return addresses;
}

}  // namespace pangolin::test
