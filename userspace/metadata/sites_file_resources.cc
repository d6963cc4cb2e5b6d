#include "userspace/metadata/sites_file_resources.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

namespace pangolin {
namespace {

constexpr std::array<YamlChoice<std::string_view>, 3> protocols{
    {{"http", "http"}, {"tcp", "tcp"}, {"udp", "udp"}}};

}  // namespace

void SitesFileResources::read(YamlMapping& mapping, const Site& site) {
    std::string resource_id;
    mapping.require("resource_id", "Name the resource, as in 'resource_id: api'.");
    mapping.text("resource_id", resource_id);
    if (mapping.has("resource_id") && resource_id.empty())
        mapping.problem("resource_id", "is empty", "Give the resource a name of its own.");
    merge(mapping, resource_id);
    read_target(mapping, site, resource_id);
    mapping.finish();
}

SitesFileResources::Entry& SitesFileResources::merge(YamlMapping& mapping, const std::string& resource_id) {
    const auto [found, is_new] = entries_.try_emplace(resource_id);
    Entry& entry = found->second;
    Resource& resource = entry.resource;
    if (is_new) {
        resource.resource_id = resource_id;
        resource.name = resource_id;
        entry.line = mapping.line();
    }
    // An entry may only add to what another said of the same resource.
    const auto agree = [&](std::string_view key, const std::string& value, std::string& known,
                           bool is_known) {
        if (is_known && value != known)
            mapping.problem(key,
                            fmt::format("{} is called {} in line {}", in_quotes(resource_id),
                                        in_quotes(known), entry.line),
                            "Write the same everywhere, or only once.");
        known = value;
    };
    std::string name;
    mapping.text("name", name);
    if (!name.empty()) {
        agree("name", name, resource.name, entry.has_name);
        entry.has_name = true;
    }
    std::string domain;
    mapping.text("domain", domain);
    if (!domain.empty())
        agree("domain", domain, resource.domain, !resource.domain.empty());
    std::string_view protocol;
    mapping.choice<std::string_view>("protocol", protocol, protocols);
    if (!protocol.empty()) {
        agree("protocol", std::string(protocol), resource.protocol, entry.has_protocol);
        entry.has_protocol = true;
    }
    return entry;
}

void SitesFileResources::read_target(YamlMapping& mapping, const Site& site, const std::string& resource_id) {
    std::optional<IpAddress> address = site.tunnel_address;
    mapping.parsed("address", address, [](std::string_view text) -> Result<std::optional<IpAddress>> {
        const auto parsed = IpAddress::parse(text);
        if (!parsed)
            return std::unexpected(parsed.error());
        return *parsed;
    });
    std::uint16_t port = 0;
    mapping.integer("port", port, 1, 65535);
    if (port == 0)
        return;
    if (!address) {
        mapping.require("address", "Write the address that Traefik dials, as in 'address: 100.89.128.4'.");
        return;
    }
    const TargetAddress target = TargetAddress::make(*address, port);
    if (!seen_.insert({resource_id, site.site_id, target}).second)
        mapping.problem("port", fmt::format("{} is listed for this resource already", target.to_string()),
                        "Remove one of the two.");
    targets_.push_back({resource_id, site.site_id, target});
}

void SitesFileResources::finish(SiteDirectory& directory) {
    std::map<std::string_view, std::uint32_t> resources;
    for (const auto& [id, entry] : entries_) {
        resources.emplace(id, static_cast<std::uint32_t>(directory.resources.size()));
        directory.resources.push_back(entry.resource);
    }
    std::map<std::string_view, std::uint32_t> sites;
    for (std::uint32_t i = 0; i < directory.sites.size(); ++i)
        sites.emplace(directory.sites[i].site_id, i);
    for (const Listed& listed : targets_) {
        Target target;
        target.resource = resources.at(listed.resource_id);
        target.site = sites.at(listed.site_id);
        target.dialled = listed.address;
        if (directory.sites[*target.site].type != SiteType::newt)
            target.real = listed.address;
        const std::string& protocol = directory.resources[target.resource].protocol;
        target.method = protocol == "http" ? protocol : "";
        directory.targets.push_back(std::move(target));
    }
    std::ranges::stable_sort(directory.targets, {}, &Target::resource);
}

}  // namespace pangolin
