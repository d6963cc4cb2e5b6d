#include "exporter/exposition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "exporter/gzip_body.h"
#include "exporter/status_page.h"
#include "tests/support/random_snapshot.h"

namespace pangolin {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

std::string all_of(Body& body) {
    std::string all;
    for (auto block = body.next_block(); !block.empty(); block = body.next_block())
        all += block;
    return all;
}

std::string exposition(std::shared_ptr<const Snapshot> snapshot, ExpositionFormat format,
                       std::vector<prometheus::MetricFamily> families = {}) {
    Exposition body(std::move(snapshot),
                    std::make_shared<const std::vector<prometheus::MetricFamily>>(std::move(families)),
                    format);
    return all_of(body);
}

// One sample of a family "m" with one label "l".
std::string label_line(std::string_view value) {
    TextWriter writer(ExpositionFormat::text, 16);
    writer.begin_family({.name = "m", .type = MetricType::gauge, .help = "h"});
    const std::array<std::string_view, 1> names{"l"}, values{value};
    writer.sample({}, names, values, std::uint64_t{1});
    const std::string text(writer.text());
    return text.substr(text.find("m{"));
}

std::string number(double value) {
    TextWriter writer(ExpositionFormat::text, 16);
    writer.begin_family({.name = "m", .type = MetricType::gauge, .help = "h"});
    writer.sample({}, {}, {}, value);
    const std::string text(writer.text());
    return text.substr(text.rfind("m ") + 2);
}

TEST(TextWriter, EscapesLabelValues) {
    EXPECT_EQ(label_line("plain and longer than a word"), "m{l=\"plain and longer than a word\"} 1\n");
    EXPECT_EQ(label_line(""), "m{l=\"\"} 1\n");
    EXPECT_EQ(label_line("a\"b\\c\nd"), "m{l=\"a\\\"b\\\\c\\nd\"} 1\n");
    EXPECT_EQ(label_line("twelve bytes\"and more\\"), "m{l=\"twelve bytes\\\"and more\\\\\"} 1\n");
    EXPECT_EQ(label_line("tab\tand \x7f stay"), "m{l=\"tab\tand \x7f stay\"} 1\n");
    EXPECT_EQ(label_line("é漢😀"), "m{l=\"é漢😀\"} 1\n");
}

TEST(TextWriter, EverySpecialByteAtEveryPlace) {
    for (std::size_t place = 0; place < 20; ++place) {
        for (const char special : {'"', '\\', '\n'}) {
            std::string value(20, 'x');
            value[place] = special;
            const std::string escaped = special == '\n' ? "\\n" : std::string("\\") + special;
            EXPECT_EQ(label_line(value), "m{l=\"" + std::string(place, 'x') + escaped +
                                             std::string(19 - place, 'x') + "\"} 1\n");
        }
    }
}

TEST(TextWriter, MakesTextValid) {
    EXPECT_EQ(label_line("a\xFFz"), "m{l=\"a\uFFFDz\"} 1\n");
    EXPECT_EQ(label_line(std::string_view("a\0z", 3)), "m{l=\"a\uFFFDz\"} 1\n");
    EXPECT_EQ(label_line("cut \xE6\xBC"), "m{l=\"cut \uFFFD\uFFFD\"} 1\n");
}

TEST(TextWriter, Numbers) {
    EXPECT_EQ(number(0), "0\n");
    EXPECT_EQ(number(0.1), "0.1\n");
    EXPECT_EQ(number(-2.5), "-2.5\n");
    EXPECT_EQ(number(1e300), "1e+300\n");
    EXPECT_EQ(number(5e-324), "5e-324\n");
    EXPECT_EQ(number(INFINITY), "+Inf\n");
    EXPECT_EQ(number(-INFINITY), "-Inf\n");
    EXPECT_EQ(number(NAN), "NaN\n");
    const double third = 1.0 / 3;
    EXPECT_EQ(std::stod(number(third)), third);
}

TEST(TextWriter, FamilyWithoutSamplesLeavesNoTrace) {
    TextWriter writer(ExpositionFormat::open_metrics, 64);
    writer.begin_family({.name = "a_total", .type = MetricType::counter, .help = "h"});
    writer.begin_family({.name = "b_info", .type = MetricType::info, .help = "h"});
    writer.sample({}, {}, {}, std::uint64_t{1});
    writer.finish();
    EXPECT_EQ(writer.text(), "# HELP b h\n# TYPE b info\nb_info 1\n# EOF\n");
}

TEST(TextWriter, OpenMetricsFamilies) {
    TextWriter writer(ExpositionFormat::open_metrics, 64);
    writer.begin_family(
        {.name = "a_bytes_total", .type = MetricType::counter, .unit = "bytes", .help = "\"A\"."});
    writer.sample({}, {}, {}, std::uint64_t{18446744073709551615U});
    // A counter must end in _total there.
    writer.begin_family({.name = "odd", .type = MetricType::counter, .help = "h"});
    writer.sample({}, {}, {}, 1.0);
    EXPECT_EQ(writer.text(),
              "# HELP a_bytes \\\"A\\\".\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\n"
              "a_bytes_total 18446744073709551615\n# HELP odd h\n# TYPE odd unknown\nodd 1\n");
}

TEST(TextWriter, BoundsAreFloatsInOpenMetrics) {
    for (const auto& [format, expected] :
         {std::pair{ExpositionFormat::text, R"(m_bucket{le="1"} 2)"},
          std::pair{ExpositionFormat::open_metrics, R"(m_bucket{le="1.0"} 2)"}}) {
        TextWriter writer(format, 16);
        writer.begin_family({.name = "m", .type = MetricType::histogram, .help = "h"});
        writer.sample("_bucket", {}, {}, {"le", 1}, 2);
        writer.sample("_bucket", {}, {}, {"le", INFINITY}, 2);
        EXPECT_THAT(std::string(writer.text()), HasSubstr(expected));
        EXPECT_THAT(std::string(writer.text()), HasSubstr(R"(m_bucket{le="+Inf"} 2)"));
    }
}

TEST(Exposition, WritesASite) {
    auto directory = std::make_shared<SiteDirectory>();
    auto& site = directory->sites.emplace_back();
    site.site_id = "s-abc";
    site.name = "Ho\"me";
    site.organisation = "org";
    auto snapshot = std::make_shared<Snapshot>();
    snapshot->directory = directory;
    auto& entry = snapshot->sites.emplace_back();
    entry.site = &site;
    entry.traffic.count[TRAFFIC_INGRESS][TRAFFIC_TCP] = {.packets = 3, .bytes = 4096};
    const std::string text = exposition(snapshot, ExpositionFormat::text);
    EXPECT_THAT(text,
                HasSubstr("# HELP pangolin_site_bandwidth_bytes_total Bytes of IP packets through the site's "
                          "tunnel, IP headers included; for a local site TCP payload.\n"
                          "# TYPE pangolin_site_bandwidth_bytes_total counter\n"
                          "pangolin_site_bandwidth_bytes_total{site_id=\"s-abc\",direction=\"ingress\","
                          "protocol=\"tcp\"} 4096\n"
                          "pangolin_site_bandwidth_bytes_total{site_id=\"s-abc\",direction=\"egress\","
                          "protocol=\"tcp\"} 0\n"));
    EXPECT_THAT(text,
                HasSubstr("# TYPE pangolin_site_info gauge\n"
                          "pangolin_site_info{site_id=\"s-abc\",name=\"Ho\\\"me\",org=\"org\",type=\"newt\","
                          "exit_node=\"\",region=\"\"} 1\n"));
    EXPECT_THAT(text, Not(HasSubstr("pangolin_tunnel_up")));
    EXPECT_THAT(text, HasSubstr("pangolin_exporter_collection_duration_seconds_count 0\n"));
}

TEST(Exposition, BlocksAreBounded) {
    const auto snapshot = random_snapshot(4, {.sites = 3000});
    Exposition body(snapshot, nullptr, ExpositionFormat::text);
    std::size_t blocks = 0;
    std::size_t last = 0;
    for (auto block = body.next_block(); !block.empty(); block = body.next_block()) {
        // One element more: a histogram of up to 10 KiB.
        EXPECT_LT(block.size(), Exposition::block_size + 16384);
        EXPECT_EQ(block.back(), '\n');
        if (blocks > 0) {
            EXPECT_GE(last, Exposition::block_size);
        }
        last = block.size();
        ++blocks;
    }
    EXPECT_GT(blocks, 20U);
    EXPECT_TRUE(body.next_block().empty());
}

TEST(Exposition, EmptySnapshotIsAnAnswer) {
    const std::string text = exposition(std::make_shared<Snapshot>(), ExpositionFormat::open_metrics);
    EXPECT_THAT(text, HasSubstr("pangolin_exporter_build_info{version="));
    EXPECT_THAT(text, EndsWith("# EOF\n"));
}

TEST(Exposition, WritesFamiliesOfTheLibrary) {
    prometheus::MetricFamily family{"h", "help", prometheus::MetricType::Histogram, {}};
    auto& metric = family.metric.emplace_back();
    metric.label = {{"a", "x\"y"}};
    metric.histogram = {3, 1.5, {{1, 0.5}, {3, std::numeric_limits<double>::infinity()}}};
    prometheus::MetricFamily summary{"s", "help", prometheus::MetricType::Summary, {}};
    summary.metric.emplace_back().summary = {2, 7, {{0.5, 3}}};
    const std::string text =
        exposition(std::make_shared<Snapshot>(), ExpositionFormat::text, {family, summary});
    EXPECT_THAT(text, EndsWith("# HELP h help\n# TYPE h histogram\nh_bucket{a=\"x\\\"y\",le=\"0.5\"} 1\n"
                               "h_bucket{a=\"x\\\"y\",le=\"+Inf\"} 3\nh_sum{a=\"x\\\"y\"} 1.5\n"
                               "h_count{a=\"x\\\"y\"} 3\n# HELP s help\n# TYPE s summary\n"
                               "s{quantile=\"0.5\"} 3\ns_sum 7\ns_count 2\n"));
}

std::string unpacked(const std::string& packed) {
    z_stream stream{};
    EXPECT_EQ(inflateInit2(&stream, 15 + 16), Z_OK);
    std::string plain(64 << 20, '\0');
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
    stream.avail_in = static_cast<uInt>(packed.size());
    stream.next_out = reinterpret_cast<Bytef*>(plain.data());
    stream.avail_out = static_cast<uInt>(plain.size());
    EXPECT_EQ(inflate(&stream, Z_FINISH), Z_STREAM_END);
    plain.resize(stream.total_out);
    inflateEnd(&stream);
    return plain;
}

TEST(GzipBody, HoldsTheSameText) {
    for (const unsigned sites : {0U, 1U, 2000U}) {
        const auto snapshot = random_snapshot(7, {.sites = sites});
        GzipBody gzip(std::make_unique<Exposition>(snapshot, nullptr, ExpositionFormat::text));
        const std::string packed = all_of(gzip);
        EXPECT_EQ(unpacked(packed), exposition(snapshot, ExpositionFormat::text));
        EXPECT_TRUE(gzip.next_block().empty());
    }
}

TEST(StatusPage, EscapesWhatComesFromOutside) {
    EXPECT_EQ(html_escaped("<a href='x'>\"&\xFF"), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;\uFFFD");
    auto directory = std::make_shared<SiteDirectory>();
    auto& site = directory->sites.emplace_back();
    site.site_id = "<script>alert(1)</script>";
    site.name = "<img src=x>";
    Snapshot snapshot;
    snapshot.directory = directory;
    snapshot.sites.emplace_back().site = &site;
    snapshot.sources = {{"sqlite", false, "<b>locked</b>"}};
    snapshot.interfaces.emplace_back().name = "<wg0>";
    const std::string page =
        render({.snapshot = &snapshot, .problems = {"<i>"}, .telemetry_path = "/\"><u>"});
    for (const char* const tag : {"<script", "<img", "<b>", "<wg0>", "<i>", "<u>"})
        EXPECT_THAT(page, Not(HasSubstr(tag)));
}

TEST(StatusPage, ShortensLongLists) {
    const auto snapshot = random_snapshot(8, {.sites = 800});
    const std::string page = render({.snapshot = snapshot.get(), .problems = {}});
    EXPECT_THAT(page, HasSubstr("and 301 more in the metrics"));
    EXPECT_LT(page.size(), 400'000U);
}

}  // namespace
}  // namespace pangolin
