#include "exporter/application/exposition_parser.h"

#include <fmt/format.h>

#include <array>
#include <deque>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>

#include "exporter/application/exposition_lines.h"
#include "exporter/application/scraped_family.h"
#include "userspace/metadata/text.h"

namespace pangolin {
namespace {

using LineResult = std::expected<void, std::string>;
using Problem = std::unexpected<std::string>;

std::optional<ScrapedType> type_of_word(std::string_view word, ExpositionFormat format) {
    using enum ScrapedType;
    if (word == "counter")
        return counter;
    if (word == "gauge")
        return gauge;
    if (word == "histogram")
        return histogram;
    if (word == "summary")
        return summary;
    if (format == ExpositionFormat::text)
        return word == "untyped" ? std::optional(unknown) : std::nullopt;
    if (word == "unknown")
        return unknown;
    if (word == "info")
        return info;
    if (word == "stateset")
        return state_set;
    if (word == "gaugehistogram")
        return gauge_histogram;
    return std::nullopt;
}

// What the names of sample lines may have beyond the family's.
bool may_have(ScrapedType type, ExpositionFormat format, std::string_view suffix) {
    const bool open_metrics = format == ExpositionFormat::open_metrics;
    switch (type) {
        case ScrapedType::histogram:
            return suffix == "_bucket" || suffix == "_sum" || suffix == "_count" ||
                   (open_metrics && suffix == "_created");
        case ScrapedType::summary:
            return suffix.empty() || suffix == "_sum" || suffix == "_count" ||
                   (open_metrics && suffix == "_created");
        case ScrapedType::counter:
            return open_metrics ? suffix == "_total" || suffix == "_created" : suffix.empty();
        case ScrapedType::gauge_histogram:
            return suffix == "_bucket" || suffix == "_gsum" || suffix == "_gcount";
        case ScrapedType::info:
            return suffix == "_info";
        default:
            return suffix.empty();
    }
}

class PageParser {
  public:
    PageParser(ExpositionFormat format, const ExpositionLimits& limits) : format_(format), limits_(limits) {}

    Result<ParsedExposition> parse(std::string_view page);

  private:
    LineResult take(std::string_view line);
    LineResult metadata(MetadataLine line);
    LineResult sample(SampleLine line);
    // The family that a sample line belongs to, made where there is none.
    ScrapedFamily& family_of_sample(std::string_view name);
    ScrapedFamily* find(std::string_view name);
    ScrapedFamily& make(std::string_view name);
    ParsedExposition finish();

