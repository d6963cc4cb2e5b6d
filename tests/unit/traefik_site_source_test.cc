#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <mutex>

#include "tests/support/scratch_folder.h"
#include "tests/support/small_http_server.h"
#include "userspace/metadata/http_get.h"
#include "userspace/metadata/site_directory.h"
#include "userspace/metadata/traefik_api.h"

namespace pangolin {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;

// Traefik's answers in its own form: what Pangolin's provider makes, beside services of others.
const std::map<std::string, std::string> example{
    {"http/routers", R"json([
      {"entryPoints":["websecure"],"middlewares":["badger"],"service":"12-2fapi-prefix-Web-Shop-service",
       "rule":"Host(`shop.example.com`) && PathPrefix(`/api`)","priority":113,"tls":{"certResolver":"letsencrypt"},
       "status":"enabled","using":["websecure"],"name":"12-2fapi-prefix-Web-Shop-router@http","provider":"http"},
      {"entryPoints":["web"],"service":"12-2fapi-prefix-Web-Shop-service","rule":"Host(`shop.example.com`) && PathPrefix(`/api`)",
       "name":"12-2fapi-prefix-Web-Shop-router-redirect@http"},
      {"entryPoints":["web"],"service":"3-plain-service","rule":"Host(`plain.example.com`)","name":"3-plain-router@http"},
      {"entryPoints":["websecure"],"service":"bg-r9-ssh-service","rule":"Host(`ssh.example.com`) && PathPrefix(`/gateway/ssh`)",
       "tls":{},"name":"bg-r9-ssh-router@http"}])json"},
    {"http/services", R"json([
      {"loadBalancer":{"servers":[{"url":"http://100.89.128.4:40001"},{"url":"https://192.168.7.7"},{"url":"h2c://[fd00::4]:81"}],
       "strategy":"wrr","passHostHeader":true},"status":"enabled","usedBy":["12-2fapi-prefix-Web-Shop-router@http"],
       "serverStatus":{"http://100.89.128.4:40001":"UP"},"name":"12-2fapi-prefix-Web-Shop-service@http","provider":"http","type":"loadbalancer"},
      {"loadBalancer":{"servers":[{"url":"http://nginx:8080/"}]},"name":"3-plain-service@http"},
      {"loadBalancer":{"servers":[{"url":"http://100.89.128.4:39999"}]},"name":"bg-r9-ssh-service@http"},
      {"loadBalancer":{"servers":[{"url":"http://pangolin:3002"}]},"name":"bg-r9-ui-service@http"},
      {"loadBalancer":{"servers":[{"url":"http://pangolin:3005"}]},"name":"inference-r20-service@http"},
      {"loadBalancer":{"servers":[{"url":"http://pangolin:3002"}]},"name":"next-service@file"},
      {"name":"api@internal"}, {"name":7}, 5, null, {"name":"44-none-service@http"},
      {"name":"45-odd-service@http","loadBalancer":{"servers":[{},{"url":"x"},{"url":"http://h:99999"},7,{"url":"http://"}]}}])json"},
    {"tcp/routers",
     R"json([{"entryPoints":["tcp-5432"],"service":"5-db-service","rule":"HostSNI(`*`)","name":"5-db-router@http"}])json"},
    {"tcp/services",
     R"json([{"loadBalancer":{"servers":[{"address":"100.89.128.9:40002"}]},"name":"5-db-service@http"}])json"},
    {"udp/routers",
     R"json([{"entryPoints":["udp-53"],"service":"6-dns-service","name":"6-dns-router@http"}])json"},
    {"udp/services",
     R"json([{"loadBalancer":{"servers":[{"address":"10.0.0.1:53"}]},"name":"6-dns-service@http"}])json"},
};

std::string list_of(const std::string& target) {
    constexpr std::string_view prefix = "/api/";
    return target.substr(prefix.size(), target.find('?') - prefix.size());
}

std::string answer_example(const std::string& target) {
    return SmallHttpServer::json(example.at(list_of(target)), "X-Next-Page: 1\r\n");
}

const Target& target_with(const SiteDirectory& directory, const std::string& backend) {
    for (const Target& target : directory.targets)
        if (target.dialled && target.dialled->to_string() == backend)
            return target;
    throw std::runtime_error("no target " + backend);
}

