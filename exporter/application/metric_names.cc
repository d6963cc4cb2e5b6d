#include "exporter/application/metric_names.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <span>
#include <utility>
#include <vector>

namespace pangolin {

namespace {

using Translation = std::pair<std::string_view, std::string_view>;

// The Unified Code for Units of Measure, as far as the specification lists it.
constexpr auto units = std::to_array<Translation>({
    {"d", "days"},          {"h", "hours"},
    {"min", "minutes"},     {"s", "seconds"},
    {"ms", "milliseconds"}, {"us", "microseconds"},
    {"ns", "nanoseconds"},  {"By", "bytes"},
    {"KiBy", "kibibytes"},  {"MiBy", "mebibytes"},
    {"GiBy", "gibibytes"},  {"TiBy", "tibibytes"},
    {"KBy", "kilobytes"},   {"MBy", "megabytes"},
    {"GBy", "gigabytes"},   {"TBy", "terabytes"},
    {"m", "meters"},        {"V", "volts"},
    {"A", "amperes"},       {"J", "joules"},
    {"W", "watts"},         {"g", "grams"},
    {"Cel", "celsius"},     {"Hz", "hertz"},
    {"%", "percent"},       {"1", ""},
});
constexpr auto per_units = std::to_array<Translation>({
    {"s", "second"},
    {"m", "minute"},
    {"h", "hour"},
    {"d", "day"},
    {"w", "week"},
    {"mo", "month"},
    {"y", "year"},
});

bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

// Words of letters and digits (and colons, where they may be); what separates them is left out.
std::vector<std::string> words_of(std::string_view text, bool colons) {
    std::vector<std::string> words;
    bool inside = false;
    for (const char c : text) {
        const bool good = is_letter(c) || is_digit(c) || (colons && c == ':');
        if (good && !inside)
            words.emplace_back();
        if (good)
            words.back() += c;
        inside = good;
    }
    return words;
}

std::string joined(const std::vector<std::string>& words) {
    std::string text;
    for (const std::string& word : words)
        text += (text.empty() ? "" : "_") + word;
    return text;
}

std::string translated(std::string_view unit, std::span<const Translation> table) {
    // An annotation says what is counted; it is no unit.
    if (unit.contains('{') || unit.contains('}'))
        return {};
    const auto found = std::ranges::find(table, unit, &Translation::first);
    return found != table.end() ? std::string(found->second) : joined(words_of(unit, false));
}

bool contains_words(const std::vector<std::string>& words, const std::vector<std::string>& part) {
    return part.empty() || !std::ranges::search(words, part).empty();
}

}  // namespace

bool is_metric_name(std::string_view name) {
    return !name.empty() && !is_digit(name.front()) && std::ranges::all_of(name, [](char c) {
        return is_letter(c) || is_digit(c) || c == '_' || c == ':';
    });
}

bool is_label_name(std::string_view name) {
    return is_metric_name(name) && !name.contains(':') && !name.starts_with("__");
}

std::string unit_suffix(std::string_view unit) {
    const std::size_t slash = unit.find('/');
    std::string suffix = translated(unit.substr(0, slash), units);
    if (slash == std::string_view::npos)
        return suffix;
    if (const std::string per = translated(unit.substr(slash + 1), per_units); !per.empty())
        suffix += (suffix.empty() ? "per_" : "_per_") + per;
    return suffix;
}

std::string metric_name(std::string_view name, std::string_view unit, MetricType type) {
    std::vector<std::string> words = words_of(name, true);
    if (words.empty())
        return {};
    // It stands at the end, also where the name has it elsewhere.
    if (type == MetricType::counter)
        std::erase(words, "total");
    if (std::vector<std::string> suffix = words_of(unit_suffix(unit), false); !contains_words(words, suffix))
        std::ranges::move(suffix, std::back_inserter(words));
    if (type == MetricType::counter)
        words.emplace_back("total");
    else if (type == MetricType::gauge && unit == "1" && std::ranges::find(words, "ratio") == words.end())
        words.emplace_back("ratio");
    std::string result = joined(words);
    return is_digit(result.front()) ? "_" + result : result;
}

std::string label_name(std::string_view key) {
    // One underscore in front stays: it means something to those who write it.
    const bool leading = key.starts_with('_');
    std::string name = joined(words_of(key, false));
    if (name.empty())
        return {};
    if (is_digit(name.front()))
        return "key_" + name;
    return leading ? "_" + name : name;
}

}  // namespace pangolin
