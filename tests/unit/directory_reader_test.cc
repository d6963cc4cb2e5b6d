// Rows of Pangolin's tables `resources`, `targets`, `targetHealthCheck` and `clients`; site_directory_test
// has `sites`.
#include "userspace/metadata/directory_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pangolin {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* key_text = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

SiteRow site_row(std::int64_t id, const char* type, std::optional<std::string> subnet = std::nullopt) {
    SiteRow row;
    row.id = id;
    row.nice_id = "site-" + std::to_string(id);
    row.name = "Site";
    row.organisation = "home";
    row.type = type;
    row.subnet = std::move(subnet);
    return row;
}

ResourceRow resource_row(std::int64_t id, const char* nice_id, const char* mode = "http") {
    ResourceRow row;
    row.id = id;
    row.nice_id = nice_id;
    row.name = "Resource";
    row.organisation = "home";
    row.domain = "example.com";
    row.mode = mode;
    row.ssl = 1;
    row.enabled = 1;
    return row;
}

TargetRow target_row(std::int64_t id, std::int64_t resource, std::int64_t site) {
    TargetRow row;
    row.id = id;
    row.resource_id = resource;
    row.site_id = site;
    row.ip = "192.168.1.5";
    row.port = 8080;
    row.internal_port = 40001;
    row.method = "http";
    row.enabled = 1;
    return row;
}

Rows one_of_each() {
    Rows rows;
    rows.sites = {site_row(1, "newt", "100.89.128.4/30")};
    rows.resources = {resource_row(1, "web")};
    rows.targets = {target_row(1, 1, 1)};
    rows.health_checks = {{.id = 1, .target_id = 1, .enabled = 1, .health = "healthy"}};
    ClientRow client;
    client.id = 1;
    client.nice_id = "laptop";
    client.name = "Laptop";
    client.public_key = key_text;
    client.subnet = "100.90.128.7/24";
    client.tunnel = "100.89.128.64/30";
    rows.clients = {client};
    return rows;
}

