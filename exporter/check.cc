#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "exporter/commands.h"
#include "exporter/site_source.h"
#include "loader/network_namespace.h"
#include "loader/pin_root.h"
#include "loader/preflight.h"
#include "loader/wireguard_interface.h"
#include "userspace/access_log/access_log_monitor.h"
#include "userspace/certificates/acme_watcher.h"
#include "userspace/metadata/text.h"
#include "userspace/wireguard/device.h"

namespace pangolin {
namespace {

std::string_view word(FindingLevel level) {
    switch (level) {
        case FindingLevel::ok:
            return "ok";
        case FindingLevel::missing:
            return "missing";
        case FindingLevel::fatal:
            break;
    }
    return "FATAL";
}

std::vector<Finding> inspect_interfaces(const WireGuardConfiguration& configuration) {
    Result<std::vector<WireGuardInterface>> found;
    if (const auto namespaces = find_network_namespaces(configuration.netns))
        found = find_wireguard_interfaces(*namespaces, configuration.interfaces);
    else
        found = std::unexpected(namespaces.error());
    if (!found)
        return {{FindingLevel::missing, "wireguard", found.error().message()}};
    if (found->empty())
        return {{FindingLevel::missing, "wireguard",
                 Error{"no interface found", "Start gerbil; the exporter finds wg0 when it appears.", 0}
                     .message()}};
    std::vector<Finding> findings;
    for (const WireGuardInterface& interface : *found) {
        WireGuardDevice device;
        Result<void> read;
        if (auto reader = open_wireguard_reader(interface))
            read = (*reader)->read(device);
        else
            read = std::unexpected(reader.error());
        const std::string where = interface.name + " in network namespace " + interface.netns.name;
        if (read)
            findings.push_back({FindingLevel::ok, "wireguard",
                                fmt::format("{}: {} peers, {} implementation", where, device.peers.size(),
                                            to_string(interface.implementation))});
        else
            findings.push_back({FindingLevel::missing, "wireguard", where + ": " + read.error().message()});
    }
    return findings;
}

Finding inspect_sites(const Configuration& configuration) {
    const auto source = make_site_source(configuration.metadata, configuration.traefik);
    const auto directory = source->read();
    if (!directory)
        return {FindingLevel::missing, std::string(source->name()), directory.error().message()};
    return {FindingLevel::ok, std::string(source->name()),
            fmt::format("{} sites, {} resources, {} targets, {} clients", directory->sites.size(),
                        directory->resources.size(), directory->targets.size(), directory->clients.size())};
}

Finding inspect_certificates(const TraefikConfiguration& traefik) {
    const auto certificates = AcmeWatcher::inspect(traefik.acme);
    if (!certificates)
        return {FindingLevel::missing, "acme", certificates.error().message()};
    return {FindingLevel::ok, "acme", fmt::format("{}: {} certificates", traefik.acme, *certificates)};
}

// What counts on while no exporter runs.
std::vector<Finding> inspect_pins(const std::string& pin_dir) {
    if (pin_dir.empty())
        return {{FindingLevel::ok, "pins", "metrics.pin_dir is empty: counting ends with the exporter"}};
    const auto namespaces = find_network_namespaces("auto").value_or(std::vector<NetworkNamespace>{});
    std::vector<Finding> findings;
    for (const PinnedPrograms& pinned : list_pinned(pin_dir)) {
        std::string where = "this host";
        if (const auto& interface = pinned.interface) {
            const auto netns = std::ranges::find_if(namespaces, [&](const NetworkNamespace& each) {
                return each.id.inode == interface->netns_inode;
            });
            where = fmt::format("interface {} in network namespace {}", interface->index,
                                netns != namespaces.end() ? netns->name : "that is gone");
        }
        findings.push_back({FindingLevel::ok, "pins",
                            fmt::format("{}: {} of {}, {}", pinned.folder.path(), pinned.name, where,
                                        pinned.attached ? "attached" : "not attached any more")});
    }
    if (findings.empty())
        findings.push_back({FindingLevel::ok, "pins", "nothing is attached by way of " + pin_dir});
    return findings;
}

Finding inspect_access_log(const TraefikConfiguration& traefik) {
    const auto size = AccessLogMonitor::inspect(traefik.access_log);
    if (!size)
        return {FindingLevel::missing, "access_log", size.error().message()};
    return {FindingLevel::ok, "access_log", fmt::format("{}: {} bytes", traefik.access_log, *size)};
}

}  // namespace

int check(const CommandLine&, const Configuration& configuration) {
    std::vector<Finding> findings = inspect_host();
    std::ranges::move(inspect_interfaces(configuration.wireguard), std::back_inserter(findings));
    std::ranges::move(inspect_pins(configuration.pin_dir), std::back_inserter(findings));
    findings.push_back(inspect_sites(configuration));
    if (!configuration.traefik.acme.empty())
        findings.push_back(inspect_certificates(configuration.traefik));
    if (!configuration.traefik.access_log.empty())
        findings.push_back(inspect_access_log(configuration.traefik));
    for (const Finding& finding : findings)
        fmt::print("{:<8} {:<11} {}\n", word(finding.level), finding.subject, escaped(finding.detail));
    const bool fatal = std::ranges::any_of(
        findings, [](const Finding& finding) { return finding.level == FindingLevel::fatal; });
    return fatal ? exit_failure : exit_success;
}

}  // namespace pangolin