TEST(TraefikSiteSource, ReadsResourcesAndTargets) {
    const SmallHttpServer server(answer_example);
    const auto source = make_traefik_site_source(server.url() + "/");
    EXPECT_EQ(source->name(), "traefik");
    const auto directory = source->read();
    ASSERT_TRUE(directory) << directory.error().message();
    EXPECT_TRUE(directory->sites.empty());
    std::vector<std::string> resources;
    for (const Resource& resource : directory->resources)
        resources.push_back(resource.resource_id + " " + resource.name + " " + resource.protocol + " " +
                            resource.domain + (resource.ssl ? " ssl" : ""));
    EXPECT_THAT(resources, ElementsAre("12 Web-Shop http shop.example.com ssl", "20 20 inference ",
                                       "3 plain http plain.example.com", "44 none http ", "45 odd http ",
                                       "5 db tcp ", "6 dns udp ", "9 9 ssh ssh.example.com ssl"));
    std::vector<std::string> targets;
    for (const Target& target : directory->targets)
        targets.push_back(directory->resources[target.resource].resource_id + " " + target.method + " " +
                          target.dialled->to_string());
    EXPECT_THAT(targets, ElementsAre("12 http 100.89.128.4:40001", "12 https 192.168.7.7:443",
                                     "12 h2c [fd00::4]:81", "3 http nginx:8080", "5  100.89.128.9:40002",
                                     "6  10.0.0.1:53", "9 http 100.89.128.4:39999"));
    EXPECT_EQ(directory->targets[0].path, "/api");
    EXPECT_EQ(directory->targets[0].path_match, PathMatch::prefix);
    EXPECT_EQ(directory->resources[5].proxy_port, 5432);
    EXPECT_EQ(directory->resources[6].proxy_port, 53);
}

TEST(TraefikSiteSource, SitesOfAFileGetTheTargetsInTheirTunnels) {
    const ScratchFolder folder;
    const std::string path = folder.write("sites.yml", R"(
sites:
  - { site_id: home, tunnel: 100.89.128.4/30 }
  - { site_id: all, tunnel: 100.89.128.0/20 }
  - { site_id: six, tunnel: 'fd00::/64' }
)");
    std::mutex mutex;
    bool broken = false;
    const SmallHttpServer server([&](const std::string& target) {
        const std::lock_guard lock(mutex);
        return broken ? "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
                      : answer_example(target);
    });
    const auto source = make_traefik_site_source(server.url(), make_sites_file_source(path));
    EXPECT_EQ(source->name(), "sites_file");
    for (const bool now_broken : {false, true}) {
        SCOPED_TRACE(now_broken);
        const std::unique_lock lock(mutex);
        broken = now_broken;
        mutex.unlock();
        // What is known of Traefik stays while it is away.
        const auto directory = source->read();
        mutex.lock();
        ASSERT_TRUE(directory) << directory.error().message();
        const auto site = [&](const std::string& backend) {
            const auto index = target_with(*directory, backend).site;
            return index ? directory->sites[*index].site_id : "none";
        };
        EXPECT_EQ(site("100.89.128.4:40001"), "home");
        EXPECT_EQ(site("100.89.128.9:40002"), "all");
        EXPECT_EQ(site("[fd00::4]:81"), "six");
        EXPECT_EQ(site("nginx:8080"), "none");
        EXPECT_EQ(target_with(*directory, "nginx:8080").real, TargetAddress::make("nginx", 8080));
        EXPECT_FALSE(target_with(*directory, "100.89.128.4:40001").real);
    }
    // The file's own resources win, and the file's own mistakes are errors.
    folder.write("sites.yml", "sites: [{ site_id: a, type: local, resources: [{ resource_id: r }] }]");
    EXPECT_EQ(source->read().value().resources.size(), 1U);
    folder.write("sites.yml", "sites: nothing");
    EXPECT_FALSE(source->read());
}

TEST(TraefikSiteSource, ReadsEveryPage) {
    const SmallHttpServer server([](const std::string& target) {
        if (list_of(target) != "http/services")
            return SmallHttpServer::json("[]", "X-Next-Page: 1\r\n");
        const int page = std::stoi(target.substr(target.rfind("page=") + 5));
        const std::string id = std::to_string(page);
        return SmallHttpServer::json(
            R"([{"name":")" + id + R"(-a-service@http","loadBalancer":{"servers":[{"url":"http://10.0.0.)" +
                id + R"("}]}}])",
            "X-Next-Page: " + std::to_string(page < 7 ? page + 1 : 1) + "\r\n");
    });
    const auto directory = make_traefik_site_source(server.url())->read();
    ASSERT_TRUE(directory) << directory.error().message();
    EXPECT_EQ(directory->targets.size(), 7U);
    EXPECT_EQ(server.requests(), 6U + 6U);
}

