#include "exporter/application/exposition_lines.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "exporter/application/metric_names.h"
#include "loader/base/number.h"
#include "userspace/metadata/text.h"
#include "userspace/utf8.h"

namespace pangolin {
namespace {

using Problem = std::unexpected<std::string>;

// How much of a line is looked at.
class Cursor {
  public:
    explicit Cursor(std::string_view rest) : rest_(rest) {}

    std::string_view rest() const { return rest_; }
    bool at_end() const { return rest_.empty(); }
    char peek() const { return rest_.empty() ? '\0' : rest_.front(); }

    bool take(std::string_view text) {
        if (!rest_.starts_with(text))
            return false;
        rest_.remove_prefix(text.size());
        return true;
    }
    template <class Predicate>
    std::string_view take_while(Predicate wanted) {
        const auto end = std::ranges::find_if_not(rest_, wanted);
        const auto length = static_cast<std::size_t>(end - rest_.begin());
        const std::string_view taken = rest_.substr(0, length);
        rest_.remove_prefix(length);
        return taken;
    }
    void skip_blanks() { take_while(is_blank); }
    // Up to a blank.
    std::string_view word() {
        return take_while([](char c) { return !is_blank(c); });
    }

    static bool is_blank(char c) { return c == ' ' || c == '\t'; }

  private:
    std::string_view rest_;
};

bool is_name_byte(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == ':';
}

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

std::optional<std::string_view> take_metric_name(Cursor& cursor) {
    const std::string_view name = cursor.take_while(is_name_byte);
    if (name.empty() || is_digit(name.front()))
        return std::nullopt;
    return name;
}

// Escapes other than \\ and \n.
enum class Escapes : std::uint8_t {
    // None.
    help,
    // The quote.
    label,
    // The quote; a backslash before anything else is one.
    open_metrics,
};

std::expected<std::string, std::string> unescape(std::string_view text, Escapes escapes) {
    std::string result;
    result.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '\\') {
            result += text[i];
            continue;
        }
        const char escaped = i + 1 < text.size() ? text[i + 1] : '\0';
        if (escaped == 'n')
            result += '\n';
        else if (escaped == '\\' || (escaped == '"' && escapes != Escapes::help))
            result += escaped;
        else if (escapes == Escapes::open_metrics && i + 1 < text.size())
            result.append({'\\', escaped});
        else
            return Problem("an unknown escape sequence in " + in_quotes(text));
        ++i;
    }
    if (!is_utf8(result))
        return Problem(in_quotes(text) + " is not UTF-8");
    return result;
}

// What is between the quotes; the cursor is behind the first one, and afterwards behind the second.
std::expected<std::string, std::string> take_quoted(Cursor& cursor, Escapes escapes) {
    bool is_escaped = false;
    const std::string_view text = cursor.take_while([&](char c) {
        if (c == '"' && !is_escaped)
            return false;
        is_escaped = c == '\\' && !is_escaped;
        return true;
    });
    if (!cursor.take("\""))
        return Problem("a label value does not end");
    return unescape(text, escapes);
}

// The cursor is behind "{", and afterwards behind "}". In 0.0.4 blanks may stand anywhere, and a comma at the
// end.
std::expected<Labels, std::string> take_labels(Cursor& cursor, Escapes escapes) {
    const bool blanks = escapes == Escapes::label;
    Labels labels;
    const auto skip = [&] {
        if (blanks)
            cursor.skip_blanks();
    };
    skip();
    while (!cursor.take("}")) {
        if (!labels.empty()) {
            if (!cursor.take(","))
                return Problem("expected ',' or '}' behind a label");
            skip();
            if (blanks && cursor.take("}"))
                break;
        }
        const std::string_view name = cursor.take_while([](char c) { return is_name_byte(c) && c != ':'; });
        if (name.empty() || is_digit(name.front()))
            return Problem("expected the name of a label at " + in_quotes(cursor.rest()));
        skip();
        if (!cursor.take("="))
            return Problem(fmt::format("expected '=' behind the label {}", name));
        skip();
        if (!cursor.take("\""))
            return Problem(fmt::format("the value of the label {} is not in quotes", name));
        auto value = take_quoted(cursor, escapes);
        if (!value)
            return Problem(std::move(value.error()));
        labels.emplace_back(std::string(name), std::move(*value));
        skip();
    }
    return labels;
}

std::expected<double, std::string> take_value(Cursor& cursor) {
    const std::string_view word = cursor.word();
    const auto value = parse_sample_value(word);
    if (!value)
        return Problem(word.empty() ? "a value is missing" : in_quotes(word) + " is no number");
    return *value;
}

// The cursor is behind " # " of a sample's exemplar.
std::expected<void, std::string> skip_exemplar(Cursor& cursor) {
    if (!cursor.take("{"))
        return Problem("an exemplar without labels");
    if (const auto labels = take_labels(cursor, Escapes::open_metrics); !labels)
        return Problem(labels.error());
    if (!cursor.take(" "))
        return Problem("an exemplar without a value");
    if (const auto value = take_value(cursor); !value)
        return Problem(value.error());
    if (cursor.take(" "))
        if (const auto time = take_value(cursor); !time || !std::isfinite(*time))
            return Problem("an exemplar's timestamp is no number");
    if (!cursor.at_end())
        return Problem("text behind an exemplar: " + in_quotes(cursor.rest()));
    return {};
}