    ExpositionFormat format_;
    ExpositionLimits limits_;
    // In the page's order; their addresses stay.
    std::deque<ScrapedFamily> families_;
    std::unordered_map<std::string_view, ScrapedFamily*> by_name_;
    ApplicationOutcome outcome_;
    std::size_t samples_ = 0;
    bool ended_ = false;
};

Result<ParsedExposition> PageParser::parse(std::string_view page) {
    std::size_t number = 0;
    while (!page.empty()) {
        ++number;
        const std::size_t length = page.find('\n');
        const auto fail = [&](std::string_view what) {
            return failure(fmt::format("line {}: {}", number, what));
        };
        if (length == std::string_view::npos)
            return fail("the page ends within a line");
        if (length > limits_.line_bytes)
            return fail(fmt::format("has more than {} bytes", limits_.line_bytes));
        if (ended_)
            return fail("text behind # EOF");
        if (const auto taken = take(page.substr(0, length)); !taken)
            return fail(taken.error());
        page.remove_prefix(length + 1);
    }
    if (format_ == ExpositionFormat::open_metrics && !ended_)
        return failure("the page ends without # EOF");
    return finish();
}

LineResult PageParser::take(std::string_view line) {
    auto parsed = format_ == ExpositionFormat::text ? parse_text_line(line) : parse_open_metrics_line(line);
    if (!parsed)
        return Problem(std::move(parsed.error()));
    if (auto* const described = std::get_if<MetadataLine>(&*parsed))
        return metadata(std::move(*described));
    if (auto* const read = std::get_if<SampleLine>(&*parsed))
        return sample(std::move(*read));
    ended_ = std::holds_alternative<EndLine>(*parsed);
    return {};
}

LineResult PageParser::metadata(MetadataLine line) {
    ScrapedFamily* const known = find(line.name);
    // Go's client has the gauge go_memstats_alloc_bytes and a counter of the same name, whose _total is no
    // part of it in OpenMetrics: Prometheus takes the second for a family of its own.
    const bool again = format_ == ExpositionFormat::open_metrics && known && known->has_samples();
    ScrapedFamily& family = known && !again ? *known : make(line.name);
    bool first = true;
    const char* word = "HELP";
    switch (line.kind) {
        case MetadataLine::Kind::help:
            first = family.set_help(std::move(line.text));
            break;
        case MetadataLine::Kind::unit:
            word = "UNIT";
            first = family.set_unit(std::move(line.text));
            break;
        case MetadataLine::Kind::type: {
            word = "TYPE";
            const auto type = type_of_word(line.text, format_);
            if (!type)
                return Problem(in_quotes(line.text) + " is no type of a metric");
            if (family.has_samples())
                return Problem(fmt::format("TYPE of {} behind its samples", line.name));
            first = family.set_type(*type);
        }
    }
    if (!first)
        return Problem(fmt::format("a second {} of {}", word, line.name));
    return {};
}

LineResult PageParser::sample(SampleLine line) {
    if (++samples_ > limits_.samples)
        return Problem(fmt::format("more than {} samples", limits_.samples));
    ScrapedFamily& family = family_of_sample(line.name);
    const std::string_view suffix = line.name.substr(family.name().size());
    if (may_have(family.type(), format_, suffix))
        family.add(suffix, std::move(line.labels), line.value, outcome_);
    else
        outcome_.reject(Rejection::unsupported);
    return {};
}

ScrapedFamily& PageParser::family_of_sample(std::string_view name) {
    static constexpr auto suffixes = std::to_array<std::string_view>(
        {"_bucket", "_sum", "_count", "_total", "_created", "_info", "_gsum", "_gcount"});
    ScrapedFamily* const exact = find(name);
    if (exact && may_have(exact->type(), format_, ""))
        return *exact;
    for (const std::string_view suffix : suffixes) {
        if (!name.ends_with(suffix))
            continue;
        ScrapedFamily* const family = find(name.substr(0, name.size() - suffix.size()));
        if (family && may_have(family->type(), format_, suffix))
            return *family;
    }
    // A line that its own TYPE does not allow stays there, where it is counted.
    return exact ? *exact : make(name);
}

ScrapedFamily* PageParser::find(std::string_view name) {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : found->second;
}

ScrapedFamily& PageParser::make(std::string_view name) {
    ScrapedFamily& family = families_.emplace_back(std::string(name));
    by_name_.insert_or_assign(family.name(), &family);
    return family;
}

ParsedExposition PageParser::finish() {
    ParsedExposition parsed;
    for (ScrapedFamily& family : families_)
        if (auto finished = family.finish(outcome_))
            parsed.families.push_back(std::move(*finished));
    parsed.outcome = outcome_;
    std::set<std::string_view> names;
    for (const ApplicationFamily& family : parsed.families)
        names.insert(family.header.name);
    for (ApplicationFamily& family : parsed.families) {
        constexpr std::string_view total = "_total";
        ApplicationFamilyHeader& header = family.header;
        if (header.type == MetricType::counter && header.name.ends_with(total) &&
            names.contains(std::string_view(header.name).substr(0, header.name.size() - total.size())))
            header.type = MetricType::unknown;
    }
    return parsed;
}

}  // namespace

Result<ParsedExposition> parse_exposition(std::string_view page, ExpositionFormat format,
                                          const ExpositionLimits& limits) {
    return PageParser(format, limits).parse(page);
}

}  // namespace pangolin
