// Numbers in text.
#pragma once

#include <charconv>
#include <optional>
#include <string_view>

namespace pangolin {

// The decimal number that the whole of `text` is; none when it is anything else or does not fit.
template <class Number>
std::optional<Number> parse_number(std::string_view text) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size())
        return std::nullopt;
    return value;
}

}  // namespace pangolin
