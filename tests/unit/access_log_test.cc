// Lines of Traefik's access log, and whose requests they are.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/scratch_folder.h"
#include "userspace/access_log/access_log_monitor.h"

namespace pangolin {
namespace {

using testing::ElementsAre;
using Requests = std::map<std::pair<std::uint16_t, std::uint16_t>, std::uint64_t>;

// As Traefik 3.7 writes it.
const std::string complete =
    R"({"ClientAddr":"198.18.200.2:44282","ClientHost":"198.18.200.2","ClientPort":"44282","ClientUsername":"-",)"
    R"("DownstreamContentSize":1000,"DownstreamStatus":200,"Duration":255608973,"OriginContentSize":1000,)"
    R"("OriginDuration":255445359,"OriginStatus":200,"Overhead":163614,"RequestAddr":"shop.example.com",)"
    R"("RequestContentSize":0,"RequestCount":14,"RequestHost":"shop.example.com","RequestMethod":"GET",)"
    R"("RequestPath":"/x?OriginStatus=500","RequestPort":"-","RequestProtocol":"HTTP/1.1","RequestScheme":"http",)"
    R"("RetryAttempts":0,"RouterName":"4-shop-router@http","ServiceAddr":"100.89.128.4:40001",)"
    R"("ServiceName":"4-shop-service@http","ServiceURL":"https://100.89.128.4:40001","entryPointName":"web",)"
    R"("level":"info","msg":"","time":"2026-11-25T19:49:42Z"})";

TEST(AccessLogEntry, IsWhatTraefikWrites) {
    const auto entry = parse_access_log_line(complete);
    ASSERT_TRUE(entry);
    EXPECT_EQ(entry->service, "4-shop-service@http");
    ASSERT_TRUE(entry->server);
    EXPECT_EQ(entry->server->method, "https");
    EXPECT_EQ(entry->server->address.to_string(), "100.89.128.4:40001");
    EXPECT_EQ(entry->host, "shop.example.com");
    EXPECT_EQ(entry->method, "GET");
    EXPECT_EQ(entry->end, AccessLogEnd::complete);
    EXPECT_EQ(entry->status, 200);
    EXPECT_EQ(entry->duration_ns, 255445359U);
    EXPECT_EQ(entry->size, 1000U);
    EXPECT_FALSE(entry->event_stream);
}

TEST(AccessLogEntry, EndsInSeveralWays) {
    struct Row {
        const char* what;
        const char* line;
        AccessLogEnd end;
        int status;
    };
    const Row rows[] = {
        {"a backend's own 502", R"({"OriginStatus":502,"DownstreamStatus":502,"OriginContentSize":170})",
         AccessLogEnd::complete, 502},
        {"Traefik's 502", R"({"OriginStatus":502,"DownstreamStatus":502,"OriginContentSize":11})",
         AccessLogEnd::unanswered, 0},
        {"Traefik's 504", R"({"OriginStatus":504,"DownstreamStatus":504,"OriginContentSize":15})",
         AccessLogEnd::unanswered, 0},
        {"a certificate that is not believed",
         R"({"OriginStatus":500,"DownstreamStatus":500,"OriginContentSize":21})", AccessLogEnd::unanswered,
         0},
        {"the client left", R"({"OriginStatus":499,"DownstreamStatus":499,"OriginContentSize":21})",
         AccessLogEnd::unanswered, 0},
        {"the client left in the middle",
         R"({"OriginStatus":0,"OriginDuration":0,"Duration":4708258348,"DownstreamStatus":200,)"
         R"("DownstreamContentSize":1048576})",
         AccessLogEnd::cut_off, 200},
        {"a WebSocket", R"({"OriginStatus":0,"DownstreamStatus":0,"DownstreamContentSize":0})",
         AccessLogEnd::upgraded, 101},
        {"few fields are kept", R"({"DownstreamStatus":404,"DownstreamContentSize":9,"Duration":77})",
         AccessLogEnd::complete, 404},
        {"a middleware changed it", R"({"OriginStatus":503,"DownstreamStatus":200,"OriginContentSize":1})",
         AccessLogEnd::complete, 503},
    };
    for (const Row& row : rows) {
        const auto entry = parse_access_log_line(row.line);
        ASSERT_TRUE(entry) << row.what;
        EXPECT_EQ(entry->end, row.end) << row.what;
        EXPECT_EQ(entry->status, row.status) << row.what;
        EXPECT_FALSE(entry->server) << row.what;
    }
}

TEST(AccessLogEntry, OldVersionsAndHeaders) {
    const auto entry = parse_access_log_line(
        R"({"DownstreamStatus":200,"ServiceURL":{"Scheme":"h2c","Opaque":"","User":null,"Host":"[fd00::4]:8443"},)"
        R"("RequestMethod":"PURGE","origin_Content-Type":"text/event-stream; charset=utf-8","Extra":[{"Host":"x"}]})");
    ASSERT_TRUE(entry);
    ASSERT_TRUE(entry->server);
    EXPECT_EQ(entry->server->method, "h2c");
    EXPECT_EQ(entry->server->address.to_string(), "[fd00::4]:8443");
    EXPECT_EQ(entry->method, "PURGE");
    EXPECT_TRUE(entry->event_stream);
}

TEST(AccessLogEntry, RefusesWhatIsNone) {
    for (const std::string& line :
         {std::string("{}"), std::string("[]"), std::string("7"), std::string("\"x\""), std::string("null"),
          std::string(R"({"level":"info"})"), complete.substr(0, 300), complete + "x",
          std::string(R"({"DownstreamStatus":"200"})"), std::string(R"({"DownstreamStatus":70000})"),
          std::string(R"({"DownstreamStatus":-1})"), std::string(R"({"a":{"DownstreamStatus":200}})"),
          std::string(R"(198.18.0.1 - - [25/Nov/2026:19:00:00 +0000] "GET / HTTP/1.1" 200 5)"),
          std::string(60'000, '['), std::string(60'000, '{')})
        EXPECT_FALSE(parse_access_log_line(line)) << line.substr(0, 80);
}

// Resources 4 "shop" (https), 5 "wiki" (http), 6 "both" (http and https), 7 "named" (http, a host name), and
// 8 "twin", whose target is the shop's.
std::shared_ptr<const SiteDirectory> directory() {
    auto result = std::make_shared<SiteDirectory>();
    result->sites.emplace_back().site_id = "home";
    for (const char* name : {"shop", "wiki", "both", "named", "twin"}) {
        Resource& resource = result->resources.emplace_back();
        resource.resource_id = name;
        resource.domain = std::string(name) + ".example.com";
        resource.number = 4 + static_cast<std::int64_t>(result->resources.size()) - 1;
    }
    const auto target = [&](std::uint32_t resource, const char* host, std::uint16_t port,
                            const char* method) {
        Target& added = result->targets.emplace_back();
        added.resource = resource;
        added.site = 0;
        added.dialled = TargetAddress::make(host, port);
        added.method = method;
    };
    target(0, "100.89.128.4", 40001, "https");
    target(1, "100.89.128.4", 40002, "http");
    target(2, "100.89.128.4", 40003, "http");
    target(2, "100.89.128.4", 40004, "https");
    target(3, "nginx", 80, "http");
    target(4, "100.89.128.4", 40001, "https");
    return result;
}

std::string line(const std::string& service, const std::string& server, const std::string& host = "") {
    return R"({"DownstreamStatus":200,"OriginStatus":200,"OriginContentSize":10,"OriginDuration":2000000,)"
           R"("RequestMethod":"GET","ServiceName":")" +
           service + R"(","ServiceURL":")" + server + R"(","RequestHost":")" + host + R"("})";
}