TEST(TraefikSiteSource, FailuresSayWhy) {
    struct Row {
        const char* description;
        std::string answer;
        const char* what;
    };
    const Row rows[] = {
        {"status", "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found",
         "the answer is status 404"},
        {"redirection", "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
         "the answer is status 302"},
        {"no JSON", SmallHttpServer::json("<html>"), "the answer is no list in JSON"},
        {"another JSON", SmallHttpServer::json("{\"a\":1}"), "the answer is no list in JSON"},
        {"cut off", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[", "cannot read http://127.0.0.1:"},
        {"no HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n", "cannot read http://127.0.0.1:"},
        {"too long", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n[", "body limit exceeded"},
        {"endless headers", "HTTP/1.1 200 OK\r\nX: " + std::string(100000, 'x'), "header limit exceeded"},
        {"deep", SmallHttpServer::json(std::string(100000, '[')), "the answer is no list in JSON"},
        {"silence", "", "no answer within 2000 ms"},
    };
    for (const Row& row : rows) {
        SCOPED_TRACE(row.description);
        const SmallHttpServer server([&](const std::string&) { return row.answer; });
        const auto directory = make_traefik_site_source(server.url())->read();
        ASSERT_FALSE(directory);
        EXPECT_THAT(directory.error().what, HasSubstr(row.what));
        EXPECT_THAT(directory.error().hint, AllOf(HasSubstr("metrics.traefik.api"), EndsWith(".")));
        EXPECT_EQ(directory.error().message().find('\n'), std::string::npos);
    }
    EXPECT_THAT(make_traefik_site_source("http://127.0.0.1:1")->read().error().message(),
                HasSubstr("Connection refused"));
    EXPECT_THAT(make_traefik_site_source("https://h")->read().error().message(), HasSubstr("without https"));
}

TEST(TraefikServiceName, Parses) {
    struct Row {
        const char* text;
        std::int64_t id;
        const char* name;
        const char* mode;
    };
    const Row rows[] = {
        {"12-shop-service@http", 12, "shop", ""},
        {"12-shop-service", 12, "shop", ""},
        {"7-my-service-service@file", 7, "my-service", ""},
        {"7-2fa2fb-exact-x-service@http", 7, "x", ""},
        {"7-2f5eapi-regex-a-prefix-b-service@http", 7, "a-prefix-b", ""},
        {"7-2fast-service@http", 7, "2fast", ""},
        {"7--service@http", 7, "", ""},
        {"bg-r3-rdp-service@http", 3, "", "rdp"},
        {"inference-r4-service@http", 4, "", "inference"},
        {"bg-r3-ui-service@http", -1, "", ""},
        {"bg-r3-maintenance-service@http", -1, "", ""},
        {"inference-sr4-service@http", -1, "", ""},
        {"loginpage-3-service@http", -1, "", ""},
        {"site-resource-cert-3-service@http", -1, "", ""},
        {"99999999999999999999-a-service@http", -1, "", ""},
        {"12-shop@http", -1, "", ""},
        {"12service@http", -1, "", ""},
        {"-service", -1, "", ""},
        {"", -1, "", ""},
        {"@", -1, "", ""},
    };
    for (const Row& row : rows) {
        SCOPED_TRACE(row.text);
        const auto name = parse_traefik_service_name(row.text);
        ASSERT_EQ(name.has_value(), row.id >= 0);
        if (!name)
            continue;
        EXPECT_EQ(name->resource_id, row.id);
        EXPECT_EQ(name->name, row.name);
        EXPECT_EQ(name->mode, row.mode);
    }
}

TEST(TraefikRule, Parses) {
    struct Row {
        const char* text;
        const char* domain;
        const char* path;
        PathMatch match;
    };
    const Row rows[] = {
        {"Host(`a.example.com`)", "a.example.com", "", PathMatch::none},
        {"Host(`a.b`) && Path(`/x`)", "a.b", "/x", PathMatch::exact},
        {"Host(`a.b`) && PathRegexp(`^/x.*`)", "a.b", "^/x.*", PathMatch::regex},
        {"PathPrefix(`/y`) && (Host(`a.b`))", "a.b", "/y", PathMatch::prefix},
        {"HostSNI(`*`)", "", "", PathMatch::none},
        {"HostRegexp(`^[^.]+\\.foo\\.com$`)", "", "", PathMatch::none},
        {"Host(`unfinished", "", "", PathMatch::none},
        {"Host(``)", "", "", PathMatch::none},
        {"", "", "", PathMatch::none},
    };
    for (const Row& row : rows) {
        SCOPED_TRACE(row.text);
        const TraefikRule rule = parse_traefik_rule(row.text);
        EXPECT_EQ(rule.domain, row.domain);
        EXPECT_EQ(rule.path, row.path);
        EXPECT_EQ(rule.path_match, row.match);
    }
}

TEST(HttpEndpoint, Parses) {
    struct Row {
        const char* url;
        // Empty: an error.
        const char* authority;
        const char* path;
    };
    const Row rows[] = {
        {"http://127.0.0.1:8080", "127.0.0.1:8080", ""},
        {"http://traefik", "traefik:80", ""},
        {"http://h:81/traefik/", "h:81", "/traefik"},
        {"http://[::1]:8080/", "[::1]:8080", ""},
        {"http://[fd00::1]", "[fd00::1]:80", ""},
        {"https://h", "", ""},
        {"http://", "", ""},
        {"http://:80", "", ""},
        {"http://u:p@h", "", ""},
        {"http://h:0", "", ""},
        {"http://h:99999", "", ""},
        {"http://h:x", "", ""},
        {"http://h/a b", "", ""},
        {"http://h/a\r\nX: y", "", ""},
        {"http://::1", "", ""},
        {"", "", ""},
    };
    for (const Row& row : rows) {
        SCOPED_TRACE(row.url);
        const auto server = HttpEndpoint::parse(row.url);
        ASSERT_EQ(server.has_value(), *row.authority != '\0');
        if (!server)
            continue;
        EXPECT_EQ(server->authority(), row.authority);
        EXPECT_EQ(server->path, row.path);
    }
}

}  // namespace
}  // namespace pangolin
