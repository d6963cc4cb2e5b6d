// Rows of Pangolin's table `sites` as they become sites.
#include "userspace/metadata/site_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>
#include <sstream>

#include "userspace/metadata/directory_reader.h"

namespace pangolin {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* key_text = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

SiteRow newt(std::int64_t id, const char* nice_id, const char* organisation = "home") {
    SiteRow row;
    row.id = id;
    row.nice_id = nice_id;
    row.name = "Site " + std::to_string(id);
    row.organisation = organisation;
    row.type = "newt";
    row.public_key = key_text;
    row.subnet = "100.89.128.4/30";
    row.online = 1;
    return row;
}

Rows rows_of(std::vector<SiteRow> sites) {
    Rows rows;
    rows.sites = std::move(sites);
    return rows;
}

std::vector<std::string> labels(const SiteDirectory& directory) {
    std::vector<std::string> result;
    result.reserve(directory.sites.size());
    for (const Site& site : directory.sites)
        result.push_back(site.site_id);
    return result;
}

TEST(SiteDirectory, TypesHaveNames) {
    EXPECT_EQ(to_string(SiteType::newt), "newt");
    EXPECT_EQ(to_string(SiteType::wireguard), "wireguard");
    EXPECT_EQ(to_string(SiteType::local), "local");
}

TEST(SiteDirectory, ReadsARow) {
    SiteRow row = newt(7, "s-abc");
    row.exit_node = "main";
    row.region = "eu";
    row.exit_node_public_key = key_text;
    DirectoryReader reader(SiteLabel::nice_id);
    const SiteDirectory directory = reader.read(rows_of({row}));
    ASSERT_EQ(directory.sites.size(), 1U);
    const Site& site = directory.sites[0];
    EXPECT_EQ(site.site_id, "s-abc");
    EXPECT_EQ(site.name, "Site 7");
    EXPECT_EQ(site.organisation, "home");
    EXPECT_EQ(site.type, SiteType::newt);
    EXPECT_EQ(site.public_key.value().to_string(), key_text);
    EXPECT_THAT(site.tunnel, ElementsAre(IpPrefix::parse("100.89.128.4/30").value()));
    EXPECT_EQ(site.exit_node, "main");
    EXPECT_EQ(site.region, "eu");
    EXPECT_EQ(site.exit_node_public_key.value().to_string(), key_text);
    EXPECT_EQ(site.online, true);
    EXPECT_TRUE(reader.problems().empty());
}

TEST(SiteDirectory, EmptyRowsAreFine) {
    DirectoryReader reader(SiteLabel::nice_id);
    EXPECT_TRUE(reader.read(rows_of({})).sites.empty());
}

TEST(SiteDirectory, LocalSitesHaveNoTunnel) {
    SiteRow row = newt(1, "local");
    row.type = "local";
    row.subnet = "0.0.0.0/32";
    row.public_key = "not a key";
    DirectoryReader reader(SiteLabel::nice_id);
    const SiteDirectory directory = reader.read(rows_of({row}));
    EXPECT_TRUE(directory.sites[0].tunnel.empty());
    EXPECT_FALSE(directory.sites[0].public_key);
    EXPECT_TRUE(reader.problems().empty());
}

TEST(SiteDirectory, PlaceholderSubnetsAreNone) {
    SiteRow row = newt(1, "one");
    row.subnet = "0.0.0.0/32";
    DirectoryReader reader(SiteLabel::nice_id);
    EXPECT_TRUE(reader.read(rows_of({row})).sites[0].tunnel.empty());
    row.subnet = "";
    EXPECT_TRUE(reader.read(rows_of({row})).sites[0].tunnel.empty());
    EXPECT_TRUE(reader.problems().empty());
}

// A field that makes no sense costs that field, with a line that names it.
TEST(SiteDirectory, MalformedFieldsLeaveTheSite) {
    struct Row {
        const char* description;
        void (*damage)(SiteRow&);
        const char* problem;
        void (*check)(const Site&);
    };
    const Row rows[] = {
        {"no niceId", [](SiteRow& row) { row.nice_id.reset(); }, "no niceId",
         [](const Site& site) { EXPECT_EQ(site.site_id, "7"); }},
        {"empty niceId", [](SiteRow& row) { row.nice_id = ""; }, "no niceId",
         [](const Site& site) { EXPECT_EQ(site.site_id, "7"); }},
        {"niceId not UTF-8", [](SiteRow& row) { row.nice_id = "a\xff"; }, nullptr,
         [](const Site& site) { EXPECT_EQ(site.site_id, "a\xef\xbf\xbd"); }},
        {"name not UTF-8", [](SiteRow& row) { row.name = "\xff"; }, "name '\\xff' is not UTF-8",
         [](const Site& site) { EXPECT_EQ(site.name, "\xef\xbf\xbd"); }},
        {"broken subnet", [](SiteRow& row) { row.subnet = "100.89.128.4/33"; }, "subnet '100.89.128.4/33'",
         [](const Site& site) { EXPECT_TRUE(site.tunnel.empty()); }},
        {"broken key", [](SiteRow& row) { row.public_key = "abc"; }, "pubKey",
         [](const Site& site) { EXPECT_FALSE(site.public_key); }},
        {"unknown type", [](SiteRow& row) { row.type = "olm"; }, "unknown type 'olm'",
         [](const Site& site) { EXPECT_EQ(site.type, SiteType::newt); }},
        {"odd online", [](SiteRow& row) { row.online = 2; }, "online is 2",
         [](const Site& site) { EXPECT_FALSE(site.online); }},
        {"the reserved label", [](SiteRow& row) { row.nice_id = "unassigned"; }, "too; this one becomes",
         [](const Site& site) { EXPECT_EQ(site.site_id, "home/unassigned"); }},
        {"everything NULL",
         [](SiteRow& row) {
             row = SiteRow{};
             row.id = 7;
         },
         "no niceId", [](const Site& site) { EXPECT_EQ(site.site_id, "7"); }},
    };
    for (const Row& row : rows) {
        SCOPED_TRACE(row.description);
        SiteRow damaged = newt(7, "seven");
        row.damage(damaged);
        DirectoryReader reader(SiteLabel::nice_id);
        const SiteDirectory directory = reader.read(rows_of({newt(1, "~other"), damaged}));
        ASSERT_EQ(directory.sites.size(), 2U);
        row.check(directory.sites[0]);
        if (row.problem != nullptr) {
            ASSERT_EQ(reader.problems().size(), 1U);
            EXPECT_THAT(*reader.problems().begin(), HasSubstr(row.problem));
            EXPECT_THAT(*reader.problems().begin(), HasSubstr("site 7"));
        }
    }
}

TEST(SiteDirectory, LabelsNameOneSiteOnly) {
    DirectoryReader reader(SiteLabel::nice_id);
    EXPECT_THAT(labels(reader.read(
                    rows_of({newt(1, "web", "home"), newt(2, "web", "office"), newt(3, "db", "home")}))),
                ElementsAre("db", "home/web", "office/web"));
    EXPECT_EQ(reader.problems().size(), 2U);
    // Three alike, and one that has taken the way out.
    EXPECT_THAT(labels(reader.read(rows_of({newt(1, "web", "home"), newt(2, "office/web", "x"),
                                            newt(3, "web", "office"), newt(4, "web", "office")}))),
                ElementsAre("home/web", "office/web#3", "office/web#4", "x/office/web#2"));
    EXPECT_EQ(reader.problems().size(), 4U);
    // The traffic of no site has a name, too.
    EXPECT_THAT(labels(reader.read(rows_of({newt(1, "unassigned")}))), ElementsAre("home/unassigned"));
    // Rows that no Pangolin would write.
    EXPECT_THAT(labels(reader.read(rows_of({newt(1, "web"), newt(1, "web"), newt(2, "home/web#1")}))),
                ElementsAre("home/web#1", "home/web#1#1", "home/web#1#2"));
}

TEST(SiteDirectory, NoSiteInheritsTheLabelOfADeletedOne) {
    const std::vector<std::vector<SiteRow>> cases{
        {newt(1, "web", "home"), newt(2, "web", "office"), newt(3, "web", "lab")},
        {newt(1, "web", "home"), newt(2, "web", "home"), newt(3, "web", "home")},
        {newt(1, "home/web", "x"), newt(2, "web", "home"), newt(3, "web", "office")},
        {newt(1, "2", "home"), newt(2, "", "home"), newt(3, "2", "home")},
    };
    const auto label_by_name = [](const SiteDirectory& directory) {
        std::map<std::string, std::string> result;
        for (const Site& site : directory.sites)
            result[site.name] = site.site_id;
        return result;
    };
    for (const std::vector<SiteRow>& rows : cases)
        for (std::size_t deleted = 0; deleted < rows.size(); ++deleted) {
            // Alone, together with those that came later, and gone; a label is one site's throughout.
            std::map<std::string, std::string> owners;
            std::vector<SiteRow> rest = rows;
            rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(deleted));
            DirectoryReader reader(SiteLabel::nice_id);
            const std::vector<std::vector<SiteRow>> history{{rows[deleted]}, rows,      rest,
                                                            {rest[0]},       {rest[1]}, rows};
            for (const std::vector<SiteRow>& now : history)
                for (const auto& [name, label] : label_by_name(reader.read(rows_of(now))))
                    EXPECT_EQ(owners.try_emplace(label, name).first->second, name) << label;
            // Those that stay keep their labels.
            const auto before = label_by_name(reader.read(rows_of(rows)));
            for (const auto& [name, label] : label_by_name(reader.read(rows_of(rest))))
                EXPECT_EQ(before.at(name), label);
        }
}

