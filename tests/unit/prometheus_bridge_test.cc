#include "exporter/prometheus_bridge.h"

#include <gtest/gtest.h>
#include <prometheus/text_serializer.h>

#include <cmath>
#include <map>
#include <sstream>
#include <string>

#include "exporter/application/application_metrics.h"
#include "exporter/exposition.h"
#include "exporter/self_metrics.h"
#include "tests/support/random_snapshot.h"

namespace pangolin {
namespace {

// An answer in the text format, taken apart: the lines "# ..." as they are, and samples by "name{labels}".
// Neither labels nor values of these tests hold "} ".
struct Parsed {
    std::map<std::string, double> samples;
    std::map<std::string, std::string> help;
    std::map<std::string, std::string> type;
};

// The library writes 16 significant digits, which is one too few for some numbers.
void expect_equal(const Parsed& ours, const Parsed& library) {
    EXPECT_EQ(ours.help, library.help);
    EXPECT_EQ(ours.type, library.type);
    ASSERT_EQ(ours.samples.size(), library.samples.size());
    for (auto a = ours.samples.begin(), b = library.samples.begin(); a != ours.samples.end(); ++a, ++b) {
        ASSERT_EQ(a->first, b->first);
        ASSERT_TRUE(std::abs(a->second - b->second) <= 1e-15 * std::abs(b->second) || a->second == b->second)
            << a->first << " " << a->second;
    }
}

// With bounds as the library writes them: in 16 digits as well.
std::string series(const std::string& line, std::size_t length) {
    static constexpr std::string_view key = "le=\"";
    const std::size_t bound = line.find(key);
    if (bound > length || line.compare(bound + key.size(), 4, "+Inf") == 0)
        return line.substr(0, length);
    const std::size_t begin = bound + key.size();
    std::ostringstream out;
    out.precision(16);
    out << line.substr(0, begin) << std::stod(line.substr(begin))
        << line.substr(line.find('"', begin), length - line.find('"', begin));
    return out.str();
}

Parsed parsed(const std::string& text) {
    Parsed result;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        std::string hash, keyword, name, rest;
        if (line.starts_with("# ")) {
            words >> hash >> keyword >> name;
            std::getline(words >> std::ws, rest);
            EXPECT_TRUE((keyword == "HELP" ? result.help : result.type).emplace(name, rest).second) << line;
            continue;
        }
        const std::size_t space = line.rfind(' ');
        EXPECT_TRUE(result.samples.emplace(series(line, space), std::stod(line.substr(space + 1))).second)
            << line;
    }
    return result;
}

std::string by_library(const std::vector<prometheus::MetricFamily>& families) {
    std::ostringstream out;
    prometheus::TextSerializer().Serialize(out, families);
    return out.str();
}

std::string by_us(const std::shared_ptr<const Snapshot>& snapshot,
                  std::shared_ptr<const std::vector<prometheus::MetricFamily>> families) {
    Exposition exposition(snapshot, std::move(families), ExpositionFormat::text);
    std::string text;
    for (auto block = exposition.next_block(); !block.empty(); block = exposition.next_block())
        text += block;
    return text;
}

TEST(PrometheusBridge, OurTextEqualsTheLibrarys) {
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
        SCOPED_TRACE(seed);
        auto snapshot = random_snapshot(
            seed, {.sites = static_cast<unsigned>(seed * 3), .interfaces = 1 + unsigned(seed % 3)});
        const Parsed ours = parsed(by_us(snapshot, nullptr));
        const Parsed library =
            parsed(by_library(SnapshotCollectable([&snapshot] { return snapshot; }).Collect()));
        ASSERT_NO_FATAL_FAILURE(expect_equal(ours, library));
    }
}

TEST(PrometheusBridge, FamiliesOfARegistryEqualTheLibrarys) {
    SelfMetrics self;
    self.count_response("metrics", 200);
    self.count_response("other", 404);
    self.observe_scrape(0.003);
    self.set_connections(3);
    const auto families = std::make_shared<const std::vector<prometheus::MetricFamily>>(self.collect());
    const auto empty = std::make_shared<const Snapshot>();
    auto together = metric_families(*empty);
    together.insert(together.end(), families->begin(), families->end());
    expect_equal(parsed(by_us(empty, families)), parsed(by_library(together)));
}

TEST(PrometheusBridge, NoSnapshotNoFamilies) {
    EXPECT_TRUE(SnapshotCollectable([] { return nullptr; }).Collect().empty());
}

TEST(SelfMetrics, EveryFamilyIsInTheCatalogue) {
    SelfMetrics self;
    self.count_response("metrics", 200);
    self.set_web_config(true);
    std::map<std::string, const Metric*> rows;
    for (const Metric& row : catalogue())
        if (std::holds_alternative<EmitNothing>(row.emit) && row.source == "S")
            rows.emplace(row.name, &row);
    for (const prometheus::MetricFamily& family : self.collect()) {
        ASSERT_TRUE(rows.contains(family.name)) << family.name;
        EXPECT_EQ(family.help, rows[family.name]->help);
        rows.erase(family.name);
    }
    // The others are the registry's.
    ApplicationMetrics registry;
    registry.count_limited("pangolin_tunnel_up");
    registry.count_own("pangolin_exporter_otlp_responses_total", {"200"});
    registry.count_own("pangolin_exporter_otlp_connections_rejected_total", {});
    const auto published = registry.collect();
    for (const PublishedFamily& family : published->families)
        rows.erase(family.header.name);
    EXPECT_TRUE(rows.empty()) << rows.begin()->first;
}

TEST(SelfMetrics, ProcessNumbersArePlausible) {
    std::map<std::string, double> values;
    for (const prometheus::MetricFamily& family : process_metric_families())
        values[family.name] = family.metric.at(0).gauge.value + family.metric.at(0).counter.value;
    EXPECT_GT(values["process_resident_memory_bytes"], 1e6);
    EXPECT_GT(values["process_virtual_memory_bytes"], values["process_resident_memory_bytes"]);
    EXPECT_GE(values["process_open_fds"], 3);
    EXPECT_GE(values["process_max_fds"], values["process_open_fds"]);
    const auto now = static_cast<double>(time(nullptr));
    EXPECT_LT(values["process_start_time_seconds"], now + 2);
    EXPECT_GT(values["process_start_time_seconds"], now - 3600);
    EXPECT_TRUE(values.contains("process_cpu_seconds_total"));
}

}  // namespace
}  // namespace pangolin
