#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/scratch_folder.h"
#include "userspace/metadata/site_directory.h"

namespace pangolin {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

#define KEY "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="

TEST(SitesFile, ReadsAllKeys) {
    const ScratchFolder folder;
    auto source = make_sites_file_source(folder.write("sites.yml", R"(
sites:
  - site_id: s-two
    tunnel: [10.0.0.0/24, 'fd00::/64']
    type: wireguard
  - site_id: s-abc
    name: "Home: ünïcode"
    region: eu
    public_key: ")" KEY R"("
    tunnel: 100.89.128.6/30
    type: newt
    resources:
      - { resource_id: api, name: API, protocol: http, address: 100.89.128.4, port: 40001 }
      - resource_id: dns
        protocol: udp
  - site_id: here
    type: local
)"));
    EXPECT_EQ(source->name(), "sites_file");
    const auto directory = source->read();
    ASSERT_TRUE(directory) << directory.error().message();
    ASSERT_EQ(directory->sites.size(), 3U);
    const Site& here = directory->sites[0];
    EXPECT_EQ(here.site_id, "here");
    EXPECT_EQ(here.name, "here");
    EXPECT_EQ(here.type, SiteType::local);
    EXPECT_FALSE(here.online);
    const Site& home = directory->sites[1];
    EXPECT_EQ(home.name, "Home: ünïcode");
    EXPECT_EQ(home.region, "eu");
    EXPECT_EQ(home.type, SiteType::newt);
    EXPECT_EQ(home.public_key.value().to_string(), KEY);
    EXPECT_THAT(home.tunnel, ElementsAre(IpPrefix::parse("100.89.128.4/30").value()));
    EXPECT_THAT(directory->sites[2].tunnel,
                ElementsAre(IpPrefix::parse("10.0.0.0/24").value(), IpPrefix::parse("fd00::/64").value()));
}

TEST(SitesFile, ReadsResources) {
    const ScratchFolder folder;
    const auto directory = make_sites_file_source(folder.write("sites.yml", R"(
sites:
  - site_id: home
    tunnel: 100.89.128.6/30
    resources:
      - { resource_id: web, name: Web, port: 40001, domain: web.example.com }
      - { resource_id: dns, protocol: udp, address: 100.89.128.6, port: 40002 }
  - site_id: here
    type: local
    resources:
      - { resource_id: web, name: Web, address: 'fd00::5', port: 80 }
      - { resource_id: web, address: 172.17.0.1, port: 80 }
      - { resource_id: later }
)"))
                               ->read();
    ASSERT_TRUE(directory) << directory.error().message();
    std::vector<std::string> resources;
    for (const Resource& resource : directory->resources)
        resources.push_back(resource.resource_id + " " + resource.name + " " + resource.protocol + " " +
                            resource.domain);
    EXPECT_THAT(resources, ElementsAre("dns dns udp ", "later later http ", "web Web http web.example.com"));
    std::vector<std::string> targets;
    for (const Target& target : directory->targets)
        targets.push_back(directory->resources[target.resource].resource_id + " " +
                          directory->sites[target.site.value()].site_id + " " + target.dialled->to_string() +
                          " " + (target.real ? target.real->to_string() : "-") + " " + target.method);
    EXPECT_THAT(targets, ElementsAre("dns home 100.89.128.6:40002 - ", "web home 100.89.128.6:40001 - http",
                                     "web here [fd00::5]:80 [fd00::5]:80 http",
                                     "web here 172.17.0.1:80 172.17.0.1:80 http"));
    EXPECT_EQ(directory->sites[1].tunnel_address->to_string(), "100.89.128.6");
}

TEST(SitesFile, NoSitesAreAllowed) {
    const ScratchFolder folder;
    const auto directory = make_sites_file_source(folder.write("sites.yml", "sites: []\n"))->read();
    ASSERT_TRUE(directory) << directory.error().message();
    EXPECT_TRUE(directory->sites.empty());
}

struct BadFile {
    const char* description;
    const char* text;
    // Line and column, then what is wrong, then (part of) the hint.
    const char* place;
    const char* what;
    const char* hint;
};

const BadFile bad_files[] = {
    {"empty", "", "1:1", "'sites' is missing", "sites:"},
    {"only a comment", "# nothing\n", "1:1", "'sites' is missing", "sites:"},
    {"a list", "- site_id: a\n", "1:1", "expected keys and values, found a list", "key: value"},
    {"a text", "sites", "1:1", "expected keys and values, found 'sites'", "key: value"},
    {"sites without value", "sites:\n", "1:1", "'sites' is missing", "sites: []"},
    {"sites as mapping", "sites: { a: b }\n", "1:8", "sites: expected a list, found a mapping", "'- '"},
    {"unknown key of the file", "sites: []\nsite: 1\n", "2:1", "unknown key 'site'", "Did you mean 'sites'?"},
    {"entry is a text", "sites: [home]\n", "1:9", "sites[0]: expected keys and values, found 'home'",
     "key: value"},
    {"entry is empty", "sites:\n  -\n", "3:1", "sites[0]: expected keys and values, found nothing",
     "empty entry"},
    {"no site_id", "sites:\n  - name: a\n    tunnel: 10.0.0.0/30\n", "2:5", "sites[0]: 'site_id' is missing",
     "home"},
    {"empty site_id", "sites:\n  - site_id: ''\n    type: local\n", "2:14", "is empty", "name"},
    {"reserved site_id", "sites:\n  - site_id: unassigned\n    type: local\n", "2:14",
     "'unassigned' stands for", "another name"},
    {"site_id as list", "sites:\n  - site_id: [a]\n    type: local\n", "2:14",
     "expected a text, found a list", "site_id: VALUE"},
    {"unknown key of a site", "sites:\n  - site_id: a\n    tunel: 10.0.0.0/30\n    type: local\n", "3:5",
     "unknown key 'tunel' under sites[0]", "Did you mean 'tunnel'?"},
    {"camel case", "sites:\n  - siteId: a\n    type: local\n", "2:5", "", "Did you mean 'site_id'?"},
    {"key written twice", "sites:\n  - site_id: a\n    site_id: b\n    type: local\n", "3:5",
     "key 'site_id' under sites[0] is written twice", "Keep one"},
    {"duplicate site_id", "sites:\n  - site_id: a\n    type: local\n  - site_id: a\n    type: local\n",
     "4:14", "'a' is the name of the site in line 2 already", "name of its own"},
    {"duplicate tunnel, other host bits",
     "sites:\n  - {site_id: a, tunnel: 10.0.0.4/30}\n  - {site_id: b, tunnel: 10.0.0.6/30}\n", "3:26",
     "10.0.0.4/30 belongs to the site in line 2 already", "one site"},
    {"duplicate tunnel in one list", "sites:\n  - {site_id: a, tunnel: [10.0.0.4/30, 10.0.0.4/30]}\n", "2:40",
     "belongs to the site in line 2", "one site"},
    {"duplicate key",
     "sites:\n  - {site_id: a, public_key: " KEY "}\n  - {site_id: b, public_key: " KEY "}\n", "3:30",
     "the site in line 2 has this key already", "one site"},
    {"bad key", "sites:\n  - site_id: a\n    public_key: hello\n", "3:17",
     "sites[0].public_key: not a WireGuard public key: 5 characters instead of 44", "wg show"},
    {"bad tunnel", "sites:\n  - site_id: a\n    tunnel: 10.0.0.0/40\n", "3:13",
     "'10.0.0.0/40' is not a network prefix", "0 to 32"},
    {"bad tunnel in a list", "sites:\n  - site_id: a\n    tunnel: [10.0.0.0/30, home]\n", "3:27",
     "'home' is not a network prefix", "192.0.2.1"},
    {"tunnel as mapping", "sites:\n  - site_id: a\n    tunnel: {a: b}\n", "3:13",
     "expected a text or a list of texts, found a mapping", "[ONE, OTHER]"},
    {"list in the tunnel's list", "sites:\n  - site_id: a\n    tunnel: [[a]]\n", "3:14", "found a list in it",
     "[ONE, OTHER]"},
    {"neither key nor tunnel", "sites:\n  - site_id: a\n", "2:5", "'tunnel' is missing", "type: local"},
    {"local site with tunnel", "sites:\n  - {site_id: a, type: local, tunnel: 10.0.0.0/30}\n", "2:39",
     "a site of type local has no tunnel", "Remove"},
    {"unknown type", "sites:\n  - {site_id: a, type: newtt, tunnel: 10.0.0.0/30}\n", "2:24",
     "unknown value 'newtt'", "Did you mean 'newt'?"},
    {"type as list", "sites:\n  - {site_id: a, type: [newt], tunnel: 10.0.0.0/30}\n", "2:24",
     "expected a word, found a list", "newt, wireguard, local"},
    {"resource without id", "sites:\n  - site_id: a\n    type: local\n    resources:\n      - name: x\n",
     "5:9", "sites[0].resources[0]: 'resource_id' is missing", "api"},
    {"resource with a bad port",
     "sites:\n  - site_id: a\n    type: local\n    resources: [{resource_id: r, port: 65536}]\n", "4:40",
     "expected a whole number from 1 to 65535, found '65536'", "digits"},
    {"resource with a bad address",
     "sites:\n  - site_id: a\n    type: local\n    resources: [{resource_id: r, address: host}]\n", "4:43",
     "'host' is not an IP address", "192.0.2.1"},
    {"resource with an unknown key",
     "sites:\n  - site_id: a\n    type: local\n    resources: [{resource_id: r, prot: 1}]\n", "4:34",
     "unknown key 'prot'", "Did you mean 'port'?"},
    {"resource with an empty id",
     "sites:\n  - site_id: a\n    type: local\n    resources: [{resource_id: ''}]\n", "4:31", "is empty",
     "name"},
    {"resource with a port but no address",
     "sites:\n  - site_id: a\n    type: local\n    resources: [{resource_id: r, port: 80}]\n", "4:17",
     "sites[0].resources[0]: 'address' is missing", "Traefik dials"},
    {"resource with an unknown protocol",
     "sites:\n  - site_id: a\n    type: local\n    resources: [{resource_id: r, protocol: tpc}]\n", "4:44",
     "unknown value 'tpc'", "Did you mean 'tcp'?"},
    {"resource with two protocols",
     "sites:\n  - site_id: a\n    type: local\n    resources:\n      - {resource_id: r, protocol: tcp}\n"
     "      - {resource_id: r, protocol: udp}\n",
     "6:36", "'r' is called 'tcp' in line 5", "same everywhere"},
    {"resource with two names",
     "sites:\n  - site_id: a\n    type: local\n    resources:\n      - {resource_id: r, name: x}\n"
     "      - {resource_id: r, name: y}\n",
     "6:32", "'r' is called 'x' in line 5", "same everywhere"},
    {"target twice",
     "sites:\n  - site_id: a\n    tunnel: 10.0.0.1/30\n    resources:\n      - {resource_id: r, port: 80}\n"
     "      - {resource_id: r, port: 80}\n",
     "6:32", "10.0.0.1:80 is listed for this resource already", "Remove"},
    {"not YAML", "sites:\n  - site_id: [a\n", "3:1", "not valid YAML", "indentation"},
    {"tab", "sites:\n\t- site_id: a\n", "2:2", "not valid YAML", "indentation"},
    {"undefined alias", "sites: *nothing\n", "1:8", "not valid YAML", "indentation"},
    {"control characters", "sites:\n  - site_id: a\n    type: \"\\x1b[31m\\n\"\n", "3:11", "'\\x1b[31m\\x0a'",
     "newt"},
    {"NUL in a text", "sites:\n  - site_id: \"a\\0b\"\n    type: local\n", "2:14", "NUL", "UTF-8"},
    {"not UTF-8", "sites:\n  - site_id: \"a\xff\"\n    type: local\n", "2:14", "not UTF-8", "UTF-8"},
};

TEST(SitesFile, MistakesHaveTheirPlaceAndAHint) {
    const ScratchFolder folder;
    for (const BadFile& row : bad_files) {
        SCOPED_TRACE(row.description);
        const std::string path = folder.write("sites.yml", row.text);
        const auto directory = make_sites_file_source(path)->read();
        ASSERT_FALSE(directory);
        const Error& error = directory.error();
        EXPECT_THAT(error.what, AllOf(StartsWith(path + ":" + row.place + ": "), HasSubstr(row.what)));
        EXPECT_THAT(error.hint, AllOf(HasSubstr(row.hint), EndsWith(".")));
        EXPECT_EQ(error.message().find('\n'), std::string::npos);
    }
}

TEST(SitesFile, TheFirstMistakeOfTheFileIsReported) {
    const ScratchFolder folder;
    const std::string path =
        folder.write("sites.yml", "sites:\n  - site_id: a\n    typo: 1\n    type: 5\nmore: 1\n");
    EXPECT_THAT(make_sites_file_source(path)->read().error().what, HasSubstr(":3:5: unknown key 'typo'"));
}

TEST(SitesFile, DeepAndRecursiveDocumentsDoNoHarm) {
    const ScratchFolder folder;
    for (const std::string& text : {std::string("sites: &a [*a]\n"), "sites: " + std::string(100000, '['),
                                    std::string("a: &a [x,x]\nb: &b [*a,*a]\nsites: [*b,*b]\n")}) {
        const auto directory = make_sites_file_source(folder.write("sites.yml", text))->read();
        ASSERT_FALSE(directory);
        EXPECT_FALSE(directory.error().hint.empty());
    }
}

TEST(SitesFile, UnreadableFilesAreErrors) {
    const ScratchFolder folder;
    EXPECT_THAT(make_sites_file_source(folder.path("absent.yml"))->read().error().message(),
                AllOf(HasSubstr("absent.yml: No such file"), HasSubstr("HINT")));
    EXPECT_THAT(make_sites_file_source(folder.path(""))->read().error().message(),
                AllOf(HasSubstr("Is a directory"), HasSubstr("HINT")));
    EXPECT_THAT(make_sites_file_source("/dev/zero")->read().error().message(),
                AllOf(HasSubstr("larger than 16 MiB"), HasSubstr("HINT")));
}

TEST(SitesFile, ChangesAreSeenAndErrorsPass) {
    const ScratchFolder folder;
    const std::string path = folder.write("sites.yml", "sites: [{site_id: a, type: local}]\n");
    auto source = make_sites_file_source(path);
    EXPECT_EQ(source->read().value().sites[0].site_id, "a");
    EXPECT_EQ(source->read().value().sites[0].site_id, "a");
    folder.write("sites.yml", "sites: [{site_id: b, type: local}]\n");
    EXPECT_EQ(source->read().value().sites[0].site_id, "b");
    folder.write("sites.yml", "sites: [");
    EXPECT_FALSE(source->read());
    EXPECT_FALSE(source->read());
    folder.write("sites.yml", "sites: [{site_id: b, type: local}]\n");
    EXPECT_EQ(source->read().value().sites[0].site_id, "b");
}

}  // namespace
}  // namespace pangolin