TEST(SiteDirectory, LabelsByConfiguration) {
    SiteRow one = newt(10, "a");
    SiteRow two = newt(9, "b");
    one.name = "Home";
    two.name = "Home";
    DirectoryReader by_id(SiteLabel::site_id);
    EXPECT_THAT(labels(by_id.read(rows_of({two, one}))), ElementsAre("10", "9"));
    DirectoryReader by_name(SiteLabel::name);
    EXPECT_THAT(labels(by_name.read(rows_of({two, one}))), ElementsAre("home/Home#10", "home/Home#9"));
    one.name.reset();
    EXPECT_THAT(labels(by_name.read(rows_of({two, one}))), ElementsAre("10", "home/Home#9"));
}

TEST(SiteDirectory, ProblemsAreLoggedOnce) {
    std::ostringstream log;
    const auto before = spdlog::default_logger();
    spdlog::set_default_logger(
        std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_st>(log)));
    DirectoryReader reader(SiteLabel::nice_id);
    SiteRow row = newt(1, "one");
    row.subnet = "broken\nline";
    for (int i = 0; i < 3; ++i)
        reader.read(rows_of({row}));
    spdlog::set_default_logger(before);
    EXPECT_EQ(std::ranges::count(log.str(), '\n'), 1) << log.str();
}

TEST(SiteDirectory, ProblemsAreForgottenWhenMended) {
    DirectoryReader reader(SiteLabel::nice_id);
    SiteRow row = newt(1, "one");
    row.subnet = "broken";
    reader.read(rows_of({row}));
    EXPECT_EQ(reader.problems().size(), 1U);
    row.subnet = "10.0.0.0/30";
    reader.read(rows_of({row}));
    EXPECT_TRUE(reader.problems().empty());
}

}  // namespace
}  // namespace pangolin
