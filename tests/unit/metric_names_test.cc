#include "exporter/application/metric_names.h"

#include <gtest/gtest.h>

namespace pangolin {
namespace {

TEST(MetricNames, FromOpenTelemetry) {
    constexpr auto counter = MetricType::counter;
    constexpr auto gauge = MetricType::gauge;
    constexpr auto histogram = MetricType::histogram;
    struct Case {
        const char* name;
        const char* unit;
        MetricType type;
        const char* expected;
    };
    // The specification's examples and their neighbours.
    const Case cases[] = {
        {"http.server.request.duration", "s", histogram, "http_server_request_duration_seconds"},
        {"system.filesystem.usage", "By", gauge, "system_filesystem_usage_bytes"},
        {"system.network.dropped", "{packets}", counter, "system_network_dropped_total"},
        {"system.network.io", "By", counter, "system_network_io_bytes_total"},
        {"disk.speed", "By/s", gauge, "disk_speed_bytes_per_second"},
        {"requests", "{request}/m", gauge, "requests_per_minute"},
        {"memory.utilization", "1", gauge, "memory_utilization_ratio"},
        {"items", "1", counter, "items_total"},
        {"cpu.time", "s", counter, "cpu_time_seconds_total"},
        {"cpu_seconds", "s", counter, "cpu_seconds_total"},
        {"cpu_seconds_total", "s", counter, "cpu_seconds_total"},
        {"total_bytes_seen", "By", counter, "bytes_seen_total"},
        {"a..b--c__d", "", gauge, "a_b_c_d"},
        {"0day", "", gauge, "_0day"},
        {"recording:rule", "", gauge, "recording:rule"},
        {"température", "Cel", gauge, "temp_rature_celsius"},
        {"odd", "foo/bar baz", gauge, "odd_foo_per_bar_baz"},
        {"", "s", gauge, ""},
        {"...", "s", counter, ""},
    };
    for (const Case& test : cases) {
        EXPECT_EQ(metric_name(test.name, test.unit, test.type), test.expected) << test.name;
        EXPECT_TRUE(*test.expected == '\0' || is_metric_name(test.expected)) << test.expected;
    }
}

TEST(MetricNames, Labels) {
    struct Case {
        const char* key;
        const char* expected;
    };
    for (const auto& [key, expected] : {Case{"http.method", "http_method"},
                                        {"site_id", "site_id"},
                                        {"0", "key_0"},
                                        {"_private", "_private"},
                                        {"__name__", "_name"},
                                        {"a b", "a_b"},
                                        {"...", ""},
                                        {"", ""}}) {
        EXPECT_EQ(label_name(key), expected);
        EXPECT_TRUE(*expected == '\0' || is_label_name(expected)) << expected;
    }
}

TEST(MetricNames, Valid) {
    for (const char* const good : {"a", "_", "a:b", "A9_"})
        EXPECT_TRUE(is_metric_name(good)) << good;
    for (const char* const bad : {"", "9", "a-b", "a b", "\xc3\xa9", "a\n"})
        EXPECT_FALSE(is_metric_name(bad)) << bad;
    EXPECT_FALSE(is_label_name("a:b"));
    EXPECT_FALSE(is_label_name("__a"));
}

}  // namespace
}  // namespace pangolin
