#include "exporter/application/exposition_parser.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace pangolin {
namespace {

using testing::HasSubstr;

std::string to_text(double value) {
    return fmt::format("{}", value);
}

std::string to_text(const HistogramValue& value) {
    return fmt::format("[{}] {} sum {}", fmt::join(value.bounds, " "), fmt::join(value.buckets, " "),
                       value.sum);
}

std::string to_text(const SummaryValue& value) {
    std::string text;
    for (const auto& [quantile, number] : value.quantiles)
        text += fmt::format("{}={} ", quantile, number);
    return text + fmt::format("sum {} count {}", value.sum, value.count);
}

// A line a family's header, a line a sample.
std::vector<std::string> lines(const ParsedExposition& parsed) {
    std::vector<std::string> result;
    for (const ApplicationFamily& family : parsed.families) {
        const auto& header = family.header;
        result.push_back(
            fmt::format("{} {} '{}' '{}'", to_string(header.type), header.name, header.unit, header.help));
        for (const ApplicationSample& sample : family.samples) {
            std::vector<std::string> labels;
            for (const Label& label : sample.labels)
                labels.push_back(label.name + "=" + label.value);
            result.push_back(
                fmt::format("{{{}}} {}", fmt::join(labels, ","),
                            std::visit([](const auto& value) { return to_text(value); }, sample.value)));
        }
    }
    if (parsed.outcome.rejected() > 0)
        result.push_back(fmt::format("{} rejected", parsed.outcome.rejected()));
    return result;
}

struct PageRow {
    const char* name;
    ExpositionFormat format;
    const char* page;
    std::vector<std::string> expected;
};

constexpr auto text = ExpositionFormat::text;
constexpr auto open_metrics = ExpositionFormat::open_metrics;

const PageRow pages[] = {
    {"nothing", text, "", {}},
    {"counter",
     text,
     "# HELP http_requests_total Requests, \\\\ and \\n.\n# TYPE http_requests_total counter\n"
     "http_requests_total{method=\"post\",code=\"200\"} 1027 1395066363000\n",
     {"counter http_requests_total '' 'Requests, \\ and \n.'", "{method=post,code=200} 1027"}},
    {"escapes and blanks",
     text,
     "  msdos_file_access_time_seconds { path = \"C:\\\\DIR\\\\FILE.TXT\" , error=\"Cannot "
     "find:\\n\\\"FILE.TXT\\\"\",}\t1.458255915e9\n\n",
     {"unknown msdos_file_access_time_seconds '' ''",
      "{path=C:\\DIR\\FILE.TXT,error=Cannot find:\n\"FILE.TXT\"} 1458255915"}},
    {"numbers",
     text,
     "a +Inf\nb -Inf\nc NaN\nd +1e3\ne -.5\nf 0\ng infinity\n",
     {"unknown a '' ''", "{} inf", "unknown b '' ''", "{} -inf", "unknown c '' ''", "{} nan",
      "unknown d '' ''", "{} 1000", "unknown e '' ''", "{} -0.5", "unknown f '' ''", "{} 0",
      "unknown g '' ''", "{} inf"}},
    {"a counter without _total is unknown",
     text,
     "# TYPE requests counter\nrequests 1\n",
     {"unknown requests '' ''", "{} 1"}},
    {"histogram in any order, +Inf told by _count as well",
     text,
     "# TYPE h histogram\nh_count{a=\"1\"} 5\nh_bucket{le=\"1\",a=\"1\"} 4\nh_bucket{a=\"1\",le=\"0.5\"} 1\n"
     "h_sum{a=\"1\"} 2.5\nh_bucket{a=\"1\",le=\"+Inf\"} 5\nh_bucket{le=\"+Inf\"} 0\nh_sum 0\nh_count 0\n",
     {"histogram h '' ''", "{} [] 0 sum 0", "{a=1} [0.5 1] 1 3 1 sum 2.5"}},
    {"histograms that make no sense",
     text,
     "# TYPE h histogram\n"
     "h_bucket{a=\"shrinks\",le=\"1\"} 4\nh_bucket{a=\"shrinks\",le=\"2\"} 3\nh_sum{a=\"shrinks\"} "
     "1\nh_count{a=\"shrinks\"} 4\n"
     "h_bucket{a=\"twice\",le=\"1\"} 4\nh_bucket{a=\"twice\",le=\"1.0\"} 4\nh_sum{a=\"twice\"} "
     "1\nh_count{a=\"twice\"} 4\n"
     "h_bucket{a=\"no sum\",le=\"+Inf\"} 4\nh_count{a=\"no sum\"} 4\n"
     "h_bucket{a=\"no le\"} 4\nh_sum{a=\"no le\"} 1\nh_count{a=\"no le\"} 4\n"
     "h_bucket{a=\"unequal\",le=\"+Inf\"} 4\nh_sum{a=\"unequal\"} 1\nh_count{a=\"unequal\"} 5\n"
     "h_bucket{a=\"fraction\",le=\"+Inf\"} 4.5\nh_sum{a=\"fraction\"} 1\nh_count{a=\"fraction\"} 4.5\n"
     "h_bucket{a=\"NaN\",le=\"NaN\"} 4\nh_sum{a=\"NaN\"} 1\nh_count{a=\"NaN\"} 4\n"
     "h 7\n",
     {"8 rejected"}},
    {"summary",
     text,
     "# TYPE s summary\ns{quantile=\"0.9\"} 2\ns{quantile=\"0.5\"} NaN\ns_sum 17\ns_count 3\n",
     {"summary s '' ''", "{} 0.5=nan 0.9=2 sum 17 count 3"}},
    {"a family whose name is another's with a suffix",
     text,
     "# TYPE s_count gauge\n# TYPE s summary\ns_sum 1\ns_count 3\n",
     {"gauge s_count '' ''", "{} 3", "1 rejected"}},
    {"a gauge, and a counter of its name, as Go programs have them",
     text,
     "# TYPE a gauge\na 1\n# TYPE a_total counter\na_total 2\n# TYPE b_total counter\nb_total 3\n",
     {"gauge a '' ''", "{} 1", "unknown a_total '' ''", "{} 2", "counter b_total '' ''", "{} 3"}},
    {"the same in OpenMetrics",
     open_metrics,
     "# HELP a A.\n# TYPE a gauge\na 1\n# HELP a B.\n# TYPE a counter\na_total 2\n# EOF\n",
     {"gauge a '' 'A.'", "{} 1", "unknown a_total '' 'B.'", "{} 2"}},
    {"comments",
     text,
     "# just a comment\n#TYPE_is_not a word\n# HELP\n# EOF\n# HELP x\nx 1\n",
     {"unknown x '' ''", "{} 1"}},
    {"UTF-8", text, "# HELP x Größe\nx{a=\"日本\"} 1\n", {"unknown x '' 'Größe'", "{a=日本} 1"}},
    {"OpenMetrics counter with exemplar, timestamp and _created",
     open_metrics,
     "# TYPE foo counter\n# UNIT foo seconds\n# HELP foo Text with \\\"quotes\\\" and \\d.\n"
     "foo_total{a=\"b\"} 17.0 1520879607.789 # {trace_id=\"KOO5S4vxi0o\"} 0.67 1520879607\n"
     "foo_created{a=\"b\"} 1520430000.123\nfoo_total 1 # {} 1\n# EOF\n",
     {"counter foo_total 'seconds' 'Text with \"quotes\" and \\d.'", "{a=b} 17", "{} 1"}},
    {"OpenMetrics types",
     open_metrics,
     "# TYPE i info\ni_info{v=\"1\"} 1\n# TYPE s stateset\ns{s=\"on\"} 1\ns{s=\"off\"} 0\n"
     "# TYPE u unknown\nu 3\n# TYPE g gaugehistogram\ng_bucket{le=\"+Inf\"} 3\ng_gcount 3\ng_gsum 2\n"
     "# TYPE h histogram\nh_bucket{le=\"1.0\"} 1 # {a=\"b\"} 0.3\nh_bucket{le=\"+Inf\"} 2\nh_count 2\nh_sum "
     "5\nh_created 1\n# EOF\n",
     {"info i_info '' ''", "{v=1} 1", "gauge s '' ''", "{s=on} 1", "{s=off} 0", "unknown u '' ''", "{} 3",
      "histogram h '' ''", "{} [1] 1 1 sum 5", "3 rejected"}},
    {"OpenMetrics samples that their type does not have",
     open_metrics,
     "# TYPE c counter\nc 1\n# TYPE g gauge\ng_total 1\n# EOF\n",
     {"unknown g_total '' ''", "{} 1", "1 rejected"}},
};

TEST(ExpositionParser, ReadsPages) {
    for (const PageRow& row : pages) {
        SCOPED_TRACE(row.name);
        const auto parsed = parse_exposition(row.page, row.format);
        ASSERT_TRUE(parsed) << parsed.error().what;
        EXPECT_EQ(lines(*parsed), row.expected);
    }
}

struct MalformedRow {
    const char* page;
    const char* what;
};

const MalformedRow malformed_text[] = {
    {"a 1", "line 1: the page ends within a line"},
    {"a\n", "line 1: expected a value"},
    {"a \n", "a value is missing"},
    {"a x\n", "'x' is no number"},
    {"a 1_000\n", "is no number"},
    {"a 1\r\n", "is no number"},
    {"a nan(1)\n", "is no number"},
    {"a +-1\n", "is no number"},
    {"a 1 1.5\n", "is no timestamp"},
    {"a 1 1 1\n", "text behind the timestamp"},
    {"1a 1\n", "expected the name of a metric"},
    {"a-b 1\n", "expected a value"},
    {"\xC3\xBC 1\n", "expected the name of a metric"},
    {"a{b=\"c\" d=\"e\"} 1\n", "expected ',' or '}'"},
    {"a{b=\"c\",,} 1\n", "expected the name of a label"},
    {"a{,} 1\n", "expected the name of a label"},
    {"a{1b=\"c\"} 1\n", "expected the name of a label"},
    {"a{b:c=\"c\"} 1\n", "expected '='"},
    {"a{b=c} 1\n", "is not in quotes"},
    {"a{b=\"c} 1\n", "does not end"},
    {"a{b=\"c\\t\"} 1\n", "an unknown escape sequence"},
    {"a{b=\"\xFF\"} 1\n", "is not UTF-8"},
    {"# HELP a b\\t\na 1\n", "an unknown escape sequence"},
    {"# TYPE a thing\n", "line 1: 'thing' is no type"},
    {"# TYPE a info\n", "'info' is no type"},
    {"# TYPE a gauge\n# TYPE a gauge\n", "line 2: a second TYPE of a"},
    {"# HELP a x\n# HELP a x\n", "line 2: a second HELP of a"},
    {"a 1\n# TYPE a gauge\n", "line 2: TYPE of a behind its samples"},
    {"# TYPE 1a gauge\n", "expected the name of a metric"},
};

const MalformedRow malformed_open_metrics[] = {
    {"a 1\n", "without # EOF"},
    {"# EOF", "ends within a line"},
    {"# EOF\n\n", "text behind # EOF"},
    {"\n# EOF\n", "expected the name of a metric"},
    {"a  1\n# EOF\n", "a value is missing"},
    {"a 1 \n# EOF\n", "a timestamp is no number"},
    {"a{b=\"c\",} 1\n# EOF\n", "expected the name of a label"},
    {"a{b = \"c\"} 1\n# EOF\n", "expected '='"},
    {"#comment\n# EOF\n", "expected the name of a metric"},
    {"# comment\n# EOF\n", "a comment that is no HELP"},
    {"# TYPE a untyped\n# EOF\n", "is no type"},
    {"a 1 NaN\n# EOF\n", "a timestamp is no number"},
    {"a 1 # {b=\"c\"}\n# EOF\n", "an exemplar without a value"},
    {"a 1 # 1\n# EOF\n", "an exemplar without labels"},
    {"a 1 # {b=\"c\"} x\n# EOF\n", "is no number"},
    {"a 1 # {b=\"c\"} 1 1 1\n# EOF\n", "text behind an exemplar"},
};

TEST(ExpositionParser, RefusesMalformedPages) {
    const auto check = [](const MalformedRow& row, ExpositionFormat format) {
        SCOPED_TRACE(row.page);
        const auto parsed = parse_exposition(row.page, format);
        ASSERT_FALSE(parsed);
        EXPECT_THAT(parsed.error().what, HasSubstr(row.what));
    };
    for (const MalformedRow& row : malformed_text)
        check(row, text);
    for (const MalformedRow& row : malformed_open_metrics)
        check(row, open_metrics);
}

TEST(ExpositionParser, HasLimits) {
    const ExpositionLimits limits{.line_bytes = 20, .samples = 3};
    EXPECT_TRUE(parse_exposition("a 1\nb 1\nc 1\n", text, limits));
    EXPECT_THAT(parse_exposition("a 1\nb 1\nc 1\nd 1\n", text, limits).error().what,
                HasSubstr("line 4: more than 3"));
    EXPECT_THAT(parse_exposition("a{b=\"0123456789012\"} 1\n", text, limits).error().what,
                HasSubstr("more than 20"));
}

// Prometheus' own parser, by promtool: 0 well-formed, 1 malformed, 3 well-formed with complaints about names.
bool promtool_accepts(const std::string& page) {
    std::FILE* const pipe = ::popen("promtool check metrics >/dev/null 2>&1", "w");
    std::fwrite(page.data(), 1, page.size(), pipe);
    const int status = ::pclose(pipe);
    return WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 3);
}

TEST(ExpositionParser, AgreesWithPrometheus) {
    if (std::system("command -v promtool >/dev/null") != 0)
        GTEST_SKIP() << "promtool is not installed";
    for (const PageRow& row : pages)
        EXPECT_TRUE(row.format != text || promtool_accepts(row.page)) << row.page;
    for (const MalformedRow& row : malformed_text)
        EXPECT_FALSE(promtool_accepts(row.page)) << row.page;
}

}  // namespace
}  // namespace pangolin
