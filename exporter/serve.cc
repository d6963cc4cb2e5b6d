#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>

#include "exporter/application/application_metrics.h"
#include "exporter/application/otlp_receiver.h"
#include "exporter/application/scraper.h"
#include "exporter/commands.h"
#include "exporter/signals.h"
#include "exporter/site_source.h"
#include "exporter/web_server.h"
#include "loader/cgroup.h"
#include "loader/kernel_btf.h"
#include "loader/pangolin_process.h"
#include "loader/preflight.h"
#include "userspace/accounts/account_monitor.h"
#include "userspace/certificates/certificate_monitor.h"
#include "userspace/host/host_monitor.h"
#include "userspace/host/sqlite_monitor.h"

namespace pangolin {

namespace {

void read_database(const Configuration& configuration, CollectorOptions& options) {
    const auto certificates = std::make_shared<CertificateMonitor>(configuration.traefik.acme);
    options.parts.push_back(certificates);
    std::shared_ptr<AccountMonitor> accounts;
    const MetadataKind kind = configuration.metadata.kind;
    if (kind == MetadataKind::sqlite || kind == MetadataKind::postgres) {
        accounts = std::make_shared<AccountMonitor>(certificates);
        options.parts.push_back(accounts);
    }
    options.sites = make_site_source(configuration.metadata, configuration.traefik, accounts);
}

PangolinPorts pangolin_ports(const PangolinSettings& settings) {
    return {.external = settings.external_port,
            .internal = settings.internal_port,
            .next = settings.next_port,
            .integration = settings.integration_port};
}

void watch_processes(const Configuration& configuration, CollectorOptions& options) {
    std::shared_ptr<SqliteMonitor> sqlite;
    if (configuration.metadata.kind == MetadataKind::sqlite) {
        sqlite = std::make_shared<SqliteMonitor>(configuration.metadata.sqlite);
        options.parts.push_back(sqlite);
    }
    const auto finder = std::make_shared<PangolinProcessFinder>(pangolin_ports(configuration.pangolin));
    options.parts.push_back(std::make_shared<HostMonitor>([finder, sqlite] {
        std::optional<ProcessIdentity> identity;
        if (const auto found = finder->find())
            identity = {found->pid, found->start_time};
        if (sqlite)
            sqlite->follow(identity);
        return identity;
    }));
}

}  // namespace

CollectorOptions collector_options(const Configuration& configuration) {
    CollectorOptions options;
    options.netns = configuration.wireguard.netns;
    options.interfaces = configuration.wireguard.interfaces;
    options.attach = configuration.wireguard.attach;
    options.handshakes = configuration.wireguard.handshakes;
    read_database(configuration, options);
    watch_processes(configuration, options);
    options.metadata_refresh = configuration.metadata.refresh;
    options.http = {.enabled = configuration.http.enabled,
                    .pangolin = pangolin_ports(configuration.pangolin),
                    .cgroups = configuration.http.cgroups};
    options.limits = {.max_peers = configuration.limits.max_peers,
                      .max_targets = configuration.limits.max_targets};
    return options;
}

std::vector<ListenAddress> listen_addresses(const CommandLine& command_line,
                                            const Configuration& configuration) {
    return command_line.listen.empty() ? configuration.listen : command_line.listen;
}

// What HttpProgram cannot do without.
bool can_read_http(const HttpConfiguration& http) {
    return http.enabled && (!http.cgroups.empty() || find_cgroup_root()) && KernelBtf::load();
}

ApplicationOptions application_options(const Configuration& configuration) {
    ApplicationOptions options;
    options.limits.series = configuration.limits.max_series;
    options.limits.series_per_family =
        std::min<std::size_t>(options.limits.series_per_family, configuration.limits.max_series);
    options.prefer = configuration.application.prefer;
    if (!can_read_http(configuration.http))
        options.unavailable_sources += 'H';
    options.max_age = configuration.application.otlp.max_age;
    return options;
}

namespace {

// Null: switched off, or not possible, which the log says. The rest goes on without it: the port is one that
// an OpenTelemetry collector may have for good reason.
std::unique_ptr<OtlpReceiver> start_otlp(const OtlpConfiguration& configuration,
                                         ApplicationMetrics& application) {
    std::unique_ptr<OtlpReceiver> receiver;
    if (configuration.enabled) {
        auto started = OtlpReceiver::start(
            {.listen = configuration.listen, .token_file = configuration.token_file}, application);
        if (started)
            receiver = std::move(*started);
        else
            spdlog::warn("application metrics are not received: {}", started.error().message());
    }
    application.set_own("pangolin_exporter_feature_enabled", {"otlp"}, receiver ? 1 : 0);
    if (receiver)
        for (const ListenAddress& address : receiver->addresses())
            spdlog::info("receiving OTLP on http://{}/v1/metrics", address.to_string());
    return receiver;
}

}  // namespace

int serve(const CommandLine& command_line, const Configuration& configuration) {
    const TerminationSignals signals;
    if (const auto possible = require_host(); !possible) {
        spdlog::error("{}", possible.error().message());
        return exit_failure;
    }
    Collector collector(collector_options(configuration));
    ApplicationMetrics application(application_options(configuration));
    const auto receiver = start_otlp(configuration.application.otlp, application);
    const Scraper scraper(configuration.application.scrape, application);
    auto server = WebServer::start({.listen = listen_addresses(command_line, configuration),
                                    .telemetry_path = command_line.telemetry_path,
                                    .config_file = command_line.web_config_file},
                                   {.snapshot = [&] { return collector.collect(); },
                                    .application = [&] { return application.collect(); },
                                    .problems = [&] { return collector.problems(); }});
    if (!server) {
        spdlog::error("{}", server.error().message());
        return exit_failure;
    }
    collector.start();
    for (const ListenAddress& address : (*server)->addresses())
        spdlog::info("serving {} on {}{}", command_line.telemetry_path, address.to_string(),
                     (*server)->secure() ? " (TLS)" : "");
    signals.wait();
    spdlog::info("ending: detaching from all interfaces");
    (*server)->stop();
    return exit_success;
}

}  // namespace pangolin
