// WireGuard's public keys.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>

#include "loader/base/error.h"

namespace pangolin {

// A Curve25519 public key (32 bytes). Written as 44 characters of base64, as `wg` does.
struct WireGuardKey {
    static constexpr std::size_t base64_length = 44;
    std::array<std::uint8_t, 32> bytes{};

    static Result<WireGuardKey> from_base64(std::string_view text);
    // 64 hexadecimal digits, as the UAPI protocol writes keys.
    static Result<WireGuardKey> from_hex(std::string_view text);
    std::array<char, base64_length> to_base64() const;
    std::string to_string() const;

    auto operator<=>(const WireGuardKey&) const = default;
};

}  // namespace pangolin

// Keys are uniformly distributed already, so eight of their bytes are a hash.
template <>
struct std::hash<pangolin::WireGuardKey> {
    std::size_t operator()(const pangolin::WireGuardKey& key) const noexcept {
        std::size_t value = 0;
        std::memcpy(&value, key.bytes.data(), sizeof value);
        return value;
    }
};
