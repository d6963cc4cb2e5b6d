#include "exporter/application/application_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "exporter/exposition.h"

namespace pangolin {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;

// In the catalogue: measured by the exporter, and by applications alone.
constexpr const char* owned = "pangolin_site_connection_drops_total";
constexpr const char* open = "pangolin_background_queue_depth";
// Measured by the exporter too, so that it has to be given away.
constexpr const char* open_counter = "pangolin_token_issued_total";

ApplicationFamily family(std::string name, MetricType type, std::vector<ApplicationSample> samples) {
    return {.header = {.name = std::move(name), .type = type, .unit = "", .help = "Help."},
            .samples = std::move(samples)};
}

ApplicationFamily gauge(std::string name, Labels labels, double value) {
    return family(std::move(name), MetricType::gauge, {{std::move(labels), value}});
}

std::string text(ApplicationMetrics& registry, ExpositionFormat format = ExpositionFormat::text,
                 std::shared_ptr<const Snapshot> snapshot = std::make_shared<Snapshot>(),
                 ApplicationMetrics::Clock::time_point now = ApplicationMetrics::Clock::now()) {
    Exposition body(std::move(snapshot), nullptr, format, registry.collect(now));
    std::string all;
    for (auto block = body.next_block(); !block.empty(); block = body.next_block())
        all += block;
    return all;
}

ApplicationOptions with_prefer(std::string name) {
    ApplicationOptions options;
    options.prefer = {std::move(name)};
    return options;
}

// Of a host that has a WireGuard interface and lets programs be attached to it.
Snapshot with_tunnels() {
    Snapshot snapshot;
    snapshot.sources = {{.name = "wireguard", .up = true, .error = ""},
                        {.name = "kernel", .up = true, .error = ""}};
    return snapshot;
}

ApplicationOptions with_limits(ApplicationLimits limits) {
    ApplicationOptions options = with_prefer(open_counter);
    options.limits = limits;
    return options;
}

// The only rejection of one family in a registry of its own.
std::string rejection_of(ApplicationFamily one, ApplicationOptions options = {},
                         const Snapshot& host = with_tunnels()) {
    ApplicationMetrics registry(std::move(options));
    registry.observe(host);
    const ApplicationOutcome outcome = registry.replace("scrape:a", {std::move(one)});
    for (std::size_t i = 0; i < rejections; ++i)
        if (outcome.by_reason.at(i) > 0) {
            const auto reason = std::string(to_string(static_cast<Rejection>(i)));
            EXPECT_THAT(text(registry),
                        HasSubstr("pangolin_exporter_application_samples_rejected_total{reason=\"" + reason +
                                  "\"} " + std::to_string(outcome.rejected()) + "\n"));
            return reason;
        }
    EXPECT_GT(outcome.accepted, 0U);
    return "";
}

TEST(ApplicationMetrics, WhoOwnsWhat) {
    struct Case {
        const char* description;
        ApplicationFamily sent;
        const char* expected;
        ApplicationOptions options = {};
        Snapshot host = with_tunnels();
    };
    const HistogramValue histogram{.bounds = {1, 2}, .buckets = {1, 2, 3}, .sum = 9};
    const Case cases[] = {
        {"measured by the exporter", family(owned, MetricType::counter, {{{{"site_id", "s"}}, 1.0}}),
         "owned_by_exporter"},
        {"given away", family(owned, MetricType::counter, {{{{"site_id", "s"}}, 1.0}}), "",
         with_prefer(owned)},
        {"no source of it on this host",
         family(owned, MetricType::counter, {{{{"site_id", "s"}}, 1.0}}),
         "",
         {},
         {}},
        {"the exporter's own", gauge("process_open_fds", {}, 1), "owned_by_exporter"},
        {"looks like the exporter's own", gauge("pangolin_exporter_x", {}, 1), "owned_by_exporter"},
        {"open", gauge(open, {{"job_type", "a"}}, 3), ""},
        {"open, label left out", gauge(open, {}, 3), ""},
        {"open, wrong type", family(open, MetricType::counter, {{{{"job_type", "a"}}, 3.0}}),
         "type_mismatch"},
        {"open, one label more", gauge(open, {{"job_type", "a"}, {"pod", "b"}}, 3), "label_mismatch"},
        {"own name", gauge("x_y", {{"any", "label"}}, -3), ""},
        {"value of another kind", family("x", MetricType::histogram, {{{}, 1.0}}), "type_mismatch"},
        {"histogram under a counter", family("x_total", MetricType::counter, {{{}, histogram}}),
         "type_mismatch"},
        {"histogram", family("x", MetricType::histogram, {{{}, histogram}}), ""},
        {"bad name", gauge("x-y", {}, 1), "invalid_name"},
        {"empty name", gauge("", {}, 1), "invalid_name"},
        {"info without suffix", family("x", MetricType::info, {{{}, 1.0}}), "invalid_name"},
        {"bad label", gauge("x", {{"a-b", "c"}}, 1), "invalid_label"},
        {"reserved label", gauge("x", {{"__name__", "c"}}, 1), "invalid_label"},
        {"label twice", gauge("x", {{"a", "b"}, {"a", "c"}}, 1), "invalid_label"},
        {"long value", gauge("x", {{"a", std::string(2000, 'x')}}, 1), "invalid_label"},
        {"le on a histogram", family("x", MetricType::histogram, {{{{"le", "1"}}, histogram}}),
         "invalid_label"},
        {"negative counter", family("x_total", MetricType::counter, {{{}, -1.0}}), "invalid_value"},
        {"no number", family("x_total", MetricType::counter, {{{}, std::nan("")}}), "invalid_value"},
        {"gauge may be no number", gauge("x", {}, std::nan("")), ""},
        {"bounds go down", family("x", MetricType::histogram, {{{}, HistogramValue{{2, 1}, {0, 0, 0}, 0}}}),
         "invalid_value"},
        {"too few buckets", family("x", MetricType::histogram, {{{}, HistogramValue{{1, 2}, {0, 0}, 0}}}),
         "invalid_value"},
        {"sample line of another family", gauge("pangolin_tunnel_latency_seconds_count", {}, 1),
         "name_collision"},
        // In OpenMetrics the counter's family has that name.
        {"TYPE line of another family", gauge("pangolin_token_issued", {}, 1), "name_collision"},
        {"series twice",
         family("x", MetricType::gauge, {{{{"a", "1"}, {"b", ""}}, 1.0}, {{{"a", "1"}}, 2.0}}),
         "duplicate_series"},
        {"no room", gauge("x", {}, 1), "series_limit", with_limits({.series = 0})},
        {"no room for families", gauge("x", {}, 1), "series_limit", with_limits({.families = 0})},
    };
    for (const Case& test : cases)
        EXPECT_EQ(rejection_of(test.sent, test.options, test.host), test.expected) << test.description;
}

TEST(ApplicationMetrics, OneTypeAndHelpForAFamilyOfTwoSources) {
    ApplicationMetrics registry;
    registry.replace("scrape:a", {gauge("x", {{"job", "a"}}, 1)});
    registry.replace("scrape:b", {gauge("x", {{"job", "b"}}, 2), gauge("x", {{"job", "a"}}, 3)});
    registry.replace("scrape:c", {family("x", MetricType::counter, {{{{"job", "c"}}, 1.0}})});
    const std::string all = text(registry);
    EXPECT_EQ(all.find("# TYPE x gauge\n"), all.rfind("# TYPE x "));
    EXPECT_THAT(all, HasSubstr("x{job=\"a\"} 1\n"));
    EXPECT_THAT(all, HasSubstr("x{job=\"b\"} 2\n"));
    EXPECT_THAT(all, HasSubstr("rejected_total{reason=\"duplicate_series\"} 1\n"));
    EXPECT_THAT(all, HasSubstr("rejected_total{reason=\"type_mismatch\"} 1\n"));
}

TEST(ApplicationMetrics, AReadingReplacesTheOneBefore) {
    ApplicationMetrics registry;
    registry.replace("scrape:a", {gauge("x", {{"l", "1"}}, 1), gauge("y", {}, 1)});
    registry.replace("scrape:b", {gauge("x", {{"l", "2"}}, 1)});
    registry.replace("scrape:a", {gauge("x", {{"l", "3"}}, 1)});
    EXPECT_THAT(text(registry), HasSubstr("x{l=\"3\"} 1\n"));
    EXPECT_THAT(text(registry), Not(HasSubstr("x{l=\"1\"}")));
    registry.replace("scrape:a", {});
    EXPECT_THAT(text(registry), HasSubstr("x{l=\"2\"} 1\n"));
    EXPECT_THAT(text(registry), Not(HasSubstr("x{l=\"3\"}")));
    // Its name is free again, for another type.
    EXPECT_EQ(registry.replace("scrape:a", {family("y", MetricType::unknown, {{{}, 1.0}})}).accepted, 1U);
    registry.replace("scrape:a", {});
    registry.replace("scrape:b", {});
    EXPECT_THAT(text(registry), HasSubstr("pangolin_exporter_application_series 0\n"));
}

TEST(ApplicationMetrics, CatalogueFamilyIsWrittenInItsPlaceWithBothSeries) {
    ApplicationOptions options;
    options.prefer = {owned};
    ApplicationMetrics registry(options);
    registry.replace("scrape:a", {gauge(open, {{"job_type", "mail"}}, 7),
                                  family(owned, MetricType::counter, {{{{"site_id", "app"}}, 5.0}})});
    auto directory = std::make_shared<SiteDirectory>();
    directory->sites.emplace_back().site_id = "home";
    auto snapshot = std::make_shared<Snapshot>();
    snapshot->directory = directory;
    snapshot->sites.emplace_back().site = directory->sites.data();
    snapshot->sites[0].had_peer = true;
    const std::string all = text(registry, ExpositionFormat::text, snapshot);
    EXPECT_THAT(all, HasSubstr("# TYPE pangolin_background_queue_depth gauge\n"
                               "pangolin_background_queue_depth{job_type=\"mail\"} 7\n"));
    // Preferred: only the application's.
    EXPECT_THAT(all, HasSubstr("pangolin_site_connection_drops_total{site_id=\"app\"} 5\n"));
    EXPECT_THAT(all, Not(HasSubstr("pangolin_site_connection_drops_total{site_id=\"home\"}")));
    EXPECT_THAT(all, HasSubstr("pangolin_wg_handshake_total{site_id=\"home\""));
    ApplicationMetrics nothing_preferred;
    EXPECT_THAT(text(nothing_preferred, ExpositionFormat::text, snapshot),
                HasSubstr("pangolin_site_connection_drops_total{site_id=\"home\"} 0\n"));
}

TEST(ApplicationMetrics, HistogramsAndSummariesOfBothFormats) {
    ApplicationMetrics registry;
    registry.replace(
        "scrape:a",
        {family("h", MetricType::histogram, {{{{"a", "b"}}, HistogramValue{{0.5, 2}, {1, 2, 3}, 11.5}}}),
         family("s", MetricType::summary, {{{}, SummaryValue{{{0.5, 2}, {0.9, 4}}, 7, 3}}})});
    EXPECT_THAT(text(registry), HasSubstr("# TYPE h histogram\nh_bucket{a=\"b\",le=\"0.5\"} 1\n"
                                          "h_bucket{a=\"b\",le=\"2\"} 3\nh_bucket{a=\"b\",le=\"+Inf\"} 6\n"
                                          "h_sum{a=\"b\"} 11.5\nh_count{a=\"b\"} 6\n"));
    EXPECT_THAT(
        text(registry, ExpositionFormat::open_metrics),
        HasSubstr("# TYPE s summary\ns{quantile=\"0.5\"} 2\ns{quantile=\"0.9\"} 4\ns_sum 7\ns_count 3\n"));
}

TEST(ApplicationMetrics, BlocksOfTheAnswerAreBoundedAndWhole) {
    ApplicationMetrics registry;
    ApplicationFamily many = family("x", MetricType::gauge, {});
    for (int i = 0; i < 20000; ++i)
        many.samples.push_back({{{"i", std::to_string(i)}}, static_cast<double>(i)});
    ApplicationFamily queue = family(open, MetricType::gauge, {});
    for (int i = 0; i < 5000; ++i)
        queue.samples.push_back({{{"job_type", std::to_string(i)}}, 1.0});
    registry.replace("scrape:a", {many, queue});
    Exposition body(std::make_shared<Snapshot>(), nullptr, ExpositionFormat::text, registry.collect());
    std::string all;
    for (auto block = body.next_block(); !block.empty(); block = body.next_block()) {
        EXPECT_LT(block.size(), Exposition::block_size + 8192);
        all += block;
    }
    std::map<std::string, int> lines;
    std::size_t start = 0;
    for (std::size_t end = all.find('\n'); end != std::string::npos; end = all.find('\n', start)) {
        ++lines[all.substr(start, end - start)];
        start = end + 1;
    }
    for (const auto& [line, times] : lines)
        EXPECT_EQ(times, 1) << line;
    EXPECT_EQ(std::ranges::count_if(lines, [](const auto& line) { return line.first.starts_with("x{"); }),
              20000);
    EXPECT_EQ(std::ranges::count_if(
                  lines, [](const auto& line) { return line.first.starts_with(std::string(open) + "{"); }),
              5000);
}

PushedPoint count_of(Labels labels, double value) {
    return {.labels = std::move(labels),
            .value = value,
            .stream = 1,
            .temporality = Temporality::cumulative,
            .monotonic = true,
            .start_time = 1,
            .time = static_cast<std::uint64_t>(value) + 1};
}

TEST(ApplicationMetrics, PushedSeriesAgeOutAndCountersGoOn) {
    ApplicationMetrics registry(with_prefer(open_counter));
    const ApplicationFamilyHeader counter{
        .name = open_counter, .type = MetricType::counter, .unit = "", .help = ""};
    const ApplicationFamilyHeader level{.name = "level", .type = MetricType::gauge, .unit = "", .help = ""};
    auto now = ApplicationMetrics::Clock::now();
    const auto series = [&] {
        return text(registry, ExpositionFormat::text, std::make_shared<Snapshot>(), now);
    };
    PushedPoint delta = count_of({{"auth_method", "oidc"}}, 7);
    delta.temporality = Temporality::delta;
    EXPECT_EQ(registry.push(counter, delta, now), std::nullopt);
    EXPECT_EQ(registry.push(level, {.labels = {}, .value = 3.0}, now), std::nullopt);
    now += 5min;
    EXPECT_THAT(series(), HasSubstr("pangolin_token_issued_total{auth_method=\"oidc\"} 7\n"));
    EXPECT_THAT(series(), HasSubstr("level 3\n"));
    now += 1ms;
    EXPECT_THAT(series(), Not(HasSubstr("pangolin_token_issued_total{")));
    EXPECT_THAT(series(), Not(HasSubstr("level")));
    // The counter is remembered; the gauge is not.
    EXPECT_THAT(series(), HasSubstr("pangolin_exporter_application_series 1\n"));
    delta.time += 10;
    delta.start_time = delta.time - 1;
    EXPECT_EQ(registry.push(counter, delta, now), std::nullopt);
    EXPECT_THAT(series(), HasSubstr("pangolin_token_issued_total{auth_method=\"oidc\"} 14\n"));
    now += 25h;
    EXPECT_THAT(series(), HasSubstr("pangolin_exporter_application_series 0\n"));
}

TEST(ApplicationMetrics, SeriesAreLimited) {
    ApplicationMetrics registry(with_limits({.series = 10, .series_per_family = 6}));
    const ApplicationFamilyHeader counter{
        .name = open_counter, .type = MetricType::counter, .unit = "", .help = ""};
    const ApplicationFamilyHeader other{
        .name = "x_total", .type = MetricType::counter, .unit = "", .help = ""};
    std::map<std::string, int> refused;
    for (const auto& [header, label] : {std::pair{&counter, "auth_method"}, {&other, "l"}})
        for (int i = 0; i < 8; ++i)
            if (registry.push(*header, count_of({{label, std::to_string(i)}}, 1)) == Rejection::series_limit)
                ++refused[header->name];
    // Six of the one, and what was left of ten for the other; series that are there go on.
    EXPECT_EQ(refused[open_counter], 2);
    EXPECT_EQ(refused["x_total"], 4);
    EXPECT_EQ(registry.push(other, count_of({{"l", "0"}}, 2)), std::nullopt);
    const std::string all = text(registry);
    EXPECT_THAT(
        all, HasSubstr("pangolin_exporter_series_limited_total{family=\"pangolin_token_issued_total\"} 2\n"));
    EXPECT_THAT(all, HasSubstr("pangolin_exporter_series_limited_total{family=\"other\"} 4\n"));
    EXPECT_THAT(all, HasSubstr("rejected_total{reason=\"series_limit\"} 6\n"));
}

TEST(ApplicationMetrics, TheForgottenMakeRoom) {
    ApplicationMetrics registry(with_limits({.series = 10, .series_per_family = 6}));
    const ApplicationFamilyHeader counter{
        .name = open_counter, .type = MetricType::counter, .unit = "", .help = ""};
    const auto old = ApplicationMetrics::Clock::now() - 1h;
    for (int i = 0; i < 6; ++i)
        EXPECT_EQ(registry.push(counter, count_of({{"auth_method", std::to_string(i)}}, 1), old),
                  std::nullopt);
    EXPECT_EQ(registry.push(counter, count_of({{"auth_method", "new"}}, 1)), std::nullopt);
    EXPECT_THAT(text(registry), HasSubstr("pangolin_exporter_application_series 1\n"));
}

TEST(ApplicationMetrics, LongLabelsTakeTheRoomOfMany) {
    ApplicationOptions options;
    options.limits.series = 100;
    ApplicationMetrics registry(options);
    ApplicationFamily many = family("x", MetricType::gauge, {});
    for (int i = 0; i < 100; ++i)
        many.samples.push_back({{{"l", std::string(1000, 'x') + std::to_string(i)}}, 1.0});
    const ApplicationOutcome outcome = registry.replace("scrape:a", {many});
    EXPECT_LT(outcome.accepted, 50U);
    EXPECT_EQ(outcome.rejected(Rejection::series_limit), 100 - outcome.accepted);
    registry.replace("scrape:a", {});
    many.samples.resize(10);
    EXPECT_EQ(registry.replace("scrape:a", {many}).accepted, 10U);
}

TEST(ApplicationMetrics, OwnSeries) {
    ApplicationMetrics registry;
    registry.set_own("pangolin_exporter_feature_enabled", {"otlp"}, 1);
    registry.set_own("pangolin_exporter_feature_enabled", {"otlp"}, 0);
    EXPECT_THAT(text(registry), HasSubstr("pangolin_exporter_feature_enabled{feature=\"otlp\"} 0\n"));
}

}  // namespace
}  // namespace pangolin
