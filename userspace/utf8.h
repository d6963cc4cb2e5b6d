// Text from outside (names in a database, files) as valid UTF-8, which Prometheus requires of label values.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace pangolin {

// What stands for a byte that is no text: U+FFFD.
inline constexpr std::string_view utf8_replacement = "\xEF\xBF\xBD";

// The length of the well-formed UTF-8 sequence (Unicode, table 3-7) at the beginning of `text`; 0 when there
// is none. A NUL counts as malformed: readers of the text format take it for the end of their input.
std::size_t utf8_sequence_length(std::string_view text);

// The length of the control character (C0, DEL, C1) at the beginning of `text`; 0 when there is none. A C1
// control is the two bytes of U+0080 to U+009F; terminals obey it as they do ESC.
std::size_t control_length(std::string_view text);

// True when all of `text` is such sequences.
bool is_utf8(std::string_view text);

// `text` with every malformed byte replaced: Prometheus refuses a whole scrape for one.
std::string valid_utf8(std::string_view text);

}  // namespace pangolin
