// Where a peer's encrypted packets come from and go to.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "loader/base/error.h"
#include "loader/base/ip_prefix.h"

namespace pangolin {

struct Endpoint {
    IpAddress address;
    std::uint16_t port = 0;

    // "198.51.100.7:51820", "[2001:db8::1]:51820" or "[fe80::1%eth0]:51820", whose zone is left out.
    static Result<Endpoint> parse(std::string_view text);
    std::string to_string() const;

    auto operator<=>(const Endpoint&) const = default;
};

}  // namespace pangolin

template <>
struct std::hash<pangolin::Endpoint> {
    std::size_t operator()(const pangolin::Endpoint& endpoint) const noexcept {
        // Multiplied by an odd constant (as splitmix64 does), because addresses differ in few low bits.
        const std::uint64_t mixed = (endpoint.address.high ^ endpoint.address.low << 16 ^
                                     endpoint.address.low >> 48 ^ endpoint.port) *
                                    0x9e3779b97f4a7c15ULL;
        return mixed ^ mixed >> 32;
    }
};