class AccessLogAccountsTest : public testing::Test {
  protected:
    AccessLogAccountsTest() { accounts.sites_changed(directory(), start); }
    void add(const std::string& text) {
        const auto entry = parse_access_log_line(text);
        ASSERT_TRUE(entry);
        accounts.add(*entry);
    }
    // "site resource backend count" of what is published.
    std::vector<std::string> published(bool kernel_reads_http) const {
        Snapshot snapshot;
        accounts.add_to(snapshot, kernel_reads_http);
        std::vector<std::string> result;
        for (const TargetAccount& target : snapshot.targets) {
            std::uint64_t count = 0;
            for (const auto& [answer, requests] : target.http.requests)
                count += requests;
            result.push_back(target.labels->site_id + " " + target.labels->resource_id + " " +
                             target.labels->backend + " " + std::to_string(count));
        }
        return result;
    }
    const std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
    AccessLogAccounts accounts;
};

TEST_F(AccessLogAccountsTest, EachRequestHasOneOwner) {
    add(line("4-shop-service@http", "https://100.89.128.4:40001"));
    add(line("5-wiki-service@http", "http://100.89.128.4:40002"));
    add(line("6-both-service@http", "http://100.89.128.4:40003"));
    add(line("6-both-service@http", "https://100.89.128.4:40004"));
    add(line("7-named-service@http", "http://nginx:80"));
    EXPECT_THAT(published(true), ElementsAre("home both 100.89.128.4:40004 1", "home named nginx:80 1",
                                             "home shop 100.89.128.4:40001 1"));
    EXPECT_THAT(published(false),
                ElementsAre("home both 100.89.128.4:40003 1", "home both 100.89.128.4:40004 1",
                            "home named nginx:80 1", "home shop 100.89.128.4:40001 1",
                            "home wiki 100.89.128.4:40002 1"));
    EXPECT_EQ(accounts.unattributed(), 0U);
}