// A field that makes no sense costs that field, with one line that names it; its row stays.
TEST(DirectoryReader, MalformedFieldsLeaveTheirRows) {
    struct Row {
        const char* description;
        void (*damage)(Rows&);
        // Null: it is no problem.
        const char* problem;
        void (*check)(const SiteDirectory&);
    };
    const Row rows[] = {
        {"nothing", [](Rows&) {}, nullptr,
         [](const SiteDirectory& read) {
             EXPECT_EQ(read.targets[0].dialled->to_string(), "100.89.128.4:40001");
             EXPECT_EQ(read.targets[0].real->to_string(), "192.168.1.5:8080");
             EXPECT_EQ(read.targets[0].health, TargetHealth::healthy);
             EXPECT_EQ(read.clients[0].address->to_string(), "100.90.128.7");
         }},
        {"resource without niceId", [](Rows& r) { r.resources[0].nice_id.reset(); }, nullptr,
         [](const SiteDirectory& read) { EXPECT_EQ(read.resources[0].resource_id, "1"); }},
        {"resource's name", [](Rows& r) { r.resources[0].name = "\xff"; }, "resource 1 ('web'): name",
         [](const SiteDirectory& read) { EXPECT_EQ(read.resources[0].name, "\xef\xbf\xbd"); }},
        {"resource's ssl", [](Rows& r) { r.resources[0].ssl = 7; }, "ssl is 7",
         [](const SiteDirectory& read) { EXPECT_FALSE(read.resources[0].ssl); }},
        {"resource's port", [](Rows& r) { r.resources[0].proxy_port = 65536; }, "proxyPort 65536 is no port",
         [](const SiteDirectory& read) { EXPECT_FALSE(read.resources[0].proxy_port); }},
        {"a mode of the future", [](Rows& r) { r.resources[0].mode = "quic"; }, nullptr,
         [](const SiteDirectory& read) { EXPECT_EQ(read.resources[0].protocol, "quic"); }},
        {"mode not UTF-8", [](Rows& r) { r.resources[0].mode = "\xff"; }, "mode",
         [](const SiteDirectory&) {}},
        {"neither mode nor http", [](Rows& r) { r.resources[0].mode.reset(); }, nullptr,
         [](const SiteDirectory& read) { EXPECT_EQ(read.resources[0].protocol, "http"); }},
        {"target's port", [](Rows& r) { r.targets[0].port = -1; }, "target 1: port -1 is no port",
         [](const SiteDirectory& read) {
             EXPECT_FALSE(read.targets[0].real);
             EXPECT_TRUE(read.targets[0].dialled);
         }},
        {"target's internal port", [](Rows& r) { r.targets[0].internal_port = 70000; }, "internalPort",
         [](const SiteDirectory& read) { EXPECT_FALSE(read.targets[0].dialled); }},
        {"no internal port yet", [](Rows& r) { r.targets[0].internal_port.reset(); }, nullptr,
         [](const SiteDirectory& read) { EXPECT_FALSE(read.targets[0].dialled); }},
        {"target's address", [](Rows& r) { r.targets[0].ip = ""; }, nullptr,
         [](const SiteDirectory& read) { EXPECT_FALSE(read.targets[0].real); }},
        {"target's address not UTF-8", [](Rows& r) { r.targets[0].ip = "\xff"; }, "ip '\\xff' is not UTF-8",
         [](const SiteDirectory&) {}},
        {"match type",
         [](Rows& r) {
             r.targets[0].path = "/";
             r.targets[0].path_match = "fuzzy";
         },
         "unknown pathMatchType 'fuzzy'",
         [](const SiteDirectory& read) { EXPECT_EQ(read.targets[0].path_match, PathMatch::none); }},
        {"match type without path", [](Rows& r) { r.targets[0].path_match = "exact"; }, nullptr,
         [](const SiteDirectory& read) { EXPECT_EQ(read.targets[0].path_match, PathMatch::none); }},
        {"a resource that is gone", [](Rows& r) { r.targets[0].resource_id = 9; }, "there is no resource 9",
         [](const SiteDirectory& read) { EXPECT_TRUE(read.targets.empty()); }},
        {"no resource", [](Rows& r) { r.targets[0].resource_id.reset(); }, nullptr,
         [](const SiteDirectory& read) { EXPECT_TRUE(read.targets.empty()); }},
        {"a site that is gone", [](Rows& r) { r.targets[0].site_id = 9; }, "there is no site 9",
         [](const SiteDirectory& read) {
             EXPECT_FALSE(read.targets[0].site);
             EXPECT_FALSE(read.targets[0].dialled);
             EXPECT_TRUE(read.targets[0].real);
         }},
        {"health", [](Rows& r) { r.health_checks[0].health = "sick"; },
         "health check 1: unknown hcHealth 'sick'",
         [](const SiteDirectory& read) { EXPECT_EQ(read.targets[0].health, TargetHealth::unknown); }},
        {"health check of nothing", [](Rows& r) { r.health_checks[0].target_id.reset(); }, nullptr,
         [](const SiteDirectory& read) { EXPECT_FALSE(read.targets[0].health_checked); }},
        {"health check that is off", [](Rows& r) { r.health_checks[0].enabled = 0; }, nullptr,
         [](const SiteDirectory& read) { EXPECT_EQ(read.targets[0].health, TargetHealth::unknown); }},
        {"client's key", [](Rows& r) { r.clients[0].public_key = "short"; }, "client 1 ('laptop'): pubKey",
         [](const SiteDirectory& read) { EXPECT_FALSE(read.clients[0].public_key); }},
        {"client's subnet", [](Rows& r) { r.clients[0].subnet = "home"; }, "subnet 'home'",
         [](const SiteDirectory& read) { EXPECT_FALSE(read.clients[0].address); }},
        {"client's tunnel", [](Rows& r) { r.clients[0].tunnel = "1.2.3.4/99"; },
         "exitNodeSubnet '1.2.3.4/99'",
         [](const SiteDirectory& read) { EXPECT_FALSE(read.clients[0].tunnel); }},
        {"site's port", [](Rows& r) { r.sites[0].listen_port = 1 << 20; }, "listenPort 1048576",
         [](const SiteDirectory& read) { EXPECT_FALSE(read.sites[0].listen_port); }},
    };
    for (const Row& row : rows) {
        SCOPED_TRACE(row.description);
        Rows damaged = one_of_each();
        row.damage(damaged);
        DirectoryReader reader(SiteLabel::nice_id);
        const SiteDirectory directory = reader.read(damaged);
        ASSERT_EQ(directory.sites.size(), 1U);
        ASSERT_EQ(directory.resources.size(), 1U);
        ASSERT_EQ(directory.clients.size(), 1U);
        row.check(directory);
        ASSERT_EQ(reader.problems().size(), row.problem == nullptr ? 0U : 1U);
        if (row.problem != nullptr) {
            EXPECT_THAT(*reader.problems().begin(), HasSubstr(row.problem));
        }
    }
}

