// One line of Prometheus' text format 0.0.4 or of OpenMetrics 1.0, taken apart.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "exporter/application/application_series.h"

namespace pangolin {

// "# HELP", "# TYPE" and "# UNIT".
struct MetadataLine {
    enum class Kind : std::uint8_t { help, type, unit };
    Kind kind = Kind::help;
    std::string_view name;
    // Of a help without its escapes.
    std::string text;
};

// Timestamps and exemplars are checked and left out.
struct SampleLine {
    std::string_view name;
    Labels labels;
    double value = 0;
};

struct EndLine {};

// Nothing: an empty line or a comment.
using ExpositionLine = std::variant<std::monostate, MetadataLine, SampleLine, EndLine>;

// `line` is without its line feed; the views in the result point into it. The error says what is wrong with
// the line.
std::expected<ExpositionLine, std::string> parse_text_line(std::string_view line);
// As the grammar has it (OpenMetrics 1.0, "ABNF"), where each space counts.
std::expected<ExpositionLine, std::string> parse_open_metrics_line(std::string_view line);

// What Go's strconv.ParseFloat() takes, but for hexadecimal numbers and underscores.
std::optional<double> parse_sample_value(std::string_view text);

}  // namespace pangolin
