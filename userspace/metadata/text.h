// Text that people wrote: showing it safely and guessing what they meant.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace pangolin {

// `text` in one line that does nothing to a terminal: the bytes of control characters (C0, DEL, C1), and
// those that are not UTF-8, become \xNN.
std::string escaped(std::string_view text);

// `text` in single quotes for a message of one line: escaped(), and what exceeds about 60 bytes is cut off.
std::string in_quotes(std::string_view text);

// The candidate that `text` is most likely a misspelling of, by insertions, deletions, replacements and
// swaps of neighbours; none when no candidate is near. Ties go to the earlier candidate.
std::optional<std::string_view> nearest(std::string_view text, std::span<const std::string_view> candidates);

// A hint about an unknown word: "Did you mean 'port'? Valid keys are enabled, port." `kind` is the plural
// noun.
std::string suggestion(std::string_view text, std::span<const std::string_view> candidates,
                       std::string_view kind);

}  // namespace pangolin