TEST(DirectoryReader, WhatTraefikDials) {
    struct Row {
        const char* description;
        SiteRow site;
        const char* mode;
        const char* ip;
        // Empty: not known.
        const char* dialled;
    };
    const Row rows[] = {
        {"newt", site_row(1, "newt", "100.89.128.4/30"), "http", "nginx", "100.89.128.4:40001"},
        {"newt, tcp", site_row(1, "newt", "100.89.128.4/30"), "tcp", "nginx", "100.89.128.4:40001"},
        {"newt not at the network's beginning", site_row(1, "newt", "100.89.128.6/30"), "http", "nginx",
         "100.89.128.6:40001"},
        {"newt with IPv6", site_row(1, "newt", "fd00::4/126"), "http", "nginx", "[fd00::4]:40001"},
        {"newt that has no tunnel yet", site_row(1, "newt"), "http", "nginx", ""},
        {"newt with a placeholder", site_row(1, "newt", "0.0.0.0/32"), "http", "nginx", ""},
        {"newt's browser gateway", site_row(1, "newt", "100.89.128.4/30"), "rdp", "pc", "100.89.128.4:39999"},
        {"wireguard", site_row(1, "wireguard", "100.89.128.8/30"), "http", "192.168.1.5", "192.168.1.5:8080"},
        {"wireguard, IPv6", site_row(1, "wireguard"), "udp", "fd00:0::0005", "[fd00::5]:8080"},
        {"wireguard, IPv6 in brackets", site_row(1, "wireguard"), "http", "[fd00::5]", "[fd00::5]:8080"},
        {"local", site_row(1, "local"), "http", "nginx", "nginx:8080"},
        {"local with a gateway that it cannot have", site_row(1, "local"), "vnc", "nginx", ""},
    };
    for (const Row& row : rows) {
        SCOPED_TRACE(row.description);
        Rows all = one_of_each();
        all.sites = {row.site};
        all.resources = {resource_row(1, "r", row.mode)};
        all.targets[0].ip = row.ip;
        DirectoryReader reader(SiteLabel::nice_id);
        const SiteDirectory directory = reader.read(all);
        const auto& dialled = directory.targets.at(0).dialled;
        EXPECT_EQ(dialled ? dialled->to_string() : "", row.dialled);
        EXPECT_TRUE(reader.problems().empty());
    }
}

TEST(DirectoryReader, LabelsOfEachKindAreTheirOwn) {
    Rows rows = one_of_each();
    rows.sites[0].nice_id = "web";
    rows.clients[0].nice_id = "web";
    rows.resources.push_back(resource_row(2, "db"));
    rows.resources.push_back(resource_row(3, "db"));
    rows.resources[2].organisation = "office";
    rows.targets.push_back(target_row(2, 3, 1));
    rows.targets.push_back(target_row(3, 2, 1));
    DirectoryReader reader(SiteLabel::nice_id);
    const SiteDirectory directory = reader.read(rows);
    EXPECT_EQ(directory.sites[0].site_id, "web");
    EXPECT_EQ(directory.clients[0].client_id, "web");
    std::vector<std::string> resources;
    for (const Target& target : directory.targets)
        resources.push_back(directory.resources[target.resource].resource_id);
    EXPECT_THAT(resources, ElementsAre("home/db", "office/db", "web"));
    EXPECT_EQ(reader.problems().size(), 2U);
}

TEST(DirectoryReader, ManyProblemsAreOneReadingsProblems) {
    Rows rows = one_of_each();
    for (int i = 2; i < 5000; ++i)
        rows.targets.push_back(target_row(i, 77, 1));
    DirectoryReader reader(SiteLabel::nice_id);
    EXPECT_EQ(reader.read(rows).targets.size(), 1U);
    EXPECT_EQ(reader.problems().size(), 4998U);
}

}  // namespace
}  // namespace pangolin
