#include "exporter/catalogue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "tests/support/random_snapshot.h"

namespace pangolin {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

// Keeps samples as "value1|value2 = number".
class Recorder final : public Samples {
  public:
    void add(LabelValues labels, std::uint64_t value) override { record(labels, std::to_string(value)); }
    void add(LabelValues labels, double value) override { record(labels, std::to_string(value)); }
    void add_summary(LabelValues labels, double sum, std::uint64_t count) override {
        record(labels, std::to_string(sum) + "/" + std::to_string(count));
    }
    void add_histogram(LabelValues labels, std::span<const double> bounds, std::span<const __u64> buckets,
                       double sum) override {
        EXPECT_EQ(buckets.size(), bounds.size() + 1);
        EXPECT_TRUE(std::ranges::is_sorted(bounds));
        record(labels, std::to_string(sum) + "/" +
                           std::to_string(std::accumulate(buckets.begin(), buckets.end(), std::uint64_t{0})));
    }
    std::vector<std::string> samples;
    std::set<std::size_t> label_counts;

  private:
    void record(LabelValues labels, const std::string& value) {
        std::string sample;
        for (const std::string_view label : labels)
            sample += (sample.empty() ? "" : "|") + std::string(label);
        samples.push_back(sample + " = " + value);
        label_counts.insert(labels.size());
    }
};

void record(const Metric& metric, const Snapshot& snapshot, Recorder& recorder) {
    const SnapshotView view(snapshot);
    if (const auto* const site = std::get_if<EmitSite>(&metric.emit))
        for (const SiteSnapshot& element : snapshot.sites)
            (*site)(element, view, recorder);
    else if (const auto* const resource = std::get_if<EmitResource>(&metric.emit))
        for (const ResourceAccount& element : snapshot.resources)
            (*resource)(element, view, recorder);
    else if (const auto* const target = std::get_if<EmitTarget>(&metric.emit))
        for (const TargetAccount& element : snapshot.targets)
            (*target)(element, view, recorder);
    else if (const auto* const backend = std::get_if<EmitBackend>(&metric.emit))
        for (const BackendAccount& element : snapshot.backends)
            (*backend)(element, view, recorder);
    else if (const auto* const peer = std::get_if<EmitPeer>(&metric.emit))
        for (const PeerSnapshot& element : snapshot.peers)
            (*peer)(element, view, recorder);
    else if (const auto* const once = std::get_if<EmitSnapshot>(&metric.emit))
        (*once)(view, recorder);
    if (metric.emit_rest != nullptr)
        metric.emit_rest(view, recorder);
}

std::vector<std::string> emitted(std::string_view name, const Snapshot& snapshot) {
    Recorder recorder;
    record(catalogue_row(name), snapshot, recorder);
    return recorder.samples;
}

Snapshot snapshot_of(const Site& site, SiteSnapshot entry) {
    Snapshot snapshot;
    auto directory = std::make_shared<SiteDirectory>();
    directory->sites = {site};
    entry.site = directory->sites.data();
    snapshot.directory = directory;
    snapshot.sites = {entry};
    return snapshot;
}

TEST(Catalogue, NamesFollowPrometheusConventions) {
    const std::regex form("(pangolin|process)(_[a-z]+)+");
    std::set<std::string_view> names;
    for (const Metric& row : catalogue()) {
        SCOPED_TRACE(row.name);
        EXPECT_TRUE(std::regex_match(std::string(row.name), form));
        EXPECT_TRUE(names.insert(row.name).second);
        EXPECT_EQ(row.name.ends_with("_total"), row.type == MetricType::counter);
        EXPECT_EQ(row.name.ends_with("_info"), row.type == MetricType::info);
        const std::string suffix =
            "_" + std::string(row.unit) + (row.type == MetricType::counter ? "_total" : "");
        EXPECT_TRUE(row.unit.empty() || row.name.ends_with(suffix));
    }
}

TEST(Catalogue, LabelsAreValidAndUnique) {
    const std::regex form("[a-z]+(_[a-z]+)*");
    for (const Metric& row : catalogue()) {
        std::set<std::string_view> seen;
        for (const std::string_view label : row.labels) {
            EXPECT_TRUE(std::regex_match(std::string(label), form)) << row.name << " " << label;
            EXPECT_TRUE(seen.insert(label).second) << row.name << " " << label;
            EXPECT_TRUE(label != "le" && label != "quantile") << row.name;
        }
    }
}

TEST(Catalogue, HelpIsOneSentence) {
    for (const Metric& row : catalogue()) {
        EXPECT_TRUE(row.help.ends_with('.')) << row.name;
        // Printed as it is in Markdown and JSON.
        for (const char c : row.help)
            EXPECT_TRUE(c >= ' ' && c <= '~' && c != '"' && c != '\\' && c != '|') << row.name;
        EXPECT_EQ(row.help.find(". "), std::string_view::npos) << row.name;
        EXPECT_EQ(row.source.find_first_not_of("KWHDFAS"), std::string_view::npos) << row.name;
        EXPECT_FALSE(row.source.empty()) << row.name;
    }
}

TEST(Catalogue, EmitsAsManyValuesAsLabels) {
    const auto snapshot = random_snapshot(1);
    for (const Metric& row : catalogue()) {
        Recorder recorder;
        record(row, *snapshot, recorder);
        if (std::holds_alternative<EmitNothing>(row.emit))
            EXPECT_THAT(recorder.samples, IsEmpty()) << row.name;
        else
            EXPECT_THAT(recorder.label_counts, ElementsAre(row.labels.size())) << row.name;
    }
}

TEST(Catalogue, EmitsNoSeriesTwice) {
    const auto snapshot = random_snapshot(2, {.sites = 50, .interfaces = 3});
    for (const Metric& row : catalogue()) {
        std::set<std::string> series;
        for (const std::string& sample : emitted(row.name, *snapshot))
            EXPECT_TRUE(series.insert(sample.substr(0, sample.rfind(" = "))).second)
                << row.name << " " << sample;
    }
}

TEST(Catalogue, PublishesAProtocolInBothDirectionsOnceItWasSeen) {
    Site site;
    site.site_id = "home";
    SiteSnapshot entry;
    entry.traffic.count[TRAFFIC_EGRESS][TRAFFIC_UDP] = {.packets = 2, .bytes = 300};
    const Snapshot snapshot = snapshot_of(site, entry);
    EXPECT_THAT(emitted("pangolin_site_bandwidth_bytes_total", snapshot),
                ElementsAre("home|ingress|udp = 0", "home|egress|udp = 300"));
    EXPECT_THAT(emitted("pangolin_site_packets_total", snapshot),
                ElementsAre("home|ingress|udp = 0", "home|egress|udp = 2"));
}

TEST(Catalogue, OnlineByTransport) {
    struct Case {
        const char* description;
        SiteType type;
        std::optional<bool> online;
        std::optional<bool> tunnel_up;
        std::vector<std::string> expected;
    };
    const Case cases[] = {
        {"newt, views disagree", SiteType::newt, true, false, {"s|websocket = 1", "s|wireguard = 0"}},
        {"newt on another exit node", SiteType::newt, true, std::nullopt, {"s|websocket = 1"}},
        {"newt from a source that does not say", SiteType::newt, std::nullopt, true, {"s|wireguard = 1"}},
        {"plain WireGuard has no WebSocket", SiteType::wireguard, false, true, {"s|wireguard = 1"}},
        {"local", SiteType::local, true, std::nullopt, {"s|local = 1"}},
    };
    for (const Case& test : cases) {
        Site site;
        site.site_id = "s";
        site.type = test.type;
        site.online = test.online;
        SiteSnapshot entry;
        entry.tunnel_up = test.tunnel_up;
        EXPECT_EQ(emitted("pangolin_site_online", snapshot_of(site, entry)), test.expected)
            << test.description;
    }
}

TEST(Catalogue, BackendsAreOneSeriesEach) {
    Snapshot snapshot;
    auto directory = std::make_shared<SiteDirectory>();
    directory->sites.emplace_back().site_id = "home";
    directory->resources.emplace_back().resource_id = "web";
    Target target;
    target.site = 0;
    target.dialled = TargetAddress::make("fd00::4", 40001);
    target.real = TargetAddress::make("nginx", 80);
    Target other_path = target;
    other_path.path = "/api";
    Target of_no_site;
    of_no_site.dialled = TargetAddress::make("10.0.0.1", 80);
    Target disabled = of_no_site;
    disabled.enabled = false;
    disabled.dialled->port = 81;
    directory->targets = {target, other_path, of_no_site, disabled, Target{}};
    snapshot.directory = directory;
    EXPECT_THAT(
        emitted("pangolin_backend_info", snapshot),
        UnorderedElementsAre("[fd00::4]:40001|home|web|nginx:80 = 1", "10.0.0.1:80|unassigned|web| = 1"));
    EXPECT_THAT(emitted("pangolin_resource_info", snapshot), ElementsAre("web||||http = 1"));
    EXPECT_THAT(emitted("pangolin_backend_info", Snapshot{}), IsEmpty());
}

TEST(Catalogue, ResourcesAreZeroWhereTheyAreCounted) {
    Snapshot snapshot;
    const auto add = [&](const char* resource_id, bool counted) -> ResourceAccount& {
        ResourceAccount& added = snapshot.resources.emplace_back();
        added.labels = std::make_shared<const ResourceLabels>(ResourceLabels{"home", resource_id});
        added.counted = counted;
        return added;
    };
    add("elsewhere", false);
    add("game", true).udp_flows = 3;
    add("ssh", true).tcp_connections = 0;
    add("web", true).traffic.count[TRAFFIC_EGRESS] = {.packets = 1, .bytes = 40};
    EXPECT_THAT(emitted("pangolin_resource_bandwidth_bytes_total", snapshot),
                ElementsAre("home|game|ingress = 0", "home|game|egress = 0", "home|ssh|ingress = 0",
                            "home|ssh|egress = 0", "home|web|ingress = 0", "home|web|egress = 40"));
    EXPECT_THAT(emitted("pangolin_resource_active_connections", snapshot),
                ElementsAre("home|game|udp = 3", "home|ssh|tcp = 0"));
}

TEST(Catalogue, ErrorsAndHealthOfBackends) {
    Snapshot snapshot;
    TargetAccount& target = snapshot.targets.emplace_back();
    target.labels = std::make_shared<const TargetLabels>(TargetLabels{"home", "web", "10.0.0.1:80"});
    target.errors = {1, 2, 3, 4, 5};
    for (const std::optional<bool> healthy :
         {std::optional(true), std::optional(false), std::optional<bool>()}) {
        BackendAccount& backend = snapshot.backends.emplace_back();
        backend.labels = std::make_shared<const BackendLabels>(
            BackendLabels{"home", "10.0.0.1:8" + std::to_string(snapshot.backends.size())});
        backend.healthy = healthy;
    }
    snapshot.backends[1].errors[1] = 7;
    EXPECT_THAT(emitted("pangolin_resource_errors_total", snapshot),
                ElementsAre("home|web|10.0.0.1:80|connect_timeout = 1",
                            "home|web|10.0.0.1:80|connect_refused = 2", "home|web|10.0.0.1:80|reset = 3",
                            "home|web|10.0.0.1:80|early_close = 4", "home|web|10.0.0.1:80|unreachable = 5"));
    EXPECT_THAT(emitted("pangolin_backend_connection_errors_total", snapshot),
                ElementsAre("10.0.0.1:82|home|connect_refused = 7"));
    EXPECT_THAT(emitted("pangolin_backend_health_status", snapshot),
                ElementsAre("10.0.0.1:81|home = 1", "10.0.0.1:82|home = 0"));
}

TEST(Catalogue, WhoElseUsesTheTunnels) {
    Site site;
    site.site_id = "home";
    SiteSnapshot entry;
    Snapshot snapshot = snapshot_of(site, entry);
    snapshot.clients.push_back({"laptop", {}});
    EXPECT_THAT(emitted("pangolin_relay_bytes_total", snapshot), IsEmpty());
    EXPECT_THAT(emitted("pangolin_client_bandwidth_bytes_total", snapshot), IsEmpty());
    snapshot.sites[0].relay.count[TRAFFIC_INGRESS].bytes = 60;
    snapshot.clients[0].traffic.count[TRAFFIC_EGRESS][TRAFFIC_ICMP] = {.packets = 1, .bytes = 84};
    EXPECT_THAT(emitted("pangolin_relay_bytes_total", snapshot),
                ElementsAre("home|ingress = 60", "home|egress = 0"));
    EXPECT_THAT(emitted("pangolin_client_bandwidth_bytes_total", snapshot),
                ElementsAre("laptop|ingress|icmp = 0", "laptop|egress|icmp = 84"));
}

TEST(Catalogue, TrafficOfNoSiteIsUnassigned) {
    Snapshot snapshot;
    SiteSnapshot entry;
    entry.traffic.count[TRAFFIC_INGRESS][TRAFFIC_TCP] = {.packets = 1, .bytes = 40};
    entry.tunnel_receive_bytes = 96;
    snapshot.sites = {entry};
    EXPECT_THAT(emitted("pangolin_site_bandwidth_bytes_total", snapshot),
                ElementsAre("unassigned|ingress|tcp = 40", "unassigned|egress|tcp = 0"));
    EXPECT_THAT(emitted("pangolin_tunnel_bytes_total", snapshot),
                ElementsAre("unassigned|wireguard|ingress = 96"));
    EXPECT_THAT(emitted("pangolin_site_info", snapshot), IsEmpty());
}

TEST(Catalogue, LossesOfSeveralInterfacesAreOneSeries) {
    Snapshot snapshot;
    snapshot.lost_updates = {{"traffic", "full", 2}, {"traffic", "gso_header", 1}, {"traffic", "full", 3}};
    EXPECT_THAT(emitted("pangolin_exporter_lost_updates_total", snapshot),
                UnorderedElementsAre("traffic|full = 5", "traffic|gso_header = 1"));
}

TEST(Catalogue, AttachmentsAndFeaturesOfSeveralInterfaces) {
    Snapshot snapshot;
    for (const std::string_view hook : {"tcx", "clsact", "tcx"}) {
        snapshot.add_attachments(hook, 2);
        snapshot.add_feature("clsact", hook == "clsact");
    }
    EXPECT_THAT(emitted("pangolin_exporter_attachments", snapshot), ElementsAre("tcx = 4", "clsact = 2"));
    EXPECT_THAT(emitted("pangolin_exporter_feature_enabled", snapshot), ElementsAre("clsact = 1"));
}

TEST(Catalogue, HealthOfATunnel) {
    Site site;
    site.site_id = "home";
    SiteSnapshot entry;
    entry.had_peer = true;
    EXPECT_THAT(emitted("pangolin_wg_handshake_total", snapshot_of(site, entry)),
                ElementsAre("home|success = 0", "home|timeout = 0"));
    EXPECT_THAT(emitted("pangolin_tunnel_reconnects_total", snapshot_of(site, entry)),
                ElementsAre("home|wireguard|key_change = 0", "home|wireguard|endpoint_change = 0",
                            "home|wireguard|timeout = 0"));
    EXPECT_THAT(emitted("pangolin_tunnel_latency_seconds", snapshot_of(site, entry)), IsEmpty());
    SiteHealth health;
    health.handshakes[HANDSHAKE_REPLAY] = 3;
    health.connection_drops = 2;
    health.tunnel_latency.observe(1'500'000);
    health.add_drops(TRAFFIC_EGRESS, "netfilter_drop", 5);
    health.tcp_connections[TCP_RESULT_SUCCESS] = 7;
    health.tcp_retransmits = 4;
    entry.health = std::make_shared<const SiteHealth>(health);
    const Snapshot snapshot = snapshot_of(site, entry);
    EXPECT_THAT(emitted("pangolin_wg_handshake_total", snapshot),
                ElementsAre("home|success = 0", "home|replay = 3", "home|timeout = 0"));
    EXPECT_THAT(emitted("pangolin_site_connection_drops_total", snapshot), ElementsAre("home = 2"));
    EXPECT_THAT(emitted("pangolin_tunnel_latency_seconds", snapshot),
                ElementsAre("home|wireguard = 1.500000/1"));
    EXPECT_THAT(emitted("pangolin_site_packet_drops_total", snapshot),
                ElementsAre("home|egress|netfilter_drop = 5"));
    EXPECT_THAT(emitted("pangolin_tcp_retransmits_total", snapshot), ElementsAre("home = 4"));
    EXPECT_THAT(emitted("pangolin_tcp_connections_total", snapshot),
                ElementsAre("home|success = 7", "home|refused = 0", "home|timeout = 0",
                            "home|unreachable = 0", "home|aborted = 0"));
}

TEST(Catalogue, CertificatesOfResources) {
    Snapshot snapshot;
    snapshot.time = std::chrono::system_clock::time_point(std::chrono::seconds(1'000'000));
    auto directory = std::make_shared<SiteDirectory>();
    directory->sites.resize(2);
    directory->sites[0].site_id = "home";
    directory->sites[1].site_id = "office";
    const auto resource = [&](const char* id, const char* domain, bool ssl = true, bool enabled = true) {
        Resource& made = directory->resources.emplace_back();
        made.resource_id = id;
        made.domain = domain;
        made.ssl = ssl;
        made.enabled = enabled;
    };
    resource("everywhere", "a.example.com");
    resource("exact", "exact.example.com");
    resource("nowhere", "b.example.com");
    resource("plain", "c.example.com", false);
    resource("off", "d.example.com", true, false);
    resource("other", "e.example.net");
    for (const auto& [place, site] : {std::pair(0U, 0U), {0U, 1U}, {0U, 1U}, {1U, 1U}, {5U, 0U}}) {
        Target& target = directory->targets.emplace_back();
        target.resource = place;
        target.site = site;
    }
    directory->targets.emplace_back().resource = 2;
    snapshot.directory = directory;
    EXPECT_THAT(emitted("pangolin_certificates_expiry_days", snapshot), IsEmpty());
    EXPECT_THAT(emitted("pangolin_acme_cert_expiry_days", snapshot), IsEmpty());
    EXPECT_THAT(emitted("pangolin_acme_cert_events_total", snapshot), IsEmpty());

    std::vector<Certificate> certificates(2);
    certificates[0].domain = "example.com";
    certificates[0].names = {"*.example.com"};
    certificates[0].not_after = 1'000'000 + 86400 * 3 / 2;
    certificates[1].domain = "exact.example.com";
    certificates[1].names = {"exact.example.com"};
    certificates[1].not_after = 1'000'000 - 86400;
    snapshot.certificates.book = std::make_shared<const CertificateBook>(std::move(certificates));
    snapshot.certificates.events =
        std::make_shared<const CertificateEventCounts>(CertificateEventCounts{{"example.com", {1, 2, 3, 4}}});
    EXPECT_THAT(emitted("pangolin_certificates_expiry_days", snapshot),
                ElementsAre("home|everywhere = 1.500000", "office|everywhere = 1.500000",
                            "office|exact = -1.000000", "unassigned|nowhere = 1.500000"));
    EXPECT_THAT(emitted("pangolin_acme_cert_expiry_days", snapshot),
                ElementsAre("exact.example.com = -1.000000", "example.com = 1.500000"));
    EXPECT_THAT(emitted("pangolin_acme_cert_events_total", snapshot),
                ElementsAre("example.com|issued = 1", "example.com|renewed = 2", "example.com|removed = 3",
                            "example.com|failed = 4"));
}

TEST(SnapshotView, InterfacesOfOneNameAreToldApart) {
    Snapshot snapshot;
    for (const auto& [name, netns] : std::vector<std::pair<const char*, const char*>>{
             {"wg0", "gerbil"}, {"wg1", "gerbil"}, {"wg0", "host"}, {"wg0", "host"}}) {
        auto& interface = snapshot.interfaces.emplace_back();
        interface.name = name;
        interface.netns = netns;
    }
    const SnapshotView view(snapshot);
    EXPECT_EQ(view.interface_label(0), "wg0@gerbil");
    EXPECT_EQ(view.interface_label(1), "wg1");
    EXPECT_EQ(view.interface_label(2), "wg0@host");
    EXPECT_EQ(view.interface_label(3), "wg0@host#2");
    EXPECT_EQ(view.interface_label(4), "");
}

}  // namespace
}  // namespace pangolin
