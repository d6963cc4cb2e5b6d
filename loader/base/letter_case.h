// Words whose capitals do not matter.
#pragma once

#include <algorithm>
#include <string_view>

namespace pangolin {

// Of ASCII: names in HTTP, media types and Go's JSON and YAML are no more.
inline bool equal_ignoring_case(std::string_view a, std::string_view b) {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
    return std::ranges::equal(a, b, {}, lower, lower);
}

}  // namespace pangolin