TEST_F(AccessLogAccountsTest, WhatSharesATargetIsToldByServiceOrHost) {
    add(line("8-twin-service@http", "https://100.89.128.4:40001"));
    add(line("x-service@file", "https://100.89.128.4:40001", "twin.example.com"));
    add(line("4-shop-service@http", "https://100.89.128.4:40001", "twin.example.com"));
    EXPECT_THAT(published(true),
                ElementsAre("home shop 100.89.128.4:40001 1", "home twin 100.89.128.4:40001 2"));
}

TEST_F(AccessLogAccountsTest, WithoutServiceUrlTheServiceTellsWhenItCan) {
    const auto without_url = [](const std::string& service) {
        return R"({"DownstreamStatus":200,"RequestMethod":"GET","ServiceName":")" + service + R"("})";
    };
    add(without_url("4-shop-service@http"));
    add(without_url("5-wiki-service@http"));
    EXPECT_THAT(published(true), ElementsAre("home shop 100.89.128.4:40001 1"));
    add(without_url("6-both-service@http"));
    EXPECT_EQ(accounts.unattributed(), 1U);
    add(without_url("99-gone-service@http"));
    EXPECT_EQ(accounts.unattributed(), 2U);
    // Pangolin's own pages, redirections, and what Traefik answers by itself.
    add(without_url("next-service@file"));
    add(line("api-service@file", "http://pangolin:3000"));
    add(R"({"DownstreamStatus":404})");
    EXPECT_EQ(accounts.unattributed(), 2U);
    EXPECT_THAT(published(true), ElementsAre("home shop 100.89.128.4:40001 1"));
}

TEST_F(AccessLogAccountsTest, AddsToWhatTheKernelSaw) {
    const auto of_shop = [](int status, int size, const char* more = "") {
        return R"({"DownstreamStatus":)" + std::to_string(status) + R"(,"OriginStatus":)" +
               std::to_string(status) + R"(,"OriginContentSize":)" + std::to_string(size) +
               R"(,"OriginDuration":2000000,"RequestMethod":"POST","ServiceName":"4-shop-service@http",)"
               R"("ServiceURL":"https://100.89.128.4:40001")" +
               more + "}";
    };
    add(of_shop(201, 300));
    add(of_shop(503, 7));
    add(of_shop(502, 11));
    add(of_shop(200, 5000, R"(,"origin_Content-Type":"text/event-stream")"));
    Snapshot snapshot;
    TargetAccount& target = snapshot.targets.emplace_back();
    target.labels = std::make_shared<const TargetLabels>(TargetLabels{"home", "shop", "100.89.128.4:40001"});
    target.errors.fill(3);
    accounts.add_to(snapshot, true);
    ASSERT_EQ(snapshot.targets.size(), 1U);
    const TargetAccount& shop = snapshot.targets.front();
    EXPECT_EQ(shop.errors.front(), 3U);
    EXPECT_EQ(shop.http.requests, (Requests{{{HTTP_METHOD_POST, 201}, 1},
                                            {{HTTP_METHOD_POST, 503}, 1},
                                            {{HTTP_METHOD_POST, HTTP_STATUS_NONE}, 1},
                                            {{HTTP_METHOD_POST, 200}, 1}}));
    EXPECT_EQ(shop.http.server_errors(), 1U);
    EXPECT_EQ(shop.http.aborted, 1U);
    EXPECT_EQ(shop.http.durations.at(HTTP_METHOD_POST).count(), 2U);
    EXPECT_EQ(shop.http.durations.at(HTTP_METHOD_POST).histogram().sum_us, 4000U);
    ASSERT_EQ(snapshot.backends.size(), 1U);
    EXPECT_EQ(snapshot.backends.front().labels->backend, "100.89.128.4:40001");
    EXPECT_EQ(snapshot.backends.front().response_sizes.sum, 5307U);
    EXPECT_EQ(snapshot.backends.front().response_sizes.bucket[0], 1U);
    EXPECT_EQ(snapshot.backends.front().response_sizes.bucket[1], 1U);
}

