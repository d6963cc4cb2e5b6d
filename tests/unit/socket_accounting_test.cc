#include "userspace/socket_accounting.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace pangolin::test {
namespace {

using namespace std::chrono_literals;
using testing::IsEmpty;

WireGuardKey key(std::uint8_t number) {
    WireGuardKey result;
    result.bytes.fill(number);
    return result;
}

// A site "home" behind interface 1, "hut" behind interface 2 with the same address, and "here" without a
// tunnel.
SiteDirectory directory() {
    SiteDirectory result;
    for (const char* id : {"home", "hut", "here"})
        result.sites.emplace_back().site_id = id;
    result.sites[0].exit_node_public_key = key(1);
    result.sites[1].exit_node_public_key = key(2);
    result.sites[2].type = SiteType::local;
    for (const char* id : {"database", "web"}) {
        Resource& resource = result.resources.emplace_back();
        resource.resource_id = id;
        resource.protocol = id == std::string_view("web") ? "http" : "tcp";
    }
    return result;
}

Target target(std::uint32_t resource, std::uint32_t site, const char* host, std::uint16_t port) {
    Target result;
    result.resource = resource;
    result.site = site;
    result.dialled = TargetAddress::make(host, port);
    result.method = "http";
    return result;
}

// The kernel's side: counts by index that go on for as long as somebody asks for them.
class Host {
  public:
    explicit Host(std::uint32_t max_targets = 100) : accounting(max_targets) {}

    void follow(const SiteDirectory& now) {
        directory_ = now;
        index_.emplace(directory_);
        listed = accounting.follow(*index_, tunnels, ledger);
    }
    std::uint32_t index_of(std::uint16_t port, std::uint32_t netns = 0) const {
        for (const SocketTarget& each : listed)
            if (each.port == port && each.netns == netns)
                return each.index;
        return 0;
    }
    void poll() {
        ledger.begin_poll();
        std::vector<TargetSocketCounts> read;
        for (const auto& [index, each] : counts)
            read.push_back({index, each});
        accounting.credit(read, now);
        for (const std::uint32_t index : accounting.finished(now)) {
            counts.erase(index);
            accounting.retire(index);
        }
        ledger.end_poll(now);
    }
    ConnectionErrors errors(const char* site, const char* resource, const char* backend) {
        return ledger.resources.target(site, resource, backend)->errors;
    }
    std::optional<bool> healthy(const char* site, const char* backend) {
        return ledger.resources.backend(site, backend)->healthy;
    }

    SocketAccounting accounting;
    Ledger ledger;
    std::vector<Tunnels> tunnels{{key(1), 11}};
    std::map<std::uint32_t, socket_counts> counts;
    std::vector<SocketTarget> listed;
    std::chrono::steady_clock::time_point now{1h};

