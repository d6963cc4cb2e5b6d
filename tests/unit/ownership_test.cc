// Who owns a family: what hosts of several kinds measure by themselves, and what applications may say there.
#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string>

#include "exporter/application/application_metrics.h"

namespace pangolin {
namespace {

void has_up(Snapshot& host, std::string_view source) {
    host.sources.push_back({.name = source, .up = true, .error = ""});
}

void has_tunnels(Snapshot& host) {
    has_up(host, "wireguard");
    has_up(host, "kernel");
}

void reads_http(Snapshot& host) {
    host.add_feature("http", true);
}

void has_pangolin(Snapshot& host) {
    reads_http(host);
    has_up(host, "pangolin");
    host.host.pangolin_restarts = 0;
}

void has_database(Snapshot& host) {
    has_up(host, "sqlite");
    host.accounts = std::make_shared<AccountCounts>();
    host.reads_accounts = true;
}

void has_postgres(Snapshot& host) {
    has_database(host);
    AccountCounts counts;
    counts.connections.emplace();
    host.accounts = std::make_shared<AccountCounts>(counts);
}

void has_acme_file(Snapshot& host) {
    host.certificates.book = std::make_shared<CertificateBook>(std::vector<Certificate>());
    host.certificates.events = std::make_shared<CertificateEventCounts>();
}

// Families of the user's document whose owner the exporter is; all others are open.
struct Host {
    const char* description;
    std::function<void(Snapshot&)> make;
    std::set<std::string> measured;
};

const std::set<std::string> tunnels{"site_active_sites",
                                    "site_online",
                                    "site_bandwidth_bytes_total",
                                    "site_uptime_seconds_total",
                                    "site_connection_drops_total",
                                    "site_handshake_latency_seconds",
                                    "resource_active_connections",
                                    "resource_errors_total",
                                    "resource_bandwidth_bytes_total",
                                    "tunnel_up",
                                    "tunnel_reconnects_total",
                                    "tunnel_latency_seconds",
                                    "tunnel_bytes_total",
                                    "wg_handshake_total",
                                    "backend_health_status",
                                    "backend_connection_errors_total"};
const std::set<std::string> http{"resource_requests_total", "resource_request_duration_seconds",
                                 "backend_response_size_bytes", "resource_errors_total"};
const std::set<std::string> pangolin{"auth_requests_total",
                                     "auth_request_duration_seconds",
                                     "auth_failure_reasons_total",
                                     "token_issued_total",
                                     "token_revoked_total",
                                     "token_refresh_total",
                                     "ui_requests_total",
                                     "config_reloads_total",
                                     "restart_count_total",
                                     "site_handshake_latency_seconds",
                                     "background_jobs_total",
                                     "ws_connections_total",
                                     "ws_active_connections",
                                     "ws_messages_total",
                                     "traefik_provider_sync_seconds",
                                     "traefik_provider_errors_total",
                                     "integration_api_requests_total",
                                     "integration_api_duration_seconds",
                                     "holepunch_orchestration_total"};
const std::set<std::string> database{"site_active_sites",    "site_online",         "backend_health_status",
                                     "auth_active_users",    "ui_active_sessions",  "token_issued_total",
                                     "token_revoked_total",  "token_refresh_total", "config_reloads_total",
                                     "background_jobs_total"};
const std::set<std::string> files{"acme_cert_events_total", "acme_cert_expiry_days",
                                  "certificates_expiry_days"};

std::set<std::string> all_of(std::initializer_list<std::set<std::string>> parts) {
    std::set<std::string> all;
    for (const auto& part : parts)
        all.insert(part.begin(), part.end());
    return all;
}

const Host hosts[] = {
    {"nothing yet", [](Snapshot&) {}, {}},
    {"WireGuard, and a kernel that counts", has_tunnels, tunnels},
    {"WireGuard, and a kernel that takes no program",
     [](Snapshot& host) { has_up(host, "wireguard"); },
     {"site_active_sites", "site_online", "site_uptime_seconds_total", "site_connection_drops_total",
      "tunnel_up", "tunnel_reconnects_total", "tunnel_bytes_total"}},
    {"the kernel refuses the programs for HTTP",
     [](Snapshot& host) {
         host.add_feature("http", false);
         has_up(host, "pangolin");
     },
     {}},
    {"HTTP is read, and there is no Pangolin", reads_http, http},
    {"a Pangolin", has_pangolin, all_of({http, pangolin})},
    {"a Pangolin whose requests cannot be read",
     [](Snapshot& host) { host.host.pangolin_restarts = 0; },
     {"restart_count_total"}},
    {"a database", has_database, database},
    {"a sites.yml",
     [](Snapshot& host) { has_up(host, "sites_file"); },
     {"site_active_sites", "site_online", "backend_health_status"}},
    {"a database that cannot be read",
     [](Snapshot& host) {
         host.sources.push_back({.name = "sqlite", .up = false, .error = "no such file"});
         host.reads_accounts = true;
     },
     {}},
    {"PostgreSQL", has_postgres, all_of({database, {"db_pool_connections"}})},
    {"Pangolin's connections to SQLite are seen",
     [](Snapshot& host) { host.host.sqlite_connections.emplace(); },
     {"db_pool_connections"}},
    {"its waiting is",
     [](Snapshot& host) { host.host.database_wait_seconds = 0; },
     {"db_wait_seconds_total"}},
    {"acme.json", has_acme_file, files},
    {"a Traefik with plugins", [](Snapshot& host) { host.host.plugins["badger"]; }, {"plugin_fetch_total"}},
};

// What of the user's document is measured there by itself.
std::set<std::string> measured(const ApplicationMetrics& registry) {
    std::set<std::string> names;
    for (const Metric& row : catalogue())
        if (row.source != "S" && registry.admits(row) == Rejection::owned_by_exporter)
            names.insert(std::string(row.name.substr(std::string_view("pangolin_").size())));
    return names;
}

// Families beyond the user's document are of the same sources.
const std::set<std::string> beyond{"site_info",
                                   "site_packets_total",
                                   "relay_bytes_total",
                                   "site_packet_drops_total",
                                   "resource_info",
                                   "resource_requests_aborted_total",
                                   "backend_info",
                                   "client_bandwidth_bytes_total",
                                   "tcp_connections_total",
                                   "tcp_retransmits_total",
                                   "session_checks_total",
                                   "session_check_duration_seconds",
                                   "wg_peer_info",
                                   "wg_peer_receive_bytes_total",
                                   "wg_peer_transmit_bytes_total",
                                   "wg_peer_last_handshake_timestamp_seconds"};

TEST(Ownership, FollowsWhatTheHostOffers) {
    for (const Host& host : hosts) {
        Snapshot snapshot;
        host.make(snapshot);
        ApplicationMetrics registry;
        registry.observe(snapshot);
        std::set<std::string> found;
        for (const std::string& name : measured(registry))
            if (!beyond.contains(name) && !name.starts_with("exporter_"))
                found.insert(name);
        EXPECT_EQ(found, host.measured) << host.description;
    }
}

ApplicationFamily sessions(double value) {
    return {
        .header = {.name = "pangolin_ui_active_sessions", .type = MetricType::gauge, .unit = "", .help = ""},
        .samples = {{{}, value}}};
}

double published_sessions(ApplicationMetrics& registry) {
    const auto snapshot = registry.collect();
    const auto* const family = snapshot->find("pangolin_ui_active_sessions");
    return family == nullptr ? -1 : std::get<double>(family->series.at(0).value);
}

double rejected_as_owned(ApplicationMetrics& registry) {
    const auto snapshot = registry.collect();
    for (const PublishedSeries& series :
         snapshot->find("pangolin_exporter_application_samples_rejected_total")->series) {
        if (series.labels->at(0).value == "owned_by_exporter")
            return std::get<double>(series.value);
    }
    return 0;
}

TEST(Ownership, WhatIsMeasuredLaterIsTakenBackAndStaysSo) {
    ApplicationMetrics registry;
    Snapshot host;
    registry.observe(host);
    EXPECT_EQ(registry.replace("scrape:a", {sessions(5)}).accepted, 1U);
    EXPECT_EQ(published_sessions(registry), 5);
    has_database(host);
    registry.observe(host);
    EXPECT_EQ(published_sessions(registry), -1);
    EXPECT_EQ(registry.replace("scrape:a", {sessions(6)}).rejected(Rejection::owned_by_exporter), 1U);
    // The database is away for a while: its family is not an application's for that time.
    registry.observe(Snapshot());
    EXPECT_EQ(registry.replace("scrape:a", {sessions(7)}).rejected(Rejection::owned_by_exporter), 1U);
    // One that was dropped, and two that came after.
    EXPECT_EQ(rejected_as_owned(registry), 3);
}

TEST(Ownership, IsTurnedRoundByPrefer) {
    ApplicationOptions options;
    options.prefer = {"pangolin_ui_active_sessions"};
    ApplicationMetrics registry(options);
    EXPECT_EQ(registry.replace("scrape:a", {sessions(5)}).accepted, 1U);
    Snapshot host;
    has_database(host);
    registry.observe(host);
    EXPECT_EQ(published_sessions(registry), 5);
    EXPECT_EQ(registry.replace("scrape:a", {sessions(6)}).accepted, 1U);
    EXPECT_EQ(published_sessions(registry), 6);
}

}  // namespace
}  // namespace pangolin
