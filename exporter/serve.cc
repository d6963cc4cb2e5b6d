#include <spdlog/spdlog.h>

#include <cstdio>
#include <memory>

#include "exporter/commands.h"
#include "exporter/signals.h"
#include "exporter/site_source.h"
#include "exporter/web_server.h"
#include "loader/preflight.h"
#include "userspace/certificates/certificate_monitor.h"
#include "userspace/http_monitor.h"

namespace pangolin {

CollectorOptions collector_options(const Configuration& configuration) {
    CollectorOptions options;
    options.netns = configuration.wireguard.netns;
    options.interfaces = configuration.wireguard.interfaces;
    options.attach = configuration.wireguard.attach;
    options.handshakes = configuration.wireguard.handshakes;
    options.sites = make_site_source(configuration.metadata, configuration.traefik);
    options.metadata_refresh = configuration.metadata.refresh;
    options.limits = {.max_peers = configuration.limits.max_peers,
                      .max_targets = configuration.limits.max_targets};
    options.parts.push_back(std::make_shared<CertificateMonitor>(configuration.traefik.acme));
    if (configuration.http.enabled)
        options.parts.push_back(std::make_shared<HttpMonitor>(
            HttpMonitorOptions{.pangolin = {.external = configuration.pangolin.external_port,
                                            .internal = configuration.pangolin.internal_port,
                                            .next = configuration.pangolin.next_port,
                                            .integration = configuration.pangolin.integration_port},
                               .cgroups = configuration.http.cgroups}));
    return options;
}

std::vector<ListenAddress> listen_addresses(const CommandLine& command_line,
                                            const Configuration& configuration) {
    return command_line.listen.empty() ? configuration.listen : command_line.listen;
}

int serve(const CommandLine& command_line, const Configuration& configuration) {
    const TerminationSignals signals;
    if (const auto possible = require_host(); !possible) {
        spdlog::error("{}", possible.error().message());
        return exit_failure;
    }
    Collector collector(collector_options(configuration));
    auto server = WebServer::start(
        {.listen = listen_addresses(command_line, configuration),
         .telemetry_path = command_line.telemetry_path},
        {.snapshot = [&] { return collector.collect(); }, .problems = [&] { return collector.problems(); }});
    if (!server) {
        spdlog::error("{}", server.error().message());
        return exit_failure;
    }
    collector.start();
    for (const ListenAddress& address : (*server)->addresses())
        spdlog::info("serving {} on {}", command_line.telemetry_path, address.to_string());
    signals.wait();
    spdlog::info("ending: detaching from all interfaces");
    (*server)->stop();
    return exit_success;
}

}  // namespace pangolin
