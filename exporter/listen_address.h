// Where the web endpoint listens.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "loader/base/error.h"

namespace pangolin {

inline constexpr std::uint16_t default_port = 9464;

struct ListenAddress {
    // An IP address (IPv6 without brackets) or a host name; empty for every address of this host, both
    // families.
    std::string host;
    // 0 lets the kernel choose.
    std::uint16_t port = default_port;

    // "host:port", ":port", "[::1]:port". With `port_if_missing` also "host", "::1" and "[::1]".
    static Result<ListenAddress> parse(std::string_view text,
                                       std::optional<std::uint16_t> port_if_missing = std::nullopt);
    // The form that parse() reads.
    std::string to_string() const;

    auto operator<=>(const ListenAddress&) const = default;
};

}  // namespace pangolin
