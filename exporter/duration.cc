#include "exporter/duration.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cstdint>

#include "userspace/metadata/text.h"

namespace pangolin {
namespace {

using std::chrono::milliseconds;

struct Unit {
    std::string_view name;
    milliseconds length;
};

// "ms" before "m", since the first that fits is taken.
constexpr std::array<Unit, 4> parsed_units{{{"ms", milliseconds(1)},
                                            {"s", std::chrono::seconds(1)},
                                            {"m", std::chrono::minutes(1)},
                                            {"h", std::chrono::hours(1)}}};
constexpr std::array<Unit, 4> written_units{{{"h", std::chrono::hours(1)},
                                             {"m", std::chrono::minutes(1)},
                                             {"s", std::chrono::seconds(1)},
                                             {"ms", milliseconds(1)}}};

// Long enough for everything here and far from overflow.
constexpr std::int64_t greatest_number = 1'000'000'000;

std::unexpected<Error> not_a_duration(std::string_view text) {
    return failure(in_quotes(text) + " is not a duration",
                   "Write a number and its unit, as in 500ms, 10s, 1m or 1m30s.");
}

}  // namespace

Result<milliseconds> parse_duration(std::string_view text) {
    std::string_view rest = text;
    milliseconds sum{0};
    do {
        std::int64_t number = 0;
        const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
        if (error != std::errc{} || number < 0 || number > greatest_number)
            return not_a_duration(text);
        rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
        const Unit* unit = nullptr;
        for (const Unit& candidate : parsed_units)
            if (unit == nullptr && rest.starts_with(candidate.name))
                unit = &candidate;
        if (unit == nullptr)
            return not_a_duration(text);
        rest.remove_prefix(unit->name.size());
        sum += number * unit->length;
        if (sum > greatest_number * std::chrono::hours(1))
            return not_a_duration(text);
    } while (!rest.empty());
    return sum;
}

Result<milliseconds> parse_duration(std::string_view text, milliseconds least, milliseconds greatest) {
    auto duration = parse_duration(text);
    if (duration && (*duration < least || *duration > greatest))
        return failure(in_quotes(text) + " is out of range",
                       fmt::format("Choose a duration from {} to {}.", format_duration(least),
                                   format_duration(greatest)));
    return duration;
}

std::string format_duration(milliseconds duration) {
    if (duration.count() == 0)
        return "0s";
    std::string text;
    for (const Unit& unit : written_units) {
        const auto count = duration / unit.length;
        if (count > 0)
            text += fmt::format("{}{}", count, unit.name);
        duration %= unit.length;
    }
    return text;
}

}  // namespace pangolin
