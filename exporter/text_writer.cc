#include "exporter/text_writer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>

#include "userspace/utf8.h"

namespace pangolin {

namespace {

// A byte of a label value becomes at most three (U+FFFD).
constexpr std::size_t worst_growth = 3;
// Longest form of a number that to_chars makes, and some.
constexpr std::size_t number_room = 32;
// copy_escaped() stores whole words and may touch this much behind its end.
constexpr std::size_t word = sizeof(std::uint64_t);

char* copy(char* out, std::string_view text) {
    return out + text.copy(out, text.size());
}

constexpr std::uint64_t every_byte(std::uint8_t value) {
    return 0x0101010101010101ULL * value;
}

// Non-zero when one of eight bytes is a control character, a quote, a backslash or not ASCII. A false alarm
// is possible behind a true one, and harmless.
constexpr std::uint64_t needs_care(std::uint64_t bytes) {
    const std::uint64_t quote = bytes ^ every_byte('"');
    const std::uint64_t backslash = bytes ^ every_byte('\\');
    const std::uint64_t found =
        bytes | (bytes - every_byte(0x20)) | (quote - every_byte(1)) | (backslash - every_byte(1));
    return found & every_byte(0x80);
}

// Copies one character of `text` as an escaped one, and takes it off `text`.
char* copy_character(char* out, std::string_view& text, bool escape_quotes) {
    const char first = text.front();
    std::size_t taken = 1;
    if (first == '\n') {
        out = copy(out, "\\n");
    } else if (first == '\\' || (first == '"' && escape_quotes)) {
        *out++ = '\\';
        *out++ = first;
    } else if (const std::size_t length = utf8_sequence_length(text); length > 0) {
        out = copy(out, text.substr(0, length));
        taken = length;
    } else {
        out = copy(out, utf8_replacement);
    }
    text.remove_prefix(taken);
    return out;
}

char* copy_escaped(char* out, std::string_view text, bool escape_quotes = true) {
    while (!text.empty()) {
        // A whole word where there is one, else the rest filled up with a harmless character.
        const std::size_t length = std::min(text.size(), word);
        std::uint64_t bytes = every_byte('a');
        if (length == word)
            std::memcpy(&bytes, text.data(), word);
        else
            std::memcpy(&bytes, text.data(), length);
        if (needs_care(bytes)) {
            out = copy_character(out, text, escape_quotes);
            continue;
        }
        std::memcpy(out, &bytes, word);
        out += length;
        text.remove_prefix(length);
    }
    return out;
}

char* copy_number(char* out, std::uint64_t value) {
    return std::to_chars(out, out + number_room, value).ptr;
}

char* copy_number(char* out, double value) {
    if (std::isnan(value))
        return copy(out, "NaN");
    if (std::isinf(value))
        return copy(out, value > 0 ? "+Inf" : "-Inf");
    return std::to_chars(out, out + number_room, value).ptr;
}

// OpenMetrics wants the value of le and quantile in one canonical form, a float's: "1.0", not "1".
char* copy_bound(char* out, double value, ExpositionFormat format) {
    // As other clients write it: a bound is a label value, hence compared as text.
    char* const end = std::isfinite(value)
                          ? std::to_chars(out, out + number_room, value, std::chars_format::general).ptr
                          : copy_number(out, value);
    if (format == ExpositionFormat::text || !std::isfinite(value))
        return end;
    return std::string_view(out, end).find_first_of(".e") == std::string_view::npos ? copy(end, ".0") : end;
}

std::string_view without_suffix(std::string_view name, std::string_view suffix) {
    return name.ends_with(suffix) ? name.substr(0, name.size() - suffix.size()) : name;
}

}  // namespace

std::string_view content_type(ExpositionFormat format) {
    return format == ExpositionFormat::text ? "text/plain; version=0.0.4; charset=utf-8"
                                            : "application/openmetrics-text; version=1.0.0; charset=utf-8";
}

std::string_view to_string(MetricType type) {
    static constexpr std::array<std::string_view, 6> names{"counter", "gauge", "histogram",
                                                           "summary", "info",  "unknown"};
    return names.at(static_cast<std::size_t>(type));
}

TextWriter::TextWriter(ExpositionFormat format, std::size_t capacity)
    : format_(format), data_(std::make_unique_for_overwrite<char[]>(capacity)), capacity_(capacity) {}

char* TextWriter::room(std::size_t bytes) {
    if (capacity_ - size_ < bytes) {
        const std::size_t capacity = std::max(2 * capacity_, size_ + bytes);
        auto larger = std::make_unique_for_overwrite<char[]>(capacity);
        std::memcpy(larger.get(), data_.get(), size_);
        data_ = std::move(larger);
        capacity_ = capacity;
    }
    return data_.get() + size_;
}

void TextWriter::begin_family(const FamilyHeader& family) {
    family_ = family;
    family_name_ = family.name;
    header_due_ = true;
    if (format_ == ExpositionFormat::text)
        return;
    // In OpenMetrics the suffix belongs to the sample, not to the family; a counter must have it.
    if (family.type == MetricType::counter && !family.name.ends_with("_total"))
        family_.type = MetricType::unknown;
    else if (family.type == MetricType::counter)
        family_name_ = without_suffix(family.name, "_total");
    else if (family.type == MetricType::info)
        family_name_ = without_suffix(family.name, "_info");
}

void TextWriter::write_meta(std::string_view keyword, std::string_view text) {
    // "# ", two spaces and a line feed.
    char* out = room(keyword.size() + family_name_.size() + worst_growth * text.size() + word + 5);
    out = copy(out, "# ");
    out = copy(out, keyword);
    *out++ = ' ';
    out = copy(out, family_name_);
    *out++ = ' ';
    out = copy_escaped(out, text, format_ == ExpositionFormat::open_metrics);
    *out++ = '\n';
    set_end(out);
}

void TextWriter::write_header() {
    header_due_ = false;
    const bool open_metrics = format_ == ExpositionFormat::open_metrics;
    write_meta("HELP", family_.help);
    if (family_.type == MetricType::info && !open_metrics)
        write_meta("TYPE", "gauge");
    else if (family_.type == MetricType::unknown && !open_metrics)
        write_meta("TYPE", "untyped");
    else
        write_meta("TYPE", to_string(family_.type));
    if (open_metrics && !family_.unit.empty())
        write_meta("UNIT", family_.unit);
}

char* TextWriter::write_name_and_labels(std::string_view suffix, std::span<const std::string_view> names,
                                        std::span<const std::string_view> values, const BoundLabel* bound) {
    if (header_due_)
        write_header();
    // Four bytes around each label (comma, equals sign, quotes), three around all of them, and the value's
    // line feed.
    std::size_t bytes = family_.name.size() + suffix.size() + 2 * number_room + word + 16;
    for (std::size_t i = 0; i < names.size(); ++i)
        bytes += names[i].size() + worst_growth * values[i].size() + 4;
    if (bound)
        bytes += bound->name.size();

    char* out = copy(room(bytes), family_.name);
    out = copy(out, suffix);
    char separator = '{';
    for (std::size_t i = 0; i < names.size(); ++i) {
        *out++ = separator;
        separator = ',';
        out = copy(out, names[i]);
        *out++ = '=';
        *out++ = '"';
        out = copy_escaped(out, values[i]);
        *out++ = '"';
    }
    if (bound) {
        *out++ = separator;
        separator = ',';
        out = copy(out, bound->name);
        out = copy(out, "=\"");
        out = copy_bound(out, bound->value, format_);
        *out++ = '"';
    }
    if (separator == ',')
        *out++ = '}';
    *out++ = ' ';
    return out;
}

void TextWriter::sample(std::string_view suffix, std::span<const std::string_view> names,
                        std::span<const std::string_view> values, std::uint64_t value) {
    char* out = copy_number(write_name_and_labels(suffix, names, values, nullptr), value);
    *out++ = '\n';
    set_end(out);
}

void TextWriter::sample(std::string_view suffix, std::span<const std::string_view> names,
                        std::span<const std::string_view> values, double value) {
    char* out = copy_number(write_name_and_labels(suffix, names, values, nullptr), value);
    *out++ = '\n';
    set_end(out);
}

void TextWriter::sample(std::string_view suffix, std::span<const std::string_view> names,
                        std::span<const std::string_view> values, BoundLabel bound, double value) {
    char* out = copy_number(write_name_and_labels(suffix, names, values, &bound), value);
    *out++ = '\n';
    set_end(out);
}

void TextWriter::bucket(std::span<const std::string_view> names, std::span<const std::string_view> values,
                        double bound, std::uint64_t count) {
    const BoundLabel label{"le", bound};
    char* out = copy_number(write_name_and_labels("_bucket", names, values, &label), count);
    *out++ = '\n';
    set_end(out);
}

void TextWriter::finish() {
    if (format_ == ExpositionFormat::open_metrics)
        set_end(copy(room(word), "# EOF\n"));
}

}  // namespace pangolin
