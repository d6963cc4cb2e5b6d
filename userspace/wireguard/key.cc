#include "userspace/wireguard/key.h"

namespace pangolin {
namespace {

constexpr std::string_view base64_alphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::uint8_t not_a_digit = 0xff;

constexpr std::array<std::uint8_t, 256> base64_values = [] {
    std::array<std::uint8_t, 256> values{};
    values.fill(not_a_digit);
    for (std::size_t i = 0; i < base64_alphabet.size(); ++i)
        values[static_cast<std::uint8_t>(base64_alphabet[i])] = static_cast<std::uint8_t>(i);
    return values;
}();

std::uint8_t hexadecimal_value(char digit) {
    if (digit >= '0' && digit <= '9')
        return static_cast<std::uint8_t>(digit - '0');
    if (digit >= 'a' && digit <= 'f')
        return static_cast<std::uint8_t>(digit - 'a' + 10);
    if (digit >= 'A' && digit <= 'F')
        return static_cast<std::uint8_t>(digit - 'A' + 10);
    return not_a_digit;
}

// The text itself is not repeated: people paste private keys by mistake.
std::unexpected<Error> not_base64(std::string_view why) {
    return failure("not a WireGuard public key: " + std::string(why),
                   "A public key is 44 characters of base64 that end in '=', as `wg show` prints it.");
}

}  // namespace

Result<WireGuardKey> WireGuardKey::from_base64(std::string_view text) {
    if (text.size() != base64_length)
        return not_base64(std::to_string(text.size()) + " characters instead of 44");
    if (text.back() != '=')
        return not_base64("it does not end in '='");
    WireGuardKey key;
    std::uint32_t bits = 0;
    unsigned bit_count = 0;
    std::size_t filled = 0;
    for (const char character : text.substr(0, base64_length - 1)) {
        const std::uint8_t value = base64_values[static_cast<std::uint8_t>(character)];
        if (value == not_a_digit)
            return not_base64("it contains a character that is not base64");
        bits = bits << 6 | value;
        bit_count += 6;
        if (bit_count >= 8) {
            bit_count -= 8;
            key.bytes[filled++] = static_cast<std::uint8_t>(bits >> bit_count);
        }
    }
    // 43 digits carry 258 bits. The two left over must be zero, else two texts would name one key.
    if ((bits & 3U) != 0)
        return not_base64("its last digit has bits to spare");
    return key;
}

Result<WireGuardKey> WireGuardKey::from_hex(std::string_view text) {
    WireGuardKey key;
    if (text.size() != 2 * key.bytes.size())
        return failure("not a WireGuard key: " + std::to_string(text.size()) + " characters instead of 64");
    for (std::size_t i = 0; i < key.bytes.size(); ++i) {
        const std::uint8_t high = hexadecimal_value(text[2 * i]);
        const std::uint8_t low = hexadecimal_value(text[2 * i + 1]);
        if (high == not_a_digit || low == not_a_digit)
            return failure("not a WireGuard key: it contains a character that is not a hexadecimal digit");
        key.bytes[i] = static_cast<std::uint8_t>(high << 4 | low);
    }
    return key;
}

std::array<char, WireGuardKey::base64_length> WireGuardKey::to_base64() const {
    std::array<char, base64_length> text{};
    std::uint32_t bits = 0;
    unsigned bit_count = 0;
    std::size_t filled = 0;
    for (const std::uint8_t byte : bytes) {
        bits = bits << 8 | byte;
        bit_count += 8;
        while (bit_count >= 6) {
            bit_count -= 6;
            text[filled++] = base64_alphabet[bits >> bit_count & 0x3f];
        }
    }
    text[filled++] = base64_alphabet[bits << (6 - bit_count) & 0x3f];
    text[filled] = '=';
    return text;
}

std::string WireGuardKey::to_string() const {
    const auto text = to_base64();
    return {text.data(), text.size()};
}

}  // namespace pangolin