  private:
    SiteDirectory directory_;
    std::optional<TargetIndex> index_;
};

TEST(SocketAccounting, EachCauseIsTheErrorItIs) {
    Host host;
    SiteDirectory known = directory();
    known.targets = {target(0, 0, "10.0.0.1", 40000)};
    host.follow(known);
    ASSERT_EQ(host.listed.size(), 1U);
    socket_counts& counts = host.counts[host.index_of(40000)];
    struct Case {
        const char* what;
        std::function<void(socket_counts&)> happens;
        ConnectionErrors errors;
    };
    const Case cases[] = {
        {"refused", [](auto& c) { c.failures[SOCKET_FAILURE_REFUSED] += 3; }, {0, 3, 0, 0, 0}},
        {"timeout", [](auto& c) { c.failures[SOCKET_FAILURE_TIMEOUT] += 2; }, {2, 0, 0, 0, 0}},
        {"no route", [](auto& c) { c.failures[SOCKET_FAILURE_UNREACHABLE] += 1; }, {0, 0, 0, 0, 1}},
        {"abandoned", [](auto& c) { c.failures[SOCKET_FAILURE_ABANDONED] += 9; }, {}},
        {"ordinary", [](auto& c) { c.ends[SOCKET_END_ORDINARY] += 9; }, {}},
        {"early", [](auto& c) { c.ends[SOCKET_END_EARLY] += 4; }, {0, 0, 0, 4, 0}},
        {"reset", [](auto& c) { c.ends[SOCKET_END_RESET] += 5; }, {0, 0, 5, 0, 0}},
        {"lost", [](auto& c) { c.ends[SOCKET_END_UNREACHABLE] += 6; }, {0, 0, 0, 0, 6}},
        {"unseen", [](auto& c) { c.ends[SOCKET_END_UNSEEN] += 9; }, {}},
    };
    counts.established = 1000;
    ConnectionErrors expected{};
    for (const Case& each : cases) {
        each.happens(counts);
        host.poll();
        host.poll();
        for (std::size_t error = 0; error < connection_errors; ++error)
            expected[error] += each.errors[error];
        EXPECT_EQ(host.errors("home", "database", "10.0.0.1:40000"), expected) << each.what;
        EXPECT_EQ(host.ledger.resources.backend("home", "10.0.0.1:40000")->errors, expected) << each.what;
    }
}

TEST(SocketAccounting, LiveConnectionsOfRawTcpAlone) {
    Host host;
    SiteDirectory known = directory();
    known.targets = {target(0, 0, "10.0.0.1", 40000), target(0, 0, "10.0.0.1", 40001),
                     target(1, 0, "10.0.0.1", 40002)};
    host.follow(known);
    host.poll();
    const ResourceAccount& database = *host.ledger.resources.of("home", "database");
    EXPECT_EQ(database.tcp_connections, 0U);
    host.counts[host.index_of(40000)].established = 5;
    host.counts[host.index_of(40001)].found = 2;
    host.counts[host.index_of(40002)].established = 3;
    host.poll();
    EXPECT_EQ(database.tcp_connections, 7U);
    EXPECT_EQ(host.ledger.resources.of("home", "web")->tcp_connections, std::nullopt);
    host.counts[host.index_of(40000)].ends[SOCKET_END_ORDINARY] = 4;
    host.poll();
    EXPECT_EQ(database.tcp_connections, 3U);
}

TEST(SocketAccounting, PayloadIsALocalSitesTraffic) {
    Host host;
    SiteDirectory known = directory();
    known.targets = {target(1, 0, "10.0.0.1", 40000), target(1, 2, "172.17.0.1", 80)};
    host.follow(known);
    for (const std::uint16_t port : {40000, 80}) {
        host.counts[host.index_of(port)].bytes[TRAFFIC_INGRESS] = 1000;
        host.counts[host.index_of(port)].bytes[TRAFFIC_EGRESS] = 10;
    }
    host.poll();
    host.poll();
    EXPECT_EQ(host.ledger.resources.of("here", "web")->traffic.count[TRAFFIC_INGRESS].bytes, 1000U);
    EXPECT_EQ(host.ledger.sites.of("here")->traffic.count[TRAFFIC_EGRESS][TRAFFIC_TCP].bytes, 10U);
    EXPECT_EQ(host.ledger.resources.of("home", "web")->traffic.count[TRAFFIC_INGRESS].bytes, 0U)
        << "these are the packets'";
    EXPECT_TRUE(host.ledger.resources.of("here", "web")->counted);
}

TEST(SocketAccounting, HttpTargetsAtOneAddressAreToldApartByDomain) {
    Host host;
    SiteDirectory known = directory();
    for (const char* id : {"shop", "terminal", "twin"}) {
        Resource& resource = known.resources.emplace_back();
        resource.resource_id = id;
        resource.domain = std::string(id) + ".example";
    }
    known.resources[1].domain = "web.example";
    known.resources[3].protocol = "ssh";
    known.resources[4].domain = "web.example";
    // At one address: a raw TCP one too, and twice the same resource. Another one alone.
    known.targets = {target(1, 0, "10.0.0.1", 80), target(2, 0, "10.0.0.1", 80),
                     target(2, 0, "10.0.0.1", 80), target(3, 0, "10.0.0.1", 80),
                     target(4, 0, "10.0.0.1", 80), target(2, 0, "10.0.0.1", 81)};
    host.follow(known);
    ASSERT_EQ(host.listed.size(), 2U);
    EXPECT_TRUE(host.listed[0].http);
    const std::uint32_t first = host.index_of(80);
    const auto& hosts = host.accounting.http_hosts();
    ASSERT_EQ(hosts.size(), 2U) << "what has the first one's domain is not told apart";
    for (const HttpHost& each : hosts) {
        EXPECT_EQ(each.target, first);
        EXPECT_NE(each.owner, first);
        const auto accounts = host.accounting.accounts_of(each.owner);
        ASSERT_TRUE(accounts);
        EXPECT_EQ(accounts->target->labels->resource_id + ".example", each.name);
        EXPECT_EQ(accounts->target->labels->backend, "10.0.0.1:80");
    }
    EXPECT_EQ(host.accounting.accounts_of(first)->target->labels->resource_id, "web");
    // They go as other targets do, and come back under indexes that nobody had.
    known.targets.erase(known.targets.begin() + 1, known.targets.begin() + 5);
    host.follow(known);
    EXPECT_THAT(host.accounting.http_hosts(), IsEmpty());
    host.now += 10min;
    host.poll();
    host.now += 10min;
    host.poll();
    EXPECT_EQ(host.accounting.size(), 2U);
}

TEST(SocketAccounting, ATargetThatMovesTakesOnlyItsFuture) {
    Host host;
    SiteDirectory known = directory();
    known.targets = {target(0, 0, "10.0.0.1", 40000)};
    host.follow(known);
    const std::uint32_t index = host.index_of(40000);
    host.counts[index].failures[SOCKET_FAILURE_REFUSED] = 3;
    host.poll();
    known.targets = {target(1, 0, "10.0.0.1", 40000)};
    host.follow(known);
    EXPECT_EQ(host.index_of(40000), index);
    host.counts[index].failures[SOCKET_FAILURE_REFUSED] = 5;
    host.poll();
    EXPECT_EQ(host.errors("home", "database", "10.0.0.1:40000")[1], 3U);
    EXPECT_EQ(host.errors("home", "web", "10.0.0.1:40000")[1], 2U);
    EXPECT_EQ(host.ledger.resources.backend("home", "10.0.0.1:40000")->errors[1], 5U);
}

TEST(SocketAccounting, AGoneTargetIsWatchedToItsConnectionsEndAndItsIndexNeverAnothers) {
    Host host;
    SiteDirectory known = directory();
    known.targets = {target(0, 0, "10.0.0.1", 40000)};
    host.follow(known);
    const std::uint32_t index = host.index_of(40000);
    host.counts[index].established = 1;
    host.poll();
    known.targets = {target(0, 0, "10.0.0.1", 40001)};
    host.follow(known);
    EXPECT_NE(host.index_of(40001), index);
    host.now += 10min;
    host.poll();
    host.now += 10min;
    host.poll();
    EXPECT_EQ(host.accounting.size(), 2U);
    EXPECT_EQ(host.ledger.resources.of("home", "database")->tcp_connections, 1U);
    host.counts[index].ends[SOCKET_END_RESET] = 1;
    host.poll();
    EXPECT_EQ(host.errors("home", "database", "10.0.0.1:40000")[2], 1U);
    EXPECT_EQ(host.accounting.size(), 1U);
    EXPECT_FALSE(host.counts.contains(index));
    // Back again: another index, and the totals go on.
    known.targets.push_back(target(0, 0, "10.0.0.1", 40000));
    host.follow(known);
    EXPECT_GT(host.index_of(40000), host.index_of(40001));
    host.counts[host.index_of(40000)].ends[SOCKET_END_RESET] = 1;
    host.poll();
    EXPECT_EQ(host.errors("home", "database", "10.0.0.1:40000")[2], 2U);
}

TEST(SocketAccounting, GoesOnInAnotherProcess) {
    Host host;
    SiteDirectory known = directory();
    known.targets = {target(0, 0, "10.0.0.1", 40000), target(0, 0, "10.0.0.1", 40001)};
    host.follow(known);
    const std::uint32_t index = host.index_of(40001);
    host.counts[index].established = 3;
    host.counts[index].ends[SOCKET_END_RESET] = 1;
    host.poll();
    ArchiveWriter written;
    SocketState state;
    host.accounting.save(state);
    written(state);

    Host next;
    ArchiveReader reader(written.bytes());
    SocketState read;
    reader(read);
    EXPECT_TRUE(reader.ok() && reader.at_end());
    next.accounting.restore(read, next.ledger);
    next.counts = host.counts;
    next.counts[index].ends[SOCKET_END_RESET] = 2;
    next.poll();
    EXPECT_EQ(next.errors("home", "database", "10.0.0.1:40001")[2], 1U) << "the other process credited one";
    next.follow(known);
    EXPECT_EQ(next.index_of(40001), index);
    EXPECT_EQ(next.ledger.resources.of("home", "database")->tcp_connections, 1U);
    known.targets.push_back(target(0, 0, "10.0.0.1", 40002));
    next.follow(known);
    EXPECT_EQ(next.index_of(40002), host.accounting.next_index());
    // Other maps.
    next.accounting.restart();
    next.poll();
    EXPECT_EQ(next.errors("home", "database", "10.0.0.1:40001")[2], 3U);
}

TEST(SocketAccounting, AnAttemptMayEndAfterItsTargetIsGone) {
    Host host;
    SiteDirectory known = directory();
    known.targets = {target(0, 0, "10.0.0.1", 40000)};
    host.follow(known);
    const std::uint32_t index = host.index_of(40000);
    known.targets.clear();
    host.follow(known);
    host.poll();
    host.now += 127s;
    host.counts[index].failures[SOCKET_FAILURE_TIMEOUT] = 1;
    host.poll();
    EXPECT_EQ(host.errors("home", "database", "10.0.0.1:40000")[0], 1U);
    host.now += 127s;
    host.poll();
    EXPECT_EQ(host.accounting.size(), 0U);
}

TEST(SocketAccounting, EqualAddressesOfTwoInterfacesAreToldApartByNamespace) {
    Host host;
    SiteDirectory known = directory();
    known.targets = {target(0, 0, "10.0.0.1", 40000), target(0, 1, "10.0.0.1", 40000)};
    host.follow(known);
    EXPECT_EQ(host.listed.size(), 1U) << "one interface: dialled from anywhere";
    host.tunnels = {{key(1), 11}, {key(2), 12}};
    host.follow(known);
    ASSERT_EQ(host.listed.size(), 2U);
    host.counts[host.index_of(40000, 11)].failures[SOCKET_FAILURE_REFUSED] = 1;
    host.counts[host.index_of(40000, 12)].failures[SOCKET_FAILURE_REFUSED] = 2;
    host.poll();
    EXPECT_EQ(host.errors("home", "database", "10.0.0.1:40000")[1], 1U);
    EXPECT_EQ(host.errors("hut", "database", "10.0.0.1:40000")[1], 2U);
}

TEST(SocketAccounting, HealthIsWhatTheLastConnectionsShowed) {
    Host host;
    SiteDirectory known = directory();
    known.targets = {target(1, 0, "10.0.0.1", 40000)};
    host.follow(known);
    socket_counts& counts = host.counts[host.index_of(40000)];
    struct Step {
        const char* what;
        std::chrono::seconds later;
        std::function<void(socket_counts&)> happens;
        std::optional<bool> healthy;
    };
    const Step steps[] = {
        {"nothing is known", 0s, [](auto&) {}, std::nullopt},
        {"made", 1s, [](auto& c) { ++c.established; }, true},
        {"in use for long", 10min, [](auto&) {}, true},
        {"closed", 1s, [](auto& c) { ++c.ends[SOCKET_END_ORDINARY]; }, std::nullopt},
        {"newt accepts and closes", 1s,
         [](auto& c) {
             c.established += 2;
             c.ends[SOCKET_END_EARLY] += 2;
         },
         false},
        {"nobody asks", 59s, [](auto&) {}, false},
        {"for a minute", 1s, [](auto&) {}, std::nullopt},
        {"refused", 1s, [](auto& c) { ++c.failures[SOCKET_FAILURE_REFUSED]; }, false},
        {"abandoned says nothing", 1s, [](auto& c) { ++c.failures[SOCKET_FAILURE_ABANDONED]; }, false},
        {"mostly made", 1s,
         [](auto& c) {
             c.established += 3;
             ++c.failures[SOCKET_FAILURE_TIMEOUT];
         },
         true},
    };
    for (const Step& step : steps) {
        host.now += step.later;
        step.happens(counts);
        host.poll();
        EXPECT_EQ(host.healthy("home", "10.0.0.1:40000"), step.healthy) << step.what;
    }
}

TEST(SocketAccounting, RefusesAndSaysSo) {
    Host host(1);
    SiteDirectory known = directory();
    known.targets = {target(0, 0, "10.0.0.1", 40000), target(0, 0, "10.0.0.1", 40001)};
    host.follow(known);
    EXPECT_EQ(host.listed.size(), 1U);
    EXPECT_EQ(host.accounting.refused(), 1U);
    host.follow(known);
    EXPECT_EQ(host.accounting.refused(), 1U);
}

}  // namespace
}  // namespace pangolin::test