std::optional<MetadataLine::Kind> metadata_kind(std::string_view word) {
    if (word == "HELP")
        return MetadataLine::Kind::help;
    if (word == "TYPE")
        return MetadataLine::Kind::type;
    if (word == "UNIT")
        return MetadataLine::Kind::unit;
    return std::nullopt;
}

// The cursor is behind "#".
std::expected<ExpositionLine, std::string> text_comment(Cursor cursor) {
    cursor.skip_blanks();
    const auto kind = metadata_kind(cursor.word());
    if (!kind || *kind == MetadataLine::Kind::unit)
        return std::monostate{};
    cursor.skip_blanks();
    if (cursor.at_end())
        return std::monostate{};
    const auto name = take_metric_name(cursor);
    if (!name || (!cursor.at_end() && !Cursor::is_blank(cursor.peek())))
        return Problem("expected the name of a metric behind HELP or TYPE");
    cursor.skip_blanks();
    MetadataLine line{.kind = *kind, .name = *name, .text = {}};
    if (*kind == MetadataLine::Kind::type) {
        line.text = cursor.rest();
        return line;
    }
    auto help = unescape(cursor.rest(), Escapes::help);
    if (!help)
        return Problem(std::move(help.error()));
    line.text = std::move(*help);
    return line;
}

// The cursor is behind "# ".
std::expected<ExpositionLine, std::string> open_metrics_comment(Cursor cursor) {
    if (cursor.rest() == "EOF")
        return EndLine{};
    const auto kind = metadata_kind(cursor.word());
    if (!kind || !cursor.take(" "))
        return Problem("a comment that is no HELP, TYPE, UNIT or EOF");
    const auto name = take_metric_name(cursor);
    if (!name || !cursor.take(" "))
        return Problem("expected the name of a metric and a text behind HELP, TYPE or UNIT");
    MetadataLine line{.kind = *kind, .name = *name, .text = {}};
    if (*kind == MetadataLine::Kind::help) {
        auto help = unescape(cursor.rest(), Escapes::open_metrics);
        if (!help)
            return Problem(std::move(help.error()));
        line.text = std::move(*help);
    } else {
        line.text = cursor.rest();
    }
    return line;
}

}  // namespace

std::optional<double> parse_sample_value(std::string_view text) {
    if (text.starts_with('+')) {
        text.remove_prefix(1);
        if (text.starts_with('-') || text.starts_with('+'))
            return std::nullopt;
    }
    // std::from_chars() also takes nan(...) and, for numbers out of range, has no value.
    if (text.find('(') != std::string_view::npos)
        return std::nullopt;
    return parse_number<double>(text);
}

std::expected<ExpositionLine, std::string> parse_text_line(std::string_view line) {
    Cursor cursor(line);
    cursor.skip_blanks();
    if (cursor.at_end())
        return std::monostate{};
    if (cursor.take("#"))
        return text_comment(cursor);
    SampleLine sample;
    const auto name = take_metric_name(cursor);
    if (!name)
        return Problem("expected the name of a metric at " + in_quotes(line));
    sample.name = *name;
    const std::string_view before = cursor.rest();
    cursor.skip_blanks();
    if (cursor.take("{")) {
        auto labels = take_labels(cursor, Escapes::label);
        if (!labels)
            return Problem(std::move(labels.error()));
        sample.labels = std::move(*labels);
    } else if (before.size() == cursor.rest().size()) {
        return Problem("expected a value behind " + in_quotes(*name));
    }
    cursor.skip_blanks();
    const auto value = take_value(cursor);
    if (!value)
        return Problem(value.error());
    sample.value = *value;
    cursor.skip_blanks();
    if (!cursor.at_end()) {
        if (const std::string_view time = cursor.word(); !parse_number<std::int64_t>(time))
            return Problem(in_quotes(time) + " is no timestamp");
        cursor.skip_blanks();
    }
    if (!cursor.at_end())
        return Problem("text behind the timestamp: " + in_quotes(cursor.rest()));
    return sample;
}

std::expected<ExpositionLine, std::string> parse_open_metrics_line(std::string_view line) {
    Cursor cursor(line);
    if (cursor.take("# "))
        return open_metrics_comment(cursor);
    SampleLine sample;
    const auto name = take_metric_name(cursor);
    if (!name)
        return Problem("expected the name of a metric at " + in_quotes(line));
    sample.name = *name;
    if (cursor.take("{")) {
        auto labels = take_labels(cursor, Escapes::open_metrics);
        if (!labels)
            return Problem(std::move(labels.error()));
        sample.labels = std::move(*labels);
    }
    if (!cursor.take(" "))
        return Problem("expected a space and a value behind the metric");
    const auto value = take_value(cursor);
    if (!value)
        return Problem(value.error());
    sample.value = *value;
    if (cursor.take(" # ")) {
        if (const auto skipped = skip_exemplar(cursor); !skipped)
            return Problem(skipped.error());
        return sample;
    }
    if (cursor.take(" ")) {
        const auto time = take_value(cursor);
        if (!time || !std::isfinite(*time))
            return Problem("a timestamp is no number");
        if (cursor.take(" # "))
            if (const auto skipped = skip_exemplar(cursor); !skipped)
                return Problem(skipped.error());
    }
    if (!cursor.at_end())
        return Problem("text behind the value: " + in_quotes(cursor.rest()));
    return sample;
}

}  // namespace pangolin
