#include "exporter/application/scraper.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/gzip.h"
#include "tests/support/small_http_server.h"

namespace pangolin {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr auto patience = 20s;

std::string page(const std::string& body,
                 const std::string& headers = "Content-Type: text/plain; version=0.0.4\r\n") {
    return fmt::format("HTTP/1.1 200 OK\r\n{}Content-Length: {}\r\n\r\n{}", headers, body.size(), body);
}

// The value of a sample whose labels are `labels`, in any order; none: it is not published.
std::optional<double> value_of(ApplicationMetrics& registry, std::string_view family, Labels labels) {
    std::ranges::sort(labels);
    const auto snapshot = registry.collect();
    const PublishedFamily* const found = snapshot->find(family);
    if (!found)
        return std::nullopt;
    for (const PublishedSeries& series : found->series) {
        Labels sorted = *series.labels;
        std::ranges::sort(sorted);
        if (sorted == labels)
            return std::get<double>(series.value);
    }
    return std::nullopt;
}

std::optional<double> up(ApplicationMetrics& registry, const std::string& name) {
    return value_of(registry, "pangolin_exporter_source_up", {{"source", "scrape:" + name}});
}

template <class Condition>
bool eventually(Condition condition) {
    const auto end = std::chrono::steady_clock::now() + patience;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > end)
            return false;
        std::this_thread::sleep_for(5ms);
    }
    return true;
}

ScrapeTarget target(const std::string& name, const std::string& url) {
    ScrapeTarget target;
    target.name = name;
    target.url = url;
    target.interval = 20ms;
    return target;
}

TEST(Scraper, PublishesBothFormats) {
    const SmallHttpServer text([](const std::string& path) {
        return page(path == "/metrics" ? "# TYPE a_total counter\na_total{x=\"1\"} 5\n" : "");
    });
    const SmallHttpServer open_metrics([](const std::string& path) {
        return page(path == "/other/page" ? "# TYPE b counter\nb_total 7 # {t=\"x\"} 1\n# EOF\n" : "",
                    "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n");
    });
    ApplicationMetrics registry;
    const Scraper scraper({target("text", text.url()), target("open", open_metrics.url() + "/other/page")},
                          registry);
    EXPECT_TRUE(eventually([&] { return value_of(registry, "a_total", {{"x", "1"}}) == 5; }));
    EXPECT_TRUE(eventually([&] { return value_of(registry, "b_total", {}) == 7; }));
    EXPECT_EQ(up(registry, "text"), 1);
    EXPECT_EQ(up(registry, "open"), 1);
}

TEST(Scraper, UnpacksGzip) {
    const std::string packed = gzip("a 5\n");
    const SmallHttpServer server([&](const std::string&) {
        return page(packed, "Content-Type: text/plain\r\nContent-Encoding: gzip\r\n");
    });
    ApplicationMetrics registry;
    const Scraper scraper({target("packed", server.url())}, registry);
    EXPECT_TRUE(eventually([&] { return value_of(registry, "a", {}) == 5; }));
}

TEST(Scraper, KeepsWhatTheLastReadingHasOnly) {
    std::atomic<int> reading = 0;
    const SmallHttpServer server(
        [&](const std::string&) { return page(++reading < 3 ? "a 1\nb 1\n" : "b 2\n"); });
    ApplicationMetrics registry;
    const Scraper scraper({target("x", server.url())}, registry);
    EXPECT_TRUE(eventually([&] { return value_of(registry, "b", {}) == 2; }));
    EXPECT_EQ(value_of(registry, "a", {}), std::nullopt);
}

TEST(Scraper, LabelsTellTwoProgramsApart) {
    const SmallHttpServer first(
        [](const std::string&) { return page("go_goroutines 3\nx{program=\"y\"} 1\n"); });
    const SmallHttpServer second([](const std::string&) { return page("go_goroutines 4\n"); });
    ApplicationMetrics registry;
    std::vector<ScrapeTarget> targets{target("first", first.url()), target("second", second.url())};
    targets[0].labels = {{"program", "first"}};
    targets[1].labels = {{"program", "second"}};
    const Scraper scraper(targets, registry);
    EXPECT_TRUE(eventually([&] { return value_of(registry, "go_goroutines", {{"program", "first"}}) == 3; }));
    EXPECT_TRUE(
        eventually([&] { return value_of(registry, "go_goroutines", {{"program", "second"}}) == 4; }));
    EXPECT_EQ(value_of(registry, "x", {{"program", "first"}}), 1);
}

TEST(Scraper, AgesOutWhatCannotBeReadAnyMore) {
    std::atomic<bool> broken = false;
    const SmallHttpServer server([&](const std::string&) { return page(broken ? "a{\n" : "a 1\n"); });
    ApplicationMetrics registry;
    const Scraper scraper({target("x", server.url())}, registry, {.max_age = 300ms});
    ASSERT_TRUE(eventually([&] { return value_of(registry, "a", {}) == 1; }));
    broken = true;
    EXPECT_TRUE(eventually([&] { return up(registry, "x") == 0; }));
    EXPECT_TRUE(eventually([&] { return !value_of(registry, "a", {}); }));
    broken = false;
    EXPECT_TRUE(eventually([&] { return up(registry, "x") == 1 && value_of(registry, "a", {}) == 1; }));
}

struct BadAnswerRow {
    const char* name;
    std::string answer;
    const char* log;
};

TEST(Scraper, IsDownForBadAnswers) {
    const std::string bomb = gzip(std::string(std::size_t{1} << 20, '\n'));
    const BadAnswerRow rows[] = {
        {"nothing", "", "no answer within"},
        {"no HTTP", "hello\r\n\r\n", "cannot read"},
        {"another page", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answers 404"},
        {"HTML", page("<html>\n"), "line 1: expected the name of a metric"},
        {"cut off", page("a 1\nb 2"), "the page ends within a line"},
        {"closed too early", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na 1\n", "cannot read"},
        {"too long", page(std::string(70000, '\n')), "cannot read"},
        {"gzip bomb", page(bomb, "Content-Encoding: gzip\r\n"), ""},
        {"broken gzip", page("a 1\n", "Content-Encoding: gzip\r\n"), ""},
        {"brotli", page("a 1\n", "Content-Encoding: br\r\n"), "'br' was not asked for"},
    };
    for (const BadAnswerRow& row : rows) {
        SCOPED_TRACE(row.name);
        const SmallHttpServer server([&](const std::string&) { return row.answer; });
        ApplicationMetrics registry;
        testing::internal::CaptureStdout();
        {
            const Scraper scraper({target("x", server.url())}, registry,
                                  {.time_limit = 300ms, .page_bytes = 65536});
            EXPECT_TRUE(eventually([&] { return up(registry, "x") == 0; }));
        }
        EXPECT_THAT(testing::internal::GetCapturedStdout(), HasSubstr(row.log));
    }
}

TEST(Scraper, IsDownWithoutTheNamespace) {
    ApplicationMetrics registry;
    ScrapeTarget elsewhere = target("x", "http://127.0.0.1:3004");
    elsewhere.netns = "pangolin_exporter-not-there";
    const Scraper scraper({elsewhere}, registry);
    EXPECT_TRUE(eventually([&] { return up(registry, "x") == 0; }));
}

}  // namespace
}  // namespace pangolin
