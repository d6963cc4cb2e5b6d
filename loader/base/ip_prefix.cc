#include "loader/base/ip_prefix.h"

#include <arpa/inet.h>

#include <cstring>

#include "loader/base/number.h"

namespace pangolin {
namespace {

constexpr std::uint64_t mapped_v4_marker = 0x0000ffff00000000ULL;

std::uint64_t load_big_endian(const std::uint8_t* bytes) {
    std::uint64_t value = 0;
    for (int i = 0; i < 8; ++i)
        value = value << 8 | bytes[i];
    return value;
}

void store_big_endian(std::uint64_t value, std::uint8_t* bytes) {
    for (int i = 7; i >= 0; --i, value >>= 8)
        bytes[i] = static_cast<std::uint8_t>(value);
}

}  // namespace

IpAddress IpAddress::v4(std::uint32_t host_order) {
    return {IpFamily::v4, 0, mapped_v4_marker | host_order};
}

IpAddress IpAddress::v6(const std::array<std::uint8_t, 16>& bytes) {
    return {IpFamily::v6, load_big_endian(bytes.data()), load_big_endian(bytes.data() + 8)};
}

IpAddress IpAddress::from_network(IpFamily family, const void* bytes) {
    if (family == IpFamily::v4) {
        std::uint32_t network_order = 0;
        std::memcpy(&network_order, bytes, sizeof network_order);
        return v4(ntohl(network_order));
    }
    std::array<std::uint8_t, 16> copy{};
    std::memcpy(copy.data(), bytes, copy.size());
    return v6(copy);
}

Result<IpAddress> IpAddress::parse(std::string_view text) {
    const std::string terminated(text);
    std::array<std::uint8_t, 16> bytes{};
    // inet_pton() stops at a NUL and would take what follows it for nothing.
    const bool whole = terminated.find('\0') == std::string::npos;
    if (whole && inet_pton(AF_INET, terminated.c_str(), bytes.data()) == 1)
        return from_network(IpFamily::v4, bytes.data());
    if (whole && inet_pton(AF_INET6, terminated.c_str(), bytes.data()) == 1)
        return v6(bytes);
    return failure("'" + terminated + "' is not an IP address", "Write it as 192.0.2.1 or 2001:db8::1.");
}

std::string IpAddress::to_string() const {
    std::array<char, INET6_ADDRSTRLEN> text{};
    if (family == IpFamily::v4) {
        const std::uint32_t network_order = htonl(v4_value());
        inet_ntop(AF_INET, &network_order, text.data(), text.size());
    } else {
        std::array<std::uint8_t, 16> bytes{};
        store_big_endian(high, bytes.data());
        store_big_endian(low, bytes.data() + 8);
        inet_ntop(AF_INET6, bytes.data(), text.data(), text.size());
    }
    return text.data();
}

IpMask mask_of(IpFamily family, std::uint8_t length) {
    const unsigned bits = family == IpFamily::v4 ? 96U + length : length;
    const auto ones = [](unsigned count) { return count == 0 ? 0 : ~std::uint64_t{0} << (64 - count); };
    return bits <= 64 ? IpMask{ones(bits), 0} : IpMask{~std::uint64_t{0}, ones(bits - 64)};
}

IpPrefix IpPrefix::make(IpAddress address, std::uint8_t length) {
    const IpMask mask = mask_of(address.family, length);
    address.high &= mask.high;
    address.low &= mask.low;
    return {address, length};
}

Result<IpPrefix> IpPrefix::parse(std::string_view text) {
    const auto slash = text.find('/');
    const auto address = IpAddress::parse(text.substr(0, slash));
    if (!address)
        return std::unexpected(address.error());
    const unsigned longest = max_prefix_length(address->family);
    unsigned length = longest;
    if (slash != std::string_view::npos) {
        const auto number = parse_number<unsigned>(text.substr(slash + 1));
        if (!number || *number > longest)
            return failure("'" + std::string(text) + "' is not a network prefix",
                           "The length after '/' is a number from 0 to " + std::to_string(longest) + ".");
        length = *number;
    }
    return make(*address, static_cast<std::uint8_t>(length));
}

bool IpPrefix::contains(const IpAddress& address) const {
    if (address.family != network.family)
        return false;
    const IpMask mask = mask_of(network.family, length);
    return (address.high & mask.high) == network.high && (address.low & mask.low) == network.low;
}

bool IpPrefix::contains(const IpPrefix& other) const {
    return other.length >= length && contains(other.network);
}

std::string IpPrefix::to_string() const {
    return network.to_string() + "/" + std::to_string(length);
}

}  // namespace pangolin
