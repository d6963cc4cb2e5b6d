#include "exporter/application/otlp_conversion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "exporter/application/exponential_histogram.h"
#include "exporter/exposition.h"
#include "tests/support/given_away.h"

namespace pangolin {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// The sample lines of what is not the exporter's own.
std::vector<std::string> lines_of(ApplicationMetrics& registry,
                                  ExpositionFormat format = ExpositionFormat::text) {
    Exposition body(std::make_shared<Snapshot>(), nullptr, format, registry.collect());
    std::string all;
    for (auto block = body.next_block(); !block.empty(); block = body.next_block())
        all += block;
    std::vector<std::string> lines;
    for (std::size_t start = 0; start < all.size();) {
        const std::size_t end = all.find('\n', start);
        const std::string line = all.substr(start, end - start);
        if (!line.starts_with('#') && !line.starts_with("pangolin_exporter_"))
            lines.push_back(line);
        start = end + 1;
    }
    return lines;
}

OtlpRequest request_of(std::string_view json) {
    Result<OtlpRequest> request = parse_otlp(json, OtlpEncoding::json);
    EXPECT_TRUE(request) << request.error().message();
    return request ? std::move(*request) : OtlpRequest();
}

// One metric of a scope without a name, of a resource without attributes.
std::string only(const std::string& metric) {
    return R"({"resourceMetrics":[{"scopeMetrics":[{"metrics":[)" + metric + "]}]}]}";
}

std::vector<std::string> published(const std::string& json, ApplicationOutcome* outcome = nullptr) {
    ApplicationMetrics registry(everything_given_away());
    const ApplicationOutcome result = import_otlp(request_of(json), registry);
    if (outcome)
        *outcome = result;
    return lines_of(registry);
}

TEST(OtlpConversion, KindsOfMetrics) {
    struct Case {
        const char* description;
        const char* metric;
        std::vector<std::string> expected;
    };
    const Case cases[] = {
        {"gauge",
         R"({"name":"room.temp","unit":"Cel","gauge":{"dataPoints":[{"asDouble":21.5}]}})",
         {"room_temp_celsius 21.5"}},
        {"integer as text",
         R"({"name":"g","gauge":{"dataPoints":[{"asInt":"9007199254740993","attributes":[{"key":"a.b","value":{"intValue":"7"}}]}]}})",
         {"g{a_b=\"7\"} 9007199254740992"}},
        {"sum",
         R"({"name":"requests","unit":"{request}","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{"asInt":"5"}]}})",
         {"requests_total 5"}},
        {"enumeration by name",
         R"({"name":"requests","sum":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_DELTA","isMonotonic":true,"dataPoints":[{"asInt":5}]}})",
         {"requests_total 5"}},
        {"sum that may fall",
         R"({"name":"queue","sum":{"aggregationTemporality":2,"dataPoints":[{"asInt":"-5"}]}})",
         {"queue -5"}},
        {"histogram",
         R"({"name":"t","unit":"s","histogram":{"aggregationTemporality":2,"dataPoints":[{"count":"6","sum":7.5,"bucketCounts":["1","2","3"],"explicitBounds":[0.5,1]}]}})",
         {"t_seconds_bucket{le=\"0.5\"} 1", "t_seconds_bucket{le=\"1\"} 3", "t_seconds_bucket{le=\"+Inf\"} 6",
          "t_seconds_sum 7.5", "t_seconds_count 6"}},
        {"histogram without buckets",
         R"({"name":"t","histogram":{"aggregationTemporality":1,"dataPoints":[{"count":"6","sum":7.5}]}})",
         {"t_bucket{le=\"+Inf\"} 6", "t_sum 7.5", "t_count 6"}},
        {"summary",
         R"({"name":"s","summary":{"dataPoints":[{"count":"3","sum":9,"quantileValues":[{"quantile":0.5,"value":3},{"quantile":1,"value":4}]}]}})",
         {"s{quantile=\"0.5\"} 3", "s{quantile=\"1\"} 4", "s_sum 9", "s_count 3"}},
        {"no value", R"({"name":"g","gauge":{"dataPoints":[{"flags":1}]}})", {}},
        {"no data", R"({"name":"g"})", {}},
        {"labels that meet",
         R"({"name":"g","gauge":{"dataPoints":[{"asInt":1,"attributes":[{"key":"a_b","value":{"stringValue":"2"}},{"key":"a.b","value":{"stringValue":"1"}}]}]}})",
         {"g{a_b=\"1;2\"} 1"}},
        {"values of other kinds",
         R"({"name":"g","gauge":{"dataPoints":[{"asInt":1,"attributes":[{"key":"a","value":{"boolValue":true}},{"key":"b","value":{"arrayValue":{"values":[{"stringValue":"x"},{"doubleValue":1.5}]}}},{"key":"c","value":{"kvlistValue":{"values":[{"key":"k","value":{"intValue":"1"}}]}}},{"key":"d"}]}]}})",
         {"g{a=\"true\",b=\"[\\\"x\\\",1.5]\",c=\"{\\\"k\\\":1}\"} 1"}},
        {"label of the format",
         R"({"name":"h","histogram":{"aggregationTemporality":2,"dataPoints":[{"count":"1","sum":1,"attributes":[{"key":"le","value":{"stringValue":"x"}}]}]}})",
         {"h_bucket{exported_le=\"x\",le=\"+Inf\"} 1", "h_sum{exported_le=\"x\"} 1",
          "h_count{exported_le=\"x\"} 1"}},
        {"of the catalogue, by its name",
         R"({"name":"pangolin_token_issued_total","unit":"1","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{"asInt":"3","attributes":[{"key":"auth_method","value":{"stringValue":"oidc"}}]}]}})",
         {"pangolin_token_issued_total{auth_method=\"oidc\"} 3"}},
        {"of the catalogue, translated",
         R"({"name":"pangolin.db.wait","unit":"s","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{"asDouble":1.5}]}})",
         {"pangolin_db_wait_seconds_total 1.5"}},
    };
    for (const Case& test : cases)
        EXPECT_EQ(published(only(test.metric)), test.expected) << test.description;
}

