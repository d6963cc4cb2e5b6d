// IP addresses and prefixes of both families in one form.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "loader/base/error.h"

namespace pangolin {

enum class IpFamily : std::uint8_t { v4, v6 };

// An address as a 128-bit number in host order. IPv4 is kept in its mapped form ::ffff:a.b.c.d
// (RFC 4291 section 2.5.5.2) beside its family, so that one comparison and one table serve both.
struct IpAddress {
    IpFamily family = IpFamily::v4;
    std::uint64_t high = 0;
    std::uint64_t low = 0;

    static IpAddress v4(std::uint32_t host_order);
    // `bytes` in network order, as in struct in6_addr.
    static IpAddress v6(const std::array<std::uint8_t, 16>& bytes);
    // Bytes in network order: 4 or 16 of them by `family`.
    static IpAddress from_network(IpFamily family, const void* bytes);
    static Result<IpAddress> parse(std::string_view text);

    // The IPv4 address in host order; meaningful for IPv4 only.
    std::uint32_t v4_value() const { return static_cast<std::uint32_t>(low); }
    std::string to_string() const;

    auto operator<=>(const IpAddress&) const = default;
};

// A network: an address whose host bits are zero and a length of 0..32 or 0..128.
struct IpPrefix {
    IpAddress network;
    std::uint8_t length = 0;

    // Clears the host bits. `length` must not exceed the family's.
    static IpPrefix make(IpAddress address, std::uint8_t length);
    // "100.89.128.4/30", "fd00::/64", or an address alone (a host prefix).
    static Result<IpPrefix> parse(std::string_view text);

    bool contains(const IpAddress& address) const;
    // True when every address of `other` is in this prefix (equal prefixes included).
    bool contains(const IpPrefix& other) const;
    std::string to_string() const;

    auto operator<=>(const IpPrefix&) const = default;
};

constexpr std::uint8_t max_prefix_length(IpFamily family) {
    return family == IpFamily::v4 ? 32 : 128;
}

// The mask of a prefix in the mapped 128-bit form: an IPv4 length counts from bit 96.
struct IpMask {
    std::uint64_t high;
    std::uint64_t low;
};
IpMask mask_of(IpFamily family, std::uint8_t length);

}  // namespace pangolin