TEST_F(AccessLogAccountsTest, CountsSurviveTheirTargetForAWhile) {
    const auto nothing = std::make_shared<const SiteDirectory>();
    const char* const its_counts = "home shop 100.89.128.4:40001 1";
    add(line("4-shop-service@http", "https://100.89.128.4:40001"));
    accounts.sites_changed(nothing, start);
    accounts.sites_changed(nothing, start + account_lifetime);
    EXPECT_THAT(published(true), ElementsAre(its_counts)) << "nobody has seen them yet";
    add(line("4-shop-service@http", "https://100.89.128.4:40001"));
    EXPECT_EQ(accounts.unattributed(), 1U);
    accounts.sites_changed(nothing, start + account_lifetime - std::chrono::seconds(1));
    EXPECT_THAT(published(true), ElementsAre(its_counts));
    accounts.sites_changed(nothing, start + account_lifetime);
    EXPECT_THAT(published(true), ElementsAre());
}

TEST_F(AccessLogAccountsTest, ABackendKeepsItsSizesAsLongAsAnyResourceHasIt) {
    const auto sum = [&] {
        Snapshot snapshot;
        accounts.add_to(snapshot, true);
        return snapshot.backends.front().response_sizes.sum;
    };
    add(line("4-shop-service@http", "https://100.89.128.4:40001"));
    add(line("8-twin-service@http", "https://100.89.128.4:40001"));
    auto without = std::make_shared<SiteDirectory>(*directory());
    const std::uint64_t before = sum();
    std::erase_if(without->targets, [&](const Target& target) {
        return without->resources[target.resource].resource_id == "shop";
    });
    accounts.sites_changed(without, start);
    sum();
    accounts.sites_changed(without, start + account_lifetime);
    EXPECT_EQ(sum(), before);
    EXPECT_EQ(published(true).size(), 1U);
}

TEST(AccessLogMonitor, PublishesWhatIsAppended) {
    const ScratchFolder folder;
    const std::string path = folder.path("access.log");
    AccessLogMonitor monitor(path);
    monitor.sites_changed(directory());
    monitor.start();
    const auto describe = [&] {
        Snapshot snapshot;
        snapshot.add_feature("http", true);
        snapshot.add_feature("sockets", true);
        monitor.describe(snapshot);
        return snapshot;
    };
    EXPECT_FALSE(describe().sources.front().up);
    EXPECT_FALSE(AccessLogMonitor::inspect(path));
    std::ofstream(path) << "no JSON\n" << line("4-shop-service@http", "https://100.89.128.4:40001") << "\n";
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(4);
    while (describe().targets.empty() && std::chrono::steady_clock::now() < end)
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const Snapshot snapshot = describe();
    ASSERT_EQ(snapshot.targets.size(), 1U);
    EXPECT_TRUE(snapshot.sources.front().up);
    EXPECT_EQ(snapshot.lost_updates.front().reason, "malformed");
    EXPECT_EQ(snapshot.lost_updates.front().count, 1U);
    EXPECT_TRUE(AccessLogMonitor::inspect(path));
    // Another process goes on with what this one knew, and with what was written in between.
    ArchiveWriter writer;
    monitor.save(writer);
    std::ofstream(path, std::ios::app)
        << line("4-shop-service@http", "https://100.89.128.4:40001") << "\nno JSON\n";
    EXPECT_FALSE(AccessLogMonitor::inspect(path));
    AccessLogMonitor next(path);
    ArchiveReader reader(writer.bytes());
    next.restore(reader);
    EXPECT_TRUE(reader.ok());
    next.sites_changed(directory());
    next.start();
    Snapshot later;
    next.describe(later);
    ASSERT_EQ(later.targets.size(), 1U);
    EXPECT_EQ(later.targets.front().http.requests, (Requests{{{HTTP_METHOD_GET, 200}, 2}}));
    EXPECT_EQ(later.targets.front().http.durations.at(HTTP_METHOD_GET).count(), 2U);
    EXPECT_EQ(later.lost_updates.front().count, 2U);
    // What makes no sense is not believed.
    ArchiveReader broken(writer.bytes().first(writer.bytes().size() / 2));
    AccessLogMonitor fresh(path);
    fresh.restore(broken);
    Snapshot none;
    fresh.describe(none);
    EXPECT_TRUE(none.targets.empty());
}

}  // namespace
}  // namespace pangolin