TEST(OtlpConversion, RejectedPoints) {
    struct Case {
        const char* metric;
        Rejection reason;
    };
    const Case cases[] = {
        {R"({"name":"s","sum":{"isMonotonic":true,"dataPoints":[{"asInt":"5"}]}})", Rejection::unsupported},
        {R"({"name":"s","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{"asInt":"-5"}]}})",
         Rejection::invalid_value},
        {R"({"name":"s","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{"asDouble":"NaN"}]}})",
         Rejection::invalid_value},
        {R"({"name":"h","histogram":{"aggregationTemporality":2,"dataPoints":[{"count":"6","bucketCounts":["1","2"],"explicitBounds":[0.5,1]}]}})",
         Rejection::invalid_value},
        {R"({"name":"---","gauge":{"dataPoints":[{"asInt":1}]}})", Rejection::invalid_name},
        {R"({"name":"pangolin_exporter_attachments","gauge":{"dataPoints":[{"asInt":1}]}})",
         Rejection::owned_by_exporter},
        {R"({"name":"pangolin_background_queue_depth","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{"asInt":1}]}})",
         Rejection::type_mismatch},
        {R"({"name":"pangolin_background_queue_depth","gauge":{"dataPoints":[{"asInt":1,"attributes":[{"key":"a","value":{"stringValue":"b"}}]}]}})",
         Rejection::label_mismatch},
    };
    for (const Case& test : cases) {
        ApplicationOutcome outcome;
        EXPECT_TRUE(published(only(test.metric), &outcome).empty()) << test.metric;
        EXPECT_EQ(outcome.rejected(test.reason), 1U) << test.metric;
        EXPECT_EQ(outcome.rejected(), 1U) << test.metric;
    }
}

