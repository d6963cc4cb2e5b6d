#include "userspace/utf8.h"

#include <cstdint>

namespace pangolin {

namespace {

struct LeadByte {
    std::uint8_t length;
    // The second byte's range is narrower than the others' for the lead bytes that would allow an overlong
    // form, a surrogate, or a number beyond U+10FFFF.
    std::uint8_t second_min;
    std::uint8_t second_max;
};

LeadByte classify(std::uint8_t lead) {
    if (lead >= 0x01 && lead <= 0x7F)
        return {1, 0, 0};
    if (lead >= 0xC2 && lead <= 0xDF)
        return {2, 0x80, 0xBF};
    if (lead >= 0xE0 && lead <= 0xEF)
        return {3, static_cast<std::uint8_t>(lead == 0xE0 ? 0xA0 : 0x80),
                static_cast<std::uint8_t>(lead == 0xED ? 0x9F : 0xBF)};
    if (lead >= 0xF0 && lead <= 0xF4)
        return {4, static_cast<std::uint8_t>(lead == 0xF0 ? 0x90 : 0x80),
                static_cast<std::uint8_t>(lead == 0xF4 ? 0x8F : 0xBF)};
    return {0, 0, 0};
}

}  // namespace

std::size_t utf8_sequence_length(std::string_view text) {
    if (text.empty())
        return 0;
    const auto byte = [text](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
    const LeadByte lead = classify(byte(0));
    if (lead.length < 2)
        return lead.length;
    if (text.size() < lead.length || byte(1) < lead.second_min || byte(1) > lead.second_max)
        return 0;
    for (std::size_t i = 2; i < lead.length; ++i)
        if ((byte(i) & 0xC0) != 0x80)
            return 0;
    return lead.length;
}

std::size_t control_length(std::string_view text) {
    if (text.empty())
        return 0;
    const auto first = static_cast<std::uint8_t>(text[0]);
    if (first < 0x20 || first == 0x7F)
        return 1;
    if (first == 0xC2 && utf8_sequence_length(text) == 2 && static_cast<std::uint8_t>(text[1]) <= 0x9F)
        return 2;
    return 0;
}

bool is_utf8(std::string_view text) {
    while (!text.empty()) {
        const std::size_t length = utf8_sequence_length(text);
        if (length == 0)
            return false;
        text.remove_prefix(length);
    }
    return true;
}

std::string valid_utf8(std::string_view text) {
    std::string valid;
    valid.reserve(text.size());
    while (!text.empty()) {
        const std::size_t length = utf8_sequence_length(text);
        valid.append(length > 0 ? text.substr(0, length) : utf8_replacement);
        text.remove_prefix(length > 0 ? length : 1);
    }
    return valid;
}

}  // namespace pangolin
