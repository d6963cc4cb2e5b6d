#include "userspace/metadata/text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "userspace/utf8.h"

namespace pangolin {
namespace {

constexpr std::size_t longest_quotation = 60;

// Appends the first character of `text` in a harmless form; its length in `text`.
std::size_t append_escaped(std::string_view text, std::string& out) {
    const std::size_t length = utf8_sequence_length(text);
    if (length > 0 && control_length(text) == 0) {
        out += text.substr(0, length);
        return length;
    }
    // One byte alone: the second byte of a C1 control is no character then, and is escaped in its turn.
    out += fmt::format("\\x{:02x}", static_cast<std::uint8_t>(text.front()));
    return 1;
}

// Damerau-Levenshtein distance in its restricted form (no character is edited twice).
std::size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> before_previous(b.size() + 1);
    std::vector<std::size_t> previous(b.size() + 1);
    std::vector<std::size_t> current(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j)
        previous[j] = j;
    for (std::size_t i = 1; i <= a.size(); ++i) {
        current[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const std::size_t replaced = previous[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
            current[j] = std::min({previous[j] + 1, current[j - 1] + 1, replaced});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                current[j] = std::min(current[j], before_previous[j - 2] + 1);
        }
        std::swap(before_previous, previous);
        std::swap(previous, current);
    }
    return previous[b.size()];
}

// siteId, site-id and Site_ID are meant alike.
std::string folded(std::string_view text) {
    std::string result;
    for (const char character : text) {
        if (character == '-' || character == '_')
            continue;
        const bool upper = character >= 'A' && character <= 'Z';
        result += upper ? static_cast<char>(character - 'A' + 'a') : character;
    }
    return result;
}

}  // namespace

std::string escaped(std::string_view text) {
    std::string result;
    while (!text.empty())
        text.remove_prefix(append_escaped(text, result));
    return result;
}

std::string in_quotes(std::string_view text) {
    std::string result = "'";
    for (std::size_t i = 0; i < text.size();) {
        if (i >= longest_quotation)
            return result + "...'";
        i += append_escaped(text.substr(i), result);
    }
    return result + "'";
}

std::optional<std::string_view> nearest(std::string_view text, std::span<const std::string_view> candidates) {
    // Bounds the work on absurd input; no key of ours is half as long.
    constexpr std::size_t longest_guess = 64;
    if (text.size() > longest_guess)
        return std::nullopt;
    const std::string folded_text = folded(text);
    std::optional<std::string_view> best;
    std::size_t best_distance = 0;
    for (const std::string_view candidate : candidates) {
        const std::string folded_candidate = folded(candidate);
        const std::size_t distance = edit_distance(folded_text, folded_candidate);
        const std::size_t longest = std::max(folded_text.size(), folded_candidate.size());
        // A third of the word wrong is a misspelling; more is another word.
        if (distance <= std::max<std::size_t>(1, (longest + 1) / 3) && distance < longest &&
            (!best || distance < best_distance)) {
            best = candidate;
            best_distance = distance;
        }
    }
    return best;
}

std::string suggestion(std::string_view text, std::span<const std::string_view> candidates,
                       std::string_view kind) {
    const auto guess = nearest(text, candidates);
    return fmt::format("{}Valid {} are {}.", guess ? fmt::format("Did you mean '{}'? ", *guess) : "", kind,
                       fmt::join(candidates, ", "));
}

}  // namespace pangolin
