#include "userspace/metadata/directory_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "userspace/metadata/text.h"
#include "userspace/utf8.h"

namespace pangolin {
namespace {

const std::optional<std::string> no_name;

std::optional<SiteType> site_type(std::string_view text) {
    for (const SiteType type : {SiteType::newt, SiteType::wireguard, SiteType::local})
        if (text == to_string(type))
            return type;
    return std::nullopt;
}

std::optional<PathMatch> path_match(std::string_view text) {
    constexpr std::pair<std::string_view, PathMatch> words[] = {{"", PathMatch::none},
                                                                {"exact", PathMatch::exact},
                                                                {"prefix", PathMatch::prefix},
                                                                {"regex", PathMatch::regex}};
    const auto* const found = std::ranges::find(words, text, &std::pair<std::string_view, PathMatch>::first);
    return found == std::end(words) ? std::nullopt : std::optional(found->second);
}

// The address before the "/" of a column that holds an address with the length of its network.
std::optional<IpAddress> host_part(const std::optional<std::string>& text) {
    if (!text)
        return std::nullopt;
    const auto address = IpAddress::parse(std::string_view(*text).substr(0, text->find('/')));
    return address ? std::optional(*address) : std::nullopt;
}

bool uses_browser_gateway(const Resource& resource) {
    return resource.protocol == "ssh" || resource.protocol == "rdp" || resource.protocol == "vnc";
}

template <class Row>
std::string nice_id_or_number(const Row& row) {
    std::string label = valid_utf8(row.nice_id.value_or(""));
    return label.empty() ? std::to_string(row.id) : label;
}

}  // namespace

template <class Row>
RowFields DirectoryReader::fields(std::string_view kind, const Row& row) {
    return {kind, row.id, row.nice_id, problems_};
}

// Appends what the rows say to `things`, in the order of the labels.
template <class Row, class Label, class Interpret, class Thing>
DirectoryReader::Places DirectoryReader::read_labelled(std::string_view kind, const std::vector<Row>& rows,
                                                       UniqueLabels& labels, Label label_of,
                                                       Interpret interpret, std::vector<Thing>& things,
                                                       std::string Thing::* label) {
    std::vector<LabelCandidate> candidates;
    candidates.reserve(rows.size());
    for (const Row& row : rows)
        candidates.push_back({row.id, label_of(row), valid_utf8(row.organisation.value_or(""))});
    std::vector<std::string> made = labels.make(candidates);
    for (std::size_t i = 0; i < rows.size(); ++i)
        if (made[i] != candidates[i].label)
            fields(kind, rows[i])
                .report(fmt::format("other {}s have or had the name {}, too; this one becomes {}", kind,
                                    in_quotes(candidates[i].label), in_quotes(made[i])));
    std::vector<std::size_t> order(rows.size());
    std::iota(order.begin(), order.end(), 0U);
    std::ranges::sort(order, {}, [&](std::size_t i) -> const std::string& { return made[i]; });
    Places places;
    things.reserve(rows.size());
    for (const std::size_t i : order) {
        places.emplace(rows[i].id, static_cast<std::uint32_t>(things.size()));
        things.push_back(interpret(rows[i]));
        things.back().*label = std::move(made[i]);
    }
    return places;
}

SiteDirectory DirectoryReader::read(const Rows& rows) {
    problems_.begin();
    SiteDirectory directory;
    const auto read_row = [this](const auto& row) { return interpret(row); };
    const Places sites = read_labelled(
        "site", rows.sites, site_labels_, [this](const SiteRow& row) { return label_of(row); }, read_row,
        directory.sites, &Site::site_id);
    for (const NewtRow& row : rows.newts)
        if (const auto site = sites.find(row.id); site != sites.end())
            directory.sites[site->second].newt_id = row.newt_id.value_or("");
    const Places resources =
        read_labelled("resource", rows.resources, resource_labels_, nice_id_or_number<ResourceRow>, read_row,
                      directory.resources, &Resource::resource_id);
    read_labelled("client", rows.clients, client_labels_, nice_id_or_number<ClientRow>, read_row,
                  directory.clients, &Client::client_id);
    read_targets(rows, sites, resources, directory);
    problems_.log();
    return directory;
}

std::string DirectoryReader::label_of(const SiteRow& row) {
    if (label_ == SiteLabel::site_id)
        return std::to_string(row.id);
    std::string label = valid_utf8((label_ == SiteLabel::name ? row.name : row.nice_id).value_or(""));
    if (!label.empty())
        return label;
    fields("site", row)
        .report(fmt::format("no {}; the site is called {}", label_ == SiteLabel::name ? "name" : "niceId",
                            row.id));
    return std::to_string(row.id);
}

Site DirectoryReader::interpret(const SiteRow& row) {
    const RowFields of = fields("site", row);
    Site site;
    site.name = of.text("name", row.name);
    site.organisation = of.text("orgId", row.organisation);
    site.exit_node = of.text("the exit node's name", row.exit_node);
    site.region = of.text("the exit node's region", row.region);
    site.exit_node_public_key = of.key("the exit node's publicKey", row.exit_node_public_key);
    if (row.type) {
        const auto type = site_type(*row.type);
        if (!type)
            of.report(fmt::format("unknown type {}, taken for newt", in_quotes(*row.type)));
        site.type = type.value_or(SiteType::newt);
    }
    site.online = of.boolean("online", row.online);
    if (site.type == SiteType::local)
        return site;
    site.public_key = of.key("pubKey", row.public_key);
    site.listen_port = of.port("listenPort", row.listen_port);
    if (const auto network = of.network("subnet", row.subnet)) {
        site.tunnel.push_back(*network);
        site.tunnel_address = host_part(row.subnet);
    }
    return site;
}

Resource DirectoryReader::interpret(const ResourceRow& row) {
    const RowFields of = fields("resource", row);
    Resource resource;
    resource.name = of.text("name", row.name);
    resource.organisation = of.text("orgId", row.organisation);
    resource.domain = of.text("fullDomain", row.domain);
    if (row.mode && !row.mode->empty())
        resource.protocol = of.text("mode", row.mode);
    else if (!of.boolean("http", row.http).value_or(true))
        resource.protocol = row.protocol && *row.protocol == "udp" ? "udp" : "tcp";
    resource.ssl = of.boolean("ssl", row.ssl).value_or(false);
    resource.enabled = of.boolean("enabled", row.enabled).value_or(true);
    resource.proxy_port = of.port("proxyPort", row.proxy_port);
    resource.number = row.id;
    return resource;
}

Client DirectoryReader::interpret(const ClientRow& row) {
    const RowFields of = fields("client", row);
    Client client;
    client.name = of.text("name", row.name);
    client.organisation = of.text("orgId", row.organisation);
    client.public_key = of.key("pubKey", row.public_key);
    client.tunnel = of.network("exitNodeSubnet", row.tunnel);
    if (of.network("subnet", row.subnet))
        client.address = host_part(row.subnet);
    client.exit_node_public_key = of.key("the exit node's publicKey", row.exit_node_public_key);
    return client;
}

void DirectoryReader::read_targets(const Rows& rows, const Places& sites, const Places& resources,
                                   SiteDirectory& directory) {
    std::map<std::int64_t, std::size_t> places;
    directory.targets.reserve(rows.targets.size());
    for (const TargetRow& row : rows.targets) {
        if (!row.resource_id)
            continue;
        const RowFields of("target", row.id, no_name, problems_);
        const auto resource = resources.find(*row.resource_id);
        if (resource == resources.end()) {
            of.report(fmt::format("there is no resource {}; the target is left out", *row.resource_id));
            continue;
        }
        const auto site = row.site_id ? sites.find(*row.site_id) : sites.end();
        if (row.site_id && site == sites.end())
            of.report(fmt::format("there is no site {}", *row.site_id));
        Target target = interpret(row, directory.resources[resource->second],
                                  site == sites.end() ? nullptr : &directory.sites[site->second]);
        target.resource = resource->second;
        if (site != sites.end())
            target.site = site->second;
        places.emplace(row.id, directory.targets.size());
        directory.targets.push_back(std::move(target));
    }
    for (const HealthCheckRow& row : rows.health_checks)
        if (row.target_id)
            if (const auto place = places.find(*row.target_id); place != places.end())
                add_health(row, directory.targets[place->second]);
    std::ranges::stable_sort(directory.targets, {}, &Target::resource);
}

Target DirectoryReader::interpret(const TargetRow& row, const Resource& resource, const Site* site) {
    const RowFields of("target", row.id, no_name, problems_);
    Target target;
    target.enabled = of.boolean("enabled", row.enabled).value_or(true);
    target.method = of.text("method", row.method);
    target.path = of.text("path", row.path);
    const auto match = path_match(row.path_match.value_or(""));
    if (!match)
        of.report(fmt::format("unknown pathMatchType {}", in_quotes(*row.path_match)));
    if (!target.path.empty())
        target.path_match = match.value_or(PathMatch::none);
    const std::string host = of.text("ip", row.ip);
    const auto port = of.port("port", row.port);
    if (!host.empty() && port)
        target.real = TargetAddress::make(host, *port);
    const auto internal_port = of.port("internalPort", row.internal_port);
    if (site == nullptr)
        return target;
    if (site->type != SiteType::newt) {
        if (!uses_browser_gateway(resource))
            target.dialled = target.real;
    } else if (site->tunnel_address) {
        const auto dialled_port = uses_browser_gateway(resource) ? newt_gateway_port : internal_port;
        if (dialled_port)
            target.dialled = TargetAddress::make(*site->tunnel_address, *dialled_port);
    }
    return target;
}

void DirectoryReader::add_health(const HealthCheckRow& row, Target& target) {
    const RowFields of("health check", row.id, no_name, problems_);
    // Of several the one that is in use counts.
    if (!of.boolean("hcEnabled", row.enabled).value_or(false))
        return;
    target.health_checked = true;
    if (row.health == "healthy")
        target.health = TargetHealth::healthy;
    else if (row.health == "unhealthy")
        target.health = TargetHealth::unhealthy;
    else if (row.health && !row.health->empty() && row.health != "unknown")
        of.report(fmt::format("unknown hcHealth {}", in_quotes(*row.health)));
}

}  // namespace pangolin
