#include "tests/support/pangolin_sample.h"

namespace pangolin {
namespace {

constexpr const char* newt_key = "pBvwk95hj7F8QPTpw/d/oQ+LQYcwWHEOTixoj9O1XEA=";
constexpr const char* exit_node_key = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

std::string site_rows(const PangolinSchema& schema) {
    const auto site = [&](const char* id, const char* nice_id, const char* type, const char* key,
                          const char* subnet, const char* port) {
        return schema.insert("sites", {{"siteId", id},
                                       {"orgId", "'lab'"},
                                       {"niceId", nice_id},
                                       {"exitNode", "1"},
                                       {"name", "'Site'"},
                                       {"pubKey", key},
                                       {"subnet", subnet},
                                       {"exitNodeSubnet", subnet},
                                       {"bytesIn", "12"},
                                       {"listenPort", port},
                                       {"type", type},
                                       {"online", "TRUE"}});
    };
    const std::string key = std::string("'") + newt_key + "'";
    return site("1", "'newt-home'", "'newt'", key.c_str(), "'100.89.128.4/30'", "51234") +
           site("2", "'a-router'", "'wireguard'", "NULL", "'100.89.128.9/30'", "NULL") +
           site("3", "'here'", "'local'", "NULL", "'0.0.0.0/32'", "NULL") +
           site("4", "'new'", "'newt'", "NULL", "NULL", "NULL");
}

std::string resource_rows(const PangolinSchema& schema) {
    const auto resource = [&](const char* id, const char* organisation, const char* nice_id, const char* mode,
                              const char* domain, const char* port, const char* enabled) {
        const std::string_view mode_word = mode;
        const bool raw = mode_word == "'tcp'" || mode_word == "'udp'";
        return schema.insert("resources", {{"resourceId", id},
                                           {"resourceGuid", "'guid'"},
                                           {"orgId", organisation},
                                           {"niceId", nice_id},
                                           {"name", "'Resource'"},
                                           {"fullDomain", domain},
                                           {"ssl", raw ? "FALSE" : "TRUE"},
                                           {"http", raw ? "FALSE" : "TRUE"},
                                           {"protocol", mode_word == "'udp'" ? "'udp'" : "'tcp'"},
                                           {"mode", mode},
                                           {"proxyPort", port},
                                           {"enabled", enabled}});
    };
    std::string rows = resource("1", "'lab'", "'web'", "'http'", "'web.example.com'", "NULL", "TRUE") +
                       resource("2", "'lab'", "'db'", "'tcp'", "NULL", "5432", "TRUE") +
                       resource("3", "'lab'", "'dns'", "'udp'", "NULL", "5353", "FALSE") +
                       resource("4", "'other'", "'web'", "'http'", "'web.example.org'", "NULL", "TRUE");
    if (schema.has("resources", "mode"))
        rows += resource("5", "'lab'", "'console'", "'ssh'", "'ssh.example.com'", "NULL", "TRUE");
    return rows;
}

std::string target_rows(const PangolinSchema& schema) {
    const auto target = [&](const char* id, const char* resource, const char* site, const char* ip,
                            const char* port, const char* internal_port, const char* method,
                            const char* enabled = "TRUE") {
        const bool has_path = std::string_view(id) == "1";
        return schema.insert("targets", {{"targetId", id},
                                         {"resourceId", resource},
                                         {"siteId", site},
                                         {"ip", ip},
                                         {"port", port},
                                         {"internalPort", internal_port},
                                         {"method", method},
                                         {"path", has_path ? "'/api'" : "NULL"},
                                         {"pathMatchType", has_path ? "'prefix'" : "NULL"},
                                         {"enabled", enabled}});
    };
    std::string rows = target("1", "1", "1", "'nginx'", "80", "40001", "'http'") +
                       target("2", "1", "2", "'192.168.1.5'", "8443", "NULL", "'https'") +
                       target("3", "1", "3", "'container'", "3000", "NULL", "'h2c'", "FALSE") +
                       target("4", "2", "1", "'10.1.2.3'", "5432", "40002", "NULL") +
                       target("5", "3", "1", "'fd00::53'", "53", "40003", "NULL") +
                       target("6", "4", "4", "'localhost'", "80", "40001", "'http'");
    if (schema.has("resources", "mode"))
        rows += target("7", "5", "1", "'localhost'", "22", "40004", "NULL");
    if (schema.has("targets", "providerId"))
        rows += target("8", "NULL", "1", "'llm'", "11434", "40005", "'http'");
    return rows;
}

std::string other_rows(const PangolinSchema& schema) {
    const auto check = [&](const char* id, const char* target, const char* enabled, const char* health) {
        return schema.insert("targetHealthCheck", {{"targetHealthCheckId", id},
                                                   {"targetId", target},
                                                   {"hcEnabled", enabled},
                                                   {"hcHealth", health}});
    };
    const auto client = [&](const char* id, const char* organisation, const char* nice_id,
                            const char* tunnel) {
        return schema.insert("clients", {{"clientId", id},
                                         {"orgId", organisation},
                                         {"exitNode", "1"},
                                         {"niceId", nice_id},
                                         {"name", "'Laptop'"},
                                         {"pubKey", std::string("'") + newt_key + "'"},
                                         {"subnet", "'100.90.128.7/24'"},
                                         {"exitNodeSubnet", tunnel},
                                         {"type", "'olm'"}});
    };
    return check("1", "1", "TRUE", "'healthy'") + check("2", "2", "TRUE", "'unhealthy'") +
           check("3", "4", "FALSE", "'healthy'") + client("1", "'lab'", "'laptop'", "'100.89.128.64/30'") +
           client("2", "'lab'", "'phone'", "NULL");
}

std::vector<Site> sites() {
    const WireGuardKey exit_node = WireGuardKey::from_base64(exit_node_key).value();
    const auto site = [&](const char* label, SiteType type) {
        Site made;
        made.site_id = label;
        made.name = "Site";
        made.organisation = "lab";
        made.type = type;
        made.exit_node = "main";
        made.region = "eu";
        made.exit_node_public_key = exit_node;
        made.online = true;
        return made;
    };
    std::vector<Site> list{site("a-router", SiteType::wireguard), site("here", SiteType::local),
                           site("new", SiteType::newt), site("newt-home", SiteType::newt)};
    list[0].tunnel = {IpPrefix::parse("100.89.128.8/30").value()};
    list[0].tunnel_address = IpAddress::parse("100.89.128.9").value();
    list[3].tunnel = {IpPrefix::parse("100.89.128.4/30").value()};
    list[3].tunnel_address = IpAddress::parse("100.89.128.4").value();
    list[3].public_key = WireGuardKey::from_base64(newt_key).value();
    list[3].listen_port = 51234;
    return list;
}

}  // namespace

std::string sample_rows(const PangolinSchema& schema) {
    return schema.beginning() + site_rows(schema) + resource_rows(schema) + target_rows(schema) +
           other_rows(schema);
}

SiteDirectory sample_directory(const PangolinSchema& schema) {
    const bool named = schema.has("resources", "niceId");
    const bool gateway = schema.has("resources", "mode");
    const bool paths = schema.has("targets", "path");
    const bool checks = schema.has("targetHealthCheck");
    SiteDirectory directory;
    directory.sites = sites();

    const Resource web{
        named ? "lab/web" : "1", "Resource", "lab", "web.example.com", "http", true, true, {}, 1};
    const Resource db{named ? "db" : "2", "Resource", "lab", "", "tcp", false, true, 5432, 2};
    const Resource dns{named ? "dns" : "3", "Resource", "lab", "", "udp", false, false, 5353, 3};
    const Resource other{
        named ? "other/web" : "4", "Resource", "other", "web.example.org", "http", true, true, {}, 4};
    const Resource ssh{"console", "Resource", "lab", "ssh.example.com", "ssh", true, true, {}, 5};
    if (!named)
        directory.resources = {web, db, dns, other};
    else if (!gateway)
        directory.resources = {db, dns, web, other};
    else
        directory.resources = {ssh, db, dns, web, other};

    const auto place = [&](const Resource& resource) {
        return static_cast<std::uint32_t>(std::ranges::find(directory.resources, resource) -
                                          directory.resources.begin());
    };
    const auto address = [](const char* host, std::uint16_t port) { return TargetAddress::make(host, port); };
    constexpr std::uint32_t router = 0, here = 1, fresh = 2, newt = 3;
    Target first{.resource = place(web),
                 .site = newt,
                 .dialled = address("100.89.128.4", 40001),
                 .resolved = {},
                 .real = address("nginx", 80),
                 .method = "http",
                 .path = paths ? "/api" : "",
                 .path_match = paths ? PathMatch::prefix : PathMatch::none};
    Target second{.resource = place(web),
                  .site = router,
                  .dialled = address("192.168.1.5", 8443),
                  .resolved = {},
                  .real = address("192.168.1.5", 8443),
                  .method = "https",
                  .path = ""};
    if (checks) {
        first.health_checked = second.health_checked = true;
        first.health = TargetHealth::healthy;
        second.health = TargetHealth::unhealthy;
    }
    directory.targets = {first,
                         second,
                         {.resource = place(web),
                          .site = here,
                          .dialled = address("container", 3000),
                          .resolved = {},
                          .real = address("container", 3000),
                          .method = "h2c",
                          .path = "",
                          .enabled = false},
                         {.resource = place(db),
                          .site = newt,
                          .dialled = address("100.89.128.4", 40002),
                          .resolved = {},
                          .real = address("10.1.2.3", 5432),
                          .method = "",
                          .path = ""},
                         {.resource = place(dns),
                          .site = newt,
                          .dialled = address("100.89.128.4", 40003),
                          .resolved = {},
                          .real = address("fd00::53", 53),
                          .method = "",
                          .path = ""},
                         {.resource = place(other),
                          .site = fresh,
                          .dialled = {},
                          .resolved = {},
                          .real = address("localhost", 80),
                          .method = "http",
                          .path = ""}};
    if (gateway)
        directory.targets.push_back({.resource = place(ssh),
                                     .site = newt,
                                     .dialled = address("100.89.128.4", newt_gateway_port),
                                     .resolved = {},
                                     .real = address("localhost", 22),
                                     .method = "",
                                     .path = ""});
    std::ranges::stable_sort(directory.targets, {}, &Target::resource);

    const WireGuardKey key = WireGuardKey::from_base64(newt_key).value();
    const WireGuardKey exit_node = WireGuardKey::from_base64(exit_node_key).value();
    const IpAddress client_address = IpAddress::parse("100.90.128.7").value();
    directory.clients = {{"laptop", "Laptop", "lab", key, {}, client_address, exit_node},
                         {"phone", "Laptop", "lab", key, {}, client_address, exit_node}};
    if (schema.has("clients", "exitNodeSubnet"))
        directory.clients[0].tunnel = IpPrefix::parse("100.89.128.64/30").value();
    return directory;
}

}  // namespace pangolin
