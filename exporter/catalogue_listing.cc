#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <string>

#include "exporter/catalogue.h"
#include "exporter/commands.h"

namespace pangolin {
namespace {

std::string joined(const LabelNames& labels, std::string_view quote) {
    std::string result;
    for (const std::string_view label : labels)
        result += fmt::format("{}{}{}{}", result.empty() ? "" : ", ", quote, label, quote);
    return result;
}

// What applications are asked to use: sums over several of them need the same.
std::string bounds(const Metric& metric) {
    if (metric.type != MetricType::histogram)
        return {};
    return fmt::format(R"(, "bounds": [{}])", fmt::join(histogram_bounds(metric), ", "));
}

void print_markdown(const Metric& metric) {
    fmt::print("| `{}` | {} | {} | {} | {} |\n", metric.name, to_string(metric.type),
               joined(metric.labels, "`"), metric.source, metric.help);
}

}  // namespace

int print_catalogue(CatalogFormat format) {
    if (format == CatalogFormat::markdown) {
        fmt::print("| metric | type | labels | source | meaning |\n|---|---|---|---|---|\n");
        for (const Metric& metric : catalogue())
            print_markdown(metric);
        return exit_success;
    }
    // Names and helps are ours, in plain ASCII without quotes or backslashes (tests/unit/catalogue_test.cc).
    std::string_view separator = "[\n";
    for (const Metric& metric : catalogue()) {
        fmt::print(
            R"({}  {{"name": "{}", "type": "{}", "unit": "{}", "labels": [{}], "source": "{}", "help": "{}"{}}})",
            separator, metric.name, to_string(metric.type), metric.unit, joined(metric.labels, "\""),
            metric.source, metric.help, bounds(metric));
        separator = ",\n";
    }
    fmt::print("\n]\n");
    return exit_success;
}

}  // namespace pangolin
