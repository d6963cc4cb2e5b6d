#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <utility>

#include "exporter/application/application_metrics.h"
#include "exporter/application/otlp_receiver.h"
#include "exporter/application/scraper.h"
#include "exporter/commands.h"
#include "exporter/signals.h"
#include "exporter/site_source.h"
#include "exporter/web_server.h"
#include "loader/base/number.h"
#include "loader/confinement.h"
#include "loader/pangolin_process.h"
#include "loader/preflight.h"
#include "userspace/access_log/access_log_monitor.h"
#include "userspace/accounts/account_monitor.h"
#include "userspace/certificates/certificate_monitor.h"
#include "userspace/host/database_monitor.h"
#include "userspace/host/host_monitor.h"
#include "userspace/metadata/postgres_options.h"

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

// Of the server as Pangolin dials it, which may be another than the one that is read here.
std::uint16_t postgres_port(const Configuration& configuration) {
    constexpr std::uint16_t usual = 5432;
    const std::string& own = configuration.pangolin.postgres_connection_string;
    const auto options = parse_postgres_options(own.empty() ? configuration.metadata.postgres : own);
    if (!options)
        return usual;
    const auto port =
        std::ranges::find(options->parameters, "port", &std::pair<std::string, std::string>::first);
    return port == options->parameters.end() ? usual
                                             : parse_number<std::uint16_t>(port->second).value_or(usual);
}

PangolinDatabase pangolin_database(const Configuration& configuration) {
    if (configuration.metadata.kind == MetadataKind::sqlite)
        return SqliteDatabase{configuration.metadata.sqlite};
    if (configuration.metadata.kind == MetadataKind::postgres)
        return PostgresDatabase{postgres_port(configuration)};
    return {};
}

void watch_processes(const Configuration& configuration, CollectorOptions& options) {
    const auto finder = std::make_shared<PangolinProcessFinder>(pangolin_ports(configuration.pangolin));
    const auto database = std::make_shared<DatabaseMonitor>(pangolin_database(configuration),
                                                            [finder] { return finder->find(); });
    options.http.pangolin = finder;
    options.parts.push_back(database);
    options.parts.push_back(std::make_shared<HostMonitor>([finder, database] {
        std::optional<ProcessIdentity> identity;
        const auto found = finder->find();
        if (found)
            identity = {found->pid, found->start_time};
        database->follow(found);
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
    if (!configuration.traefik.access_log.empty())
        options.parts.push_back(std::make_shared<AccessLogMonitor>(configuration.traefik.access_log));
    options.metadata_refresh = configuration.metadata.refresh;
    options.http.enabled = configuration.http.enabled;
    options.http.cgroups = configuration.http.cgroups;
    options.limits = {.max_peers = configuration.limits.max_peers,
                      .max_targets = configuration.limits.max_targets};
    return options;
}

std::vector<ListenAddress> listen_addresses(const CommandLine& command_line,
                                            const Configuration& configuration) {
    return command_line.listen.empty() ? configuration.listen : command_line.listen;
}

ApplicationOptions application_options(const Configuration& configuration) {
    ApplicationOptions options;
    options.limits.series = configuration.limits.max_series;
    options.limits.series_per_family =
        std::min<std::size_t>(options.limits.series_per_family, configuration.limits.max_series);
    options.prefer = configuration.application.prefer;
    options.max_age = configuration.application.otlp.max_age;
    return options;
}

namespace {

Result<void> give_up_privileges(const Configuration& configuration,
                                const std::vector<ListenAddress>& listen) {
    if (!configuration.confine)
        return {};
    // Where unprivileged ports begin, unless net.ipv4.ip_unprivileged_port_start says otherwise.
    constexpr std::uint16_t first_free_port = 1024;
    const auto is_privileged = [](const ListenAddress& address) {
        return address.port != 0 && address.port < first_free_port;
    };
    const OtlpConfiguration& otlp = configuration.application.otlp;
    return confine({.privileged_port = std::ranges::any_of(listen, is_privileged) ||
                                       (otlp.enabled && is_privileged(otlp.listen))});
}

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
    const std::vector<ListenAddress> listen = listen_addresses(command_line, configuration);
    auto possible = require_host();
    // Nothing of anybody else's has been read yet but the configuration, and no thread been started.
    if (possible)
        possible = give_up_privileges(configuration, listen);
    if (!possible) {
        spdlog::error("{}", possible.error().message());
        return exit_failure;
    }
    CollectorOptions options = collector_options(configuration);
    auto persistence =
        Persistence::open({.state_dir = configuration.state_dir, .pin_dir = configuration.pin_dir});
    if (!persistence) {
        spdlog::error("{}", persistence.error().message());
        return exit_failure;
    }
    options.persistence = std::move(*persistence);
    const bool counts_on = options.persistence->pins() != nullptr;
    Collector collector(std::move(options));
    ApplicationMetrics application(application_options(configuration));
    const auto receiver = start_otlp(configuration.application.otlp, application);
    const Scraper scraper(configuration.application.scrape, application);
    const auto collect = [&] {
        auto snapshot = collector.collect();
        application.observe(*snapshot);
        return snapshot;
    };
    auto server = WebServer::start({.listen = listen,
                                    .telemetry_path = command_line.telemetry_path,
                                    .config_file = command_line.web_config_file},
                                   {.snapshot = collect,
                                    .application = [&] { return application.collect(); },
                                    .problems = [&] { return collector.problems(); }});
    if (!server) {
        spdlog::error("{}", server.error().message());
        return exit_failure;
    }
    collector.start();
    // Applications may have begun: from now on it is known who owns what.
    collect();
    for (const ListenAddress& address : (*server)->addresses())
        spdlog::info("serving {} on {}{}", command_line.telemetry_path, address.to_string(),
                     (*server)->secure() ? " (TLS)" : "");
    signals.wait();
    if (counts_on)
        spdlog::info("ending: the kernel counts on (HINT: --detach ends that)");
    else
        spdlog::info("ending: detaching from all interfaces");
    (*server)->stop();
    return exit_success;
}

}  // namespace pangolin
