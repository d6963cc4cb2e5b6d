#include "exporter/metrics_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <thread>

#include "exporter/exposition.h"
#include "tests/support/given_away.h"

namespace pangolin {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string text(ApplicationMetrics& registry) {
    Exposition body(std::make_shared<Snapshot>(), nullptr, ExpositionFormat::text, registry.collect());
    std::string all;
    for (auto block = body.next_block(); !block.empty(); block = body.next_block())
        all += block;
    return all;
}

class MetricsServiceTest : public testing::Test {
  protected:
    ApplicationMetrics registry{everything_given_away()};
    MetricsService metrics{registry};
};

TEST_F(MetricsServiceTest, HasAnInstrumentForEachFamilyOfTheDocument) {
    const auto families = metrics.families();
    const std::set<std::string_view> names(families.begin(), families.end());
    EXPECT_EQ(families.size(), 46U);
    EXPECT_EQ(names.size(), 46U);
    // Those that applications alone measure are all there.
    for (const Metric& row : catalogue())
        EXPECT_TRUE(row.source != "A" || names.contains(row.name)) << row.name;
}

// The user's document, "Usage Examples".
TEST_F(MetricsServiceTest, CountersOfTheDocument) {
    metrics.site_connection_drops_total().add(1, {{"site_id", "s-abc"}});
    metrics.site_bandwidth_bytes_total().add(
        4096, {{"site_id", "s-abc"}, {"direction", "egress"}, {"protocol", "tcp"}});
    EXPECT_THAT(text(registry), HasSubstr("# TYPE pangolin_site_connection_drops_total counter\n"
                                          "pangolin_site_connection_drops_total{site_id=\"s-abc\"} 1\n"));
    EXPECT_THAT(text(registry),
                HasSubstr("pangolin_site_bandwidth_bytes_total{site_id=\"s-abc\",direction=\"egress\","
                          "protocol=\"tcp\"} 4096\n"));
}

TEST_F(MetricsServiceTest, HistogramOfTheDocument) {
    const auto start = std::chrono::steady_clock::now() - std::chrono::milliseconds(50);
    const std::chrono::duration<double> duration = std::chrono::steady_clock::now() - start;
    metrics.site_handshake_latency_seconds().record(duration.count(),
                                                    {{"site_id", "s-abc"}, {"transport", "websocket"}});
    const std::string all = text(registry);
    const std::string labels = "{site_id=\"s-abc\",transport=\"websocket\"";
    EXPECT_THAT(all,
                HasSubstr("pangolin_site_handshake_latency_seconds_bucket" + labels + ",le=\"0.025\"} 0\n"));
    EXPECT_THAT(all,
                HasSubstr("pangolin_site_handshake_latency_seconds_bucket" + labels + ",le=\"+Inf\"} 1\n"));
    EXPECT_THAT(all, HasSubstr("pangolin_site_handshake_latency_seconds_sum" + labels + "} 0.05"));
    EXPECT_THAT(all, HasSubstr("pangolin_site_handshake_latency_seconds_count" + labels + "} 1\n"));
}

TEST_F(MetricsServiceTest, GaugesOfTheDocument) {
    metrics.set_site_online("s-abc", "websocket", true);
    metrics.set_resource_active_connections("s-abc", "api", "http/1.1", 12);
    metrics.set_ui_active_sessions(5);
    const std::string all = text(registry);
    EXPECT_THAT(all, HasSubstr("pangolin_site_online{site_id=\"s-abc\",transport=\"websocket\"} 1\n"));
    EXPECT_THAT(all, HasSubstr("pangolin_resource_active_connections{site_id=\"s-abc\",resource_id=\"api\","
                               "protocol=\"http/1.1\"} 12\n"));
    EXPECT_THAT(all, HasSubstr("pangolin_ui_active_sessions 5\n"));
}

TEST_F(MetricsServiceTest, AllGaugesByTheirLabels) {
    metrics.set_site_active_sites("eu", 3);
    metrics.set_tunnel_up("s", "wireguard", false);
    metrics.set_backend_health_status("10.0.0.1:80", "s", true);
    metrics.set_auth_active_users("oidc", 4);
    metrics.set_certificates_expiry_days("s", "api", 12.5);
    metrics.set_ws_active_connections("s", 1);
    metrics.set_acme_cert_expiry_days("example.com", 89);
    metrics.set_db_pool_connections("idle", 2);
    metrics.set_background_queue_depth("mail", 9);
    const std::string all = text(registry);
    for (const char* const line :
         {"pangolin_site_active_sites{region=\"eu\"} 3\n",
          "pangolin_tunnel_up{site_id=\"s\",transport=\"wireguard\"} 0\n",
          "pangolin_backend_health_status{backend=\"10.0.0.1:80\",site_id=\"s\"} 1\n",
          "pangolin_auth_active_users{auth_method=\"oidc\"} 4\n",
          "pangolin_certificates_expiry_days{site_id=\"s\",resource_id=\"api\"} 12.5\n",
          "pangolin_ws_active_connections{site_id=\"s\"} 1\n",
          "pangolin_acme_cert_expiry_days{domain=\"example.com\"} 89\n",
          "pangolin_db_pool_connections{state=\"idle\"} 2\n",
          "pangolin_background_queue_depth{job_type=\"mail\"} 9\n"})
        EXPECT_THAT(all, HasSubstr(line));
}

TEST_F(MetricsServiceTest, HandlesAreTheSameSeries) {
    const auto drops = metrics.site_connection_drops_total().with({{"site_id", "a"}});
    const auto same = metrics.site_connection_drops_total().with({{"site_id", "a"}});
    drops.add(1);
    same.add(2U);
    metrics.site_connection_drops_total().add(4, {{"site_id", "a"}});
    EXPECT_THAT(text(registry), HasSubstr("pangolin_site_connection_drops_total{site_id=\"a\"} 7\n"));
    metrics.site_connection_drops_total().remove({{"site_id", "a"}});
    drops.add(1);
    EXPECT_THAT(text(registry), Not(HasSubstr("pangolin_site_connection_drops_total{site_id=\"a\"}")));
}

TEST_F(MetricsServiceTest, FractionsAreExactEnough) {
    const auto waited = metrics.db_wait_seconds_total().with({});
    for (int i = 0; i < 100'000; ++i)
        waited.add(0.1);
    for (int i = 0; i < 100'000; ++i)
        waited.add(0.9);
    waited.add(-1.0);
    waited.add(std::nan(""));
    waited.add(std::numeric_limits<double>::infinity());
    waited.add(-5);
    const auto snapshot = registry.collect();
    EXPECT_NEAR(std::get<double>(snapshot->find("pangolin_db_wait_seconds_total")->series.at(0).value),
                100'000, 1e-6);
}

TEST_F(MetricsServiceTest, WrongLabelsAreCountedAndGoNowhere) {
    metrics.site_connection_drops_total().add(1, {{"site", "a"}});
    metrics.site_connection_drops_total().add(1, {{"site_id", "a"}, {"x", "y"}});
    const std::string all = text(registry);
    EXPECT_THAT(all, Not(HasSubstr("pangolin_site_connection_drops_total{")));
    EXPECT_THAT(all, HasSubstr("rejected_total{reason=\"label_mismatch\"} 2\n"));
}

TEST(MetricsService, LeavesToTheExporterWhatItMeasures) {
    ApplicationMetrics registry;
    MetricsService metrics(registry);
    metrics.set_tunnel_up("s", "wireguard", true);
    EXPECT_THAT(text(registry), HasSubstr("pangolin_tunnel_up{site_id=\"s\",transport=\"wireguard\"} 1\n"));
    Snapshot with_tunnels;
    with_tunnels.sources = {{.name = "wireguard", .up = true, .error = ""}};
    registry.observe(with_tunnels);
    metrics.set_tunnel_up("s", "wireguard", true);
    metrics.set_tunnel_up("t", "wireguard", true);
    metrics.set_background_queue_depth("mail", 9);
    const std::string all = text(registry);
    EXPECT_THAT(all, Not(HasSubstr("pangolin_tunnel_up{")));
    EXPECT_THAT(all, HasSubstr("rejected_total{reason=\"owned_by_exporter\"} 2\n"));
    EXPECT_THAT(all, HasSubstr("pangolin_background_queue_depth{job_type=\"mail\"} 9\n"));
}

TEST(MetricsService, LimitsSeries) {
    ApplicationOptions options;
    options.limits.series_per_family = 10;
    ApplicationMetrics registry(options);
    MetricsService metrics(registry);
    for (int i = 0; i < 15; ++i)
        metrics.set_background_queue_depth(std::to_string(i), 1);
    EXPECT_EQ(registry.collect()->find("pangolin_background_queue_depth")->series.size(), 10U);
    EXPECT_THAT(text(registry),
                HasSubstr("series_limited_total{family=\"pangolin_background_queue_depth\"} 5\n"));
}

TEST(MetricsService, IsGoneWithItsService) {
    ApplicationMetrics registry;
    auto metrics = std::make_unique<MetricsService>(registry);
    const auto handle = metrics->token_issued_total().with({{"auth_method", "oidc"}});
    metrics.reset();
    handle.add(1);
    EXPECT_THAT(text(registry), Not(HasSubstr("pangolin_token_issued_total{")));
}

TEST_F(MetricsServiceTest, CountsOfManyThreadsAreExact) {
    constexpr int threads = 4;
    constexpr int rounds = 50'000;
    std::vector<std::jthread> workers;
    for (int i = 0; i < threads; ++i)
        workers.emplace_back([&] {
            const auto drops = metrics.site_connection_drops_total().with({{"site_id", "a"}});
            const auto waited = metrics.db_wait_seconds_total().with({});
            for (int round = 0; round < rounds; ++round) {
                drops.add(1);
                waited.add(0.5);
                metrics.site_handshake_latency_seconds().record(
                    0.25, {{"site_id", "a"}, {"transport", round % 2 ? "websocket" : "wireguard"}});
            }
        });
    double before = 0;
    for (int i = 0; i < 50; ++i) {
        const auto snapshot = registry.collect();
        if (const auto* const family = snapshot->find("pangolin_db_wait_seconds_total")) {
            const double now = std::get<double>(family->series.at(0).value);
            EXPECT_GE(now, before);
            before = now;
        }
    }
    workers.clear();
    const auto snapshot = registry.collect();
    EXPECT_EQ(std::get<double>(snapshot->find("pangolin_site_connection_drops_total")->series.at(0).value),
              threads * rounds);
    EXPECT_EQ(std::get<double>(snapshot->find("pangolin_db_wait_seconds_total")->series.at(0).value),
              threads * rounds / 2);
    const auto* const latency = snapshot->find("pangolin_site_handshake_latency_seconds");
    ASSERT_EQ(latency->series.size(), 2U);
    for (const PublishedSeries& series : latency->series)
        EXPECT_EQ(std::get<HistogramValue>(series.value).count(),
                  static_cast<std::uint64_t>(threads * rounds / 2));
}

}  // namespace
}  // namespace pangolin
