#include "exporter/content_negotiation.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <optional>

#include "loader/base/letter_case.h"

namespace pangolin {

namespace {

std::string_view trimmed(std::string_view text) {
    const std::size_t begin = text.find_first_not_of(" \t");
    if (begin == std::string_view::npos)
        return {};
    return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

// Takes the text before `separator` off `rest`.
std::string_view take(std::string_view& rest, char separator) {
    const std::size_t end = rest.find(separator);
    const std::string_view taken = trimmed(rest.substr(0, end));
    rest = end == std::string_view::npos ? std::string_view{} : rest.substr(end + 1);
    return taken;
}

// One element of such a header: "text/plain;version=0.0.4;q=0.5".
struct Preference {
    std::string_view name;
    std::string_view version;
    double quality = 1;
};

// A quality that is no number counts as 0: nothing is pressed on a client.
double quality(std::string_view text) {
    double value = 0;
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
    return error == std::errc{} && end == text.data() + text.size() && value >= 0 ? std::min(value, 1.0) : 0;
}

Preference take_preference(std::string_view& header) {
    std::string_view element = take(header, ',');
    Preference preference{.name = take(element, ';'), .version = {}};
    while (!element.empty()) {
        std::string_view value = take(element, ';');
        const std::string_view key = take(value, '=');
        value = trimmed(value);
        if (value.size() >= 2 && value.front() == '"' && value.back() == '"')
            value = value.substr(1, value.size() - 2);
        if (equal_ignoring_case(key, "q"))
            preference.quality = quality(value);
        else if (equal_ignoring_case(key, "version"))
            preference.version = value;
    }
    return preference;
}

std::optional<ExpositionFormat> format_of(const Preference& preference) {
    if (equal_ignoring_case(preference.name, "application/openmetrics-text") &&
        (preference.version.empty() || preference.version == "1.0.0"))
        return ExpositionFormat::open_metrics;
    if (equal_ignoring_case(preference.name, "text/plain") &&
        (preference.version.empty() || preference.version == "0.0.4"))
        return ExpositionFormat::text;
    if (equal_ignoring_case(preference.name, "text/*") || preference.name == "*/*")
        return ExpositionFormat::text;
    return std::nullopt;
}

}  // namespace

ExpositionFormat negotiate_format(std::string_view accept) {
    ExpositionFormat best = ExpositionFormat::text;
    double best_quality = 0;
    while (!accept.empty()) {
        const Preference preference = take_preference(accept);
        const std::optional<ExpositionFormat> format = format_of(preference);
        if (format && preference.quality > best_quality) {
            best = *format;
            best_quality = preference.quality;
        }
    }
    return best;
}

bool accepts_gzip(std::string_view accept_encoding) {
    std::optional<double> gzip;
    double any = 0;
    while (!accept_encoding.empty()) {
        const Preference preference = take_preference(accept_encoding);
        if (equal_ignoring_case(preference.name, "gzip") || equal_ignoring_case(preference.name, "x-gzip"))
            gzip = std::max(gzip.value_or(0), preference.quality);
        else if (preference.name == "*")
            any = preference.quality;
    }
    return gzip.value_or(any) > 0;
}

}  // namespace pangolin