constexpr const char* with_resource = R"({"resourceMetrics":[{
    "resource":{"attributes":[
        {"key":"service.name","value":{"stringValue":"pangolin"}},
        {"key":"service.namespace","value":{"stringValue":"prod"}},
        {"key":"service.instance.id","value":{"stringValue":"one"}},
        {"key":"host.name","value":{"stringValue":"vps"}},
        {"key":"process.command_line","value":{"stringValue":"LONG"}}]},
    "scopeMetrics":[{
        "scope":{"name":"http","version":"1.2","attributes":[{"key":"kind","value":{"stringValue":"x"}}]},
        "metrics":[
            {"name":"g","description":"Some gauge.","gauge":{"dataPoints":[{"asInt":"1","attributes":[
                {"key":"job","value":{"stringValue":"mine"}}]}]}},
            {"name":"pangolin_ui_active_sessions","gauge":{"dataPoints":[{"asInt":"5"}]}}]}]}]})";

TEST(OtlpConversion, ResourceAndScope) {
    std::string json = with_resource;
    json.replace(json.find("LONG"), 4, std::string(5000, 'x'));
    EXPECT_THAT(
        published(json),
        ElementsAre("pangolin_ui_active_sessions 5",
                    "g{exported_job=\"mine\",instance=\"one\",job=\"prod/pangolin\",otel_scope_kind=\"x\","
                    "otel_scope_name=\"http\",otel_scope_version=\"1.2\"} 1",
                    "target_info{host_name=\"vps\",instance=\"one\",job=\"prod/pangolin\"} 1"));
    ApplicationMetrics registry(everything_given_away());
    import_otlp(request_of(json), registry);
    Exposition body(std::make_shared<Snapshot>(), nullptr, ExpositionFormat::open_metrics,
                    registry.collect());
    const std::string text(body.next_block());
    EXPECT_THAT(text, HasSubstr("# HELP g Some gauge.\n# TYPE g gauge\n"));
    EXPECT_THAT(text, HasSubstr("# TYPE target info\ntarget_info{"));
}

TEST(OtlpConversion, TwoInstancesOfAnApplicationAreAddedInTheCatalogue) {
    ApplicationMetrics registry(everything_given_away());
    const auto push = [&](const char* instance, int count) {
        import_otlp(request_of(std::string(R"({"resourceMetrics":[{"resource":{"attributes":[
                {"key":"service.name","value":{"stringValue":"pangolin"}},
                {"key":"service.instance.id","value":{"stringValue":")") +
                               instance + R"("}}]},
            "scopeMetrics":[{"metrics":[{"name":"pangolin_restart_count_total","sum":{"aggregationTemporality":2,
                "isMonotonic":true,"dataPoints":[{"asInt":")" +
                               std::to_string(count) + R"("}]}}]}]}]})"),
                    registry);
    };
    push("one", 3);
    push("two", 4);
    push("one", 5);
    EXPECT_THAT(lines_of(registry), ElementsAre("pangolin_restart_count_total 9"));
}

TEST(OtlpConversion, DeltasAreAddedAndCumulativesAreNot) {
    for (const auto& [temporality, expected] : {std::pair{1, 8}, {2, 5}}) {
        ApplicationMetrics registry(everything_given_away());
        for (const auto& [value, start, time] : {std::tuple{3, 1, 2}, {5, temporality == 1 ? 2 : 1, 3}})
            import_otlp(
                request_of(only(
                    R"({"name":"pangolin_restart_count_total","sum":{"isMonotonic":true,"aggregationTemporality":)" +
                    std::to_string(temporality) + R"(,"dataPoints":[{"asInt":)" + std::to_string(value) +
                    R"(,"startTimeUnixNano":")" + std::to_string(start) + R"(","timeUnixNano":")" +
                    std::to_string(time) + R"("}]}})")),
                registry);
        EXPECT_THAT(lines_of(registry),
                    ElementsAre("pangolin_restart_count_total " + std::to_string(expected)));
    }
}

// The data model's table of scales: base 4 for -1, 2 for 0, 1.41421 for 1, 1.09051 for 3.
TEST(ExponentialHistogram, BucketsEndWhereTheirBaseSays) {
    struct Case {
        const char* description;
        std::int32_t scale;
        std::int32_t offset;
        std::vector<std::uint64_t> counts;
        // Observations up to each power of two.
        double bound;
        std::uint64_t expected;
    };
    const Case cases[] = {
        {"base 2: (1, 2]", 0, 0, {1}, 2, 1},
        {"base 2: not below", 0, 0, {1}, 1, 0},
        {"base 2: (1/4, 1/2], (1/2, 1]", 0, -2, {3, 4}, 0.5, 3},
        {"base 2: both", 0, -2, {3, 4}, 1, 7},
        {"base 1.41421: four buckets to 4", 1, 0, {1, 1, 1, 1}, 4, 4},
        {"base 1.41421: two of them to 2", 1, 0, {1, 1, 1, 1}, 2, 2},
        {"base 1.09051: eight buckets to 2", 3, 0, {1, 1, 1, 1, 1, 1, 1, 1, 1}, 2, 8},
        {"base 4: (1, 4] is above 2", -1, 0, {1}, 2, 0},
        {"base 4: (1, 4]", -1, 0, {1}, 4, 1},
        {"finest scale", 20, 0, std::vector<std::uint64_t>(1'048'576, 1), 2, 1'048'576},
        {"no such scale", 2'000'000'000, 2'147'483'647, {1}, 2, 1},
        {"no such offset", -2'000'000'000, -2'147'483'647, {1}, 0.0001220703125, 1},
    };
    for (const Case& test : cases) {
        const HistogramValue value =
            explicit_histogram({.scale = test.scale,
                                .zero_count = 0,
                                .positive = {.offset = test.offset, .counts = test.counts},
                                .negative = {},
                                .sum = 0},
                               true);
        std::uint64_t count = 0;
        for (std::size_t i = 0; i < value.bounds.size() && value.bounds[i] <= test.bound; ++i)
            count += value.buckets[i];
        EXPECT_EQ(count, test.expected) << test.description;
        std::uint64_t all = 0;
        for (const std::uint64_t each : test.counts)
            all += each;
        EXPECT_EQ(value.count(), all) << test.description;
    }
}

TEST(ExponentialHistogram, ZerosAndNegativesAreInTheFirstBucket) {
    const std::vector<std::uint64_t> negative{2, 3};
    const HistogramValue value = explicit_histogram({.scale = 0,
                                                     .zero_count = 4,
                                                     .positive = {},
                                                     .negative = {.offset = 0, .counts = negative},
                                                     .sum = 1},
                                                    false);
    EXPECT_EQ(value.buckets.front(), 9U);
    EXPECT_EQ(value.count(), 9U);
}

TEST(OtlpConversion, ExponentialHistogramOfChangingScaleIsOneSeries) {
    ApplicationMetrics registry(everything_given_away());
    const auto push = [&](const char* point) {
        return import_otlp(
                   request_of(only(
                       std::string(
                           R"({"name":"t","unit":"s","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[)") +
                       point + "]}}")),
                   registry)
            .rejected();
    };
    EXPECT_EQ(
        push(
            R"({"count":"2","sum":3,"scale":1,"timeUnixNano":"1","positive":{"offset":0,"bucketCounts":["1","1"]}})"),
        0U);
    EXPECT_EQ(
        push(
            R"({"count":"4","sum":300,"scale":0,"zeroCount":"1","timeUnixNano":"2","positive":{"offset":0,"bucketCounts":["2","0","0","0","0","0","0","1"]}})"),
        0U);
    const auto lines = lines_of(registry);
    EXPECT_THAT(lines, testing::Contains("t_seconds_bucket{le=\"0.0001220703125\"} 1"));
    EXPECT_THAT(lines, testing::Contains("t_seconds_bucket{le=\"2\"} 3"));
    EXPECT_THAT(lines, testing::Contains("t_seconds_bucket{le=\"256\"} 4"));
    EXPECT_THAT(lines, testing::Contains("t_seconds_count 4"));
    EXPECT_THAT(lines, testing::Contains("t_seconds_sum 300"));
}

TEST(OtlpRequest, BothEncodingsSayTheSame) {
    const OtlpRequest request = request_of(with_resource);
    const auto again = parse_otlp(request.SerializeAsString(), OtlpEncoding::protobuf);
    ASSERT_TRUE(again);
    EXPECT_EQ(again->SerializeAsString(), request.SerializeAsString());
    EXPECT_TRUE(parse_otlp("", OtlpEncoding::protobuf));
    EXPECT_TRUE(parse_otlp("{}", OtlpEncoding::json));
    // Receivers ignore what they do not know.
    EXPECT_TRUE(parse_otlp(R"({"unknown":[1,{"a":null}]})", OtlpEncoding::json));
}

TEST(OtlpRequest, RefusesWhatIsNone) {
    for (const char* const json : {"", "[]", "null2", "{", R"({"resourceMetrics":5})",
                                   R"({"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":7}]}]}]})"})
        EXPECT_FALSE(parse_otlp(json, OtlpEncoding::json)) << json;
    for (const char* const binary : {"\x0a", "\x0a\xff\xff\xff\xff\x0f", "\x0a\x02\x08", "text"})
        EXPECT_FALSE(parse_otlp(binary, OtlpEncoding::protobuf)) << binary;
    const std::string deep(100'000, '[');
    EXPECT_FALSE(parse_otlp(R"({"resourceMetrics":)" + deep, OtlpEncoding::json));
}

TEST(OtlpRequest, CountsWhatWouldFillTheMemory) {
    OtlpRequest request;
    auto* const gauge = request.add_resource_metrics()->add_scope_metrics()->add_metrics()->mutable_gauge();
    for (int i = 0; i < 1000; ++i)
        gauge->add_data_points();
    const std::string binary = request.SerializeAsString();
    EXPECT_TRUE(parse_otlp(binary, OtlpEncoding::protobuf, 1004));
    const auto refused = parse_otlp(binary, OtlpEncoding::protobuf, 1003);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, E2BIG);
    // Fields that nobody knows are kept as well.
    std::string unknown;
    for (int i = 0; i < 1000; ++i)
        unknown += "\x78\x01";
    EXPECT_EQ(parse_otlp(unknown, OtlpEncoding::protobuf, 999).error().code, E2BIG);
}

TEST(OtlpRequest, Responses) {
    ApplicationOutcome outcome;
    outcome.accepted = 5;
    EXPECT_EQ(otlp_response(outcome, OtlpEncoding::protobuf), "");
    EXPECT_EQ(otlp_response(outcome, OtlpEncoding::json), "{}");
    outcome.reject(Rejection::type_mismatch, 2);
    outcome.reject(Rejection::series_limit);
    EXPECT_EQ(
        otlp_response(outcome, OtlpEncoding::json),
        R"({"partialSuccess":{"rejectedDataPoints":"3","errorMessage":"type_mismatch: 2, series_limit: 1"}})");
    EXPECT_EQ(otlp_status(3, "no \"good\"", OtlpEncoding::json), R"({"code":3,"message":"no \"good\""})");
    EXPECT_EQ(otlp_status(3, "bad", OtlpEncoding::protobuf),
              "\x08\x03\x12\x03"
              "bad");
}

}  // namespace
}  // namespace pangolin
