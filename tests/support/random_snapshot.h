// Snapshots made up for tests and benchmarks.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <utility>

#include "userspace/snapshot.h"

namespace pangolin {

struct RandomSnapshotOptions {
    unsigned sites = 20;
    unsigned interfaces = 2;
    // Each with two targets.
    unsigned resources = 5;
    // Protocols with traffic: at most so many of each site.
    unsigned protocols = TRAFFIC_PROTOCOLS;
    // Names with quotes, line feeds, backslashes and characters of several bytes.
    bool difficult_names = true;
    // Handshakes, latencies, drops.
    bool health = true;
};

namespace random_snapshot_detail {

inline std::string name(std::mt19937_64& random, bool difficult) {
    static constexpr std::string_view plain[] = {"a", "home", "office-", "Z", "0", " ", "_", "x.y"};
    static constexpr std::string_view hard[] = {"\"", "\\", "\n", "é", "漢", "😀", "\t", "{}", ",", "="};
    std::string name;
    for (auto parts = random() % 12; parts > 0; --parts)
        name += difficult && random() % 3 == 0 ? hard[random() % std::size(hard)]
                                               : plain[random() % std::size(plain)];
    return name;
}

inline Site site(std::mt19937_64& random, unsigned number, const RandomSnapshotOptions& options) {
    Site site;
    site.site_id = "mysterious-hedgehog-" + std::to_string(number);
    site.name = name(random, options.difficult_names);
    site.organisation = "org-" + std::to_string(number % 7);
    site.type = static_cast<SiteType>(random() % 3);
    site.exit_node = "Exit Node 1";
    site.region = number % 2 ? "eu" : "";
    if (random() % 8)
        site.online = random() % 2 == 0;
    return site;
}

inline void add_resource(std::mt19937_64& random, unsigned number, const RandomSnapshotOptions& options,
                         SiteDirectory& directory) {
    Resource& resource = directory.resources.emplace_back();
    resource.resource_id = "quick-fox-" + std::to_string(number);
    resource.name = name(random, options.difficult_names);
    resource.organisation = "org-" + std::to_string(number % 7);
    resource.domain = number % 2 ? "" : "app.example.com";
    resource.protocol = number % 2 ? "tcp" : "http";
    resource.ssl = number % 2 == 0;
    for (const char* host : {"100.89.128.4", "fd00::4"}) {
        Target& target = directory.targets.emplace_back();
        target.resource = number;
        if (options.sites > 0)
            target.site = static_cast<std::uint32_t>(random() % options.sites);
        target.dialled = TargetAddress::make(host, static_cast<std::uint16_t>(40000 + number));
        target.real = TargetAddress::make("nginx", 80);
    }
}

inline void fill_traffic(std::mt19937_64& random, struct traffic_counts& traffic, unsigned protocols) {
    for (unsigned protocol = 0; protocol < protocols; ++protocol)
        for (auto& direction : traffic.count) {
            direction[protocol].packets = random() >> (random() % 40 + 24);
            direction[protocol].bytes = 900 * direction[protocol].packets;
        }
}

inline void fill_latency(std::mt19937_64& random, Latency& latency) {
    for (auto count = random() % 100; count > 0; --count)
        latency.observe(random() >> (random() % 34 + 30));
}

inline void fill_http(std::mt19937_64& random, HttpExchanges& exchanges, HttpResponseSizes& sizes) {
    for (const std::uint16_t status : {200, 404, 503})
        exchanges.requests[{HTTP_METHOD_GET, status}] = 1 + random() % 1000;
    fill_latency(random, exchanges.durations[HTTP_METHOD_GET]);
    for (auto& bucket : sizes.bucket)
        bucket = random() % 100;
    sizes.sum = random() >> 30;
}

inline void add_counted(std::mt19937_64& random, const RandomSnapshotOptions& options, Snapshot& snapshot) {
    // In the order of their labels.
    for (unsigned site = 0; site < options.sites; ++site) {
        for (unsigned i = 0; i < options.resources && random() % 3 == 0; ++i) {
            auto& resource = snapshot.resources.emplace_back();
            resource.labels = std::make_shared<const ResourceLabels>(
                ResourceLabels{.site_id = "mysterious-hedgehog-" + std::to_string(site),
                               .resource_id = "quick-fox-" + std::to_string(i)});
            resource.counted = i == 0 || random() % 8 != 0;
            for (auto& count : resource.traffic.count)
                count = {.packets = random() >> 30, .bytes = random() >> 20};
            if (i == 0 || random() % 2 == 0)
                resource.udp_flows = random() % 100;
            if (random() % 2 == 0)
                resource.tcp_connections = random() % 100;
            auto& target = snapshot.targets.emplace_back();
            target.labels = std::make_shared<const TargetLabels>(
                TargetLabels{.site_id = resource.labels->site_id,
                             .resource_id = resource.labels->resource_id,
                             .backend = "100.89.128.4:" + std::to_string(40000 + i)});
            auto& backend = snapshot.backends.emplace_back();
            backend.labels = std::make_shared<const BackendLabels>(
                BackendLabels{.site_id = target.labels->site_id, .backend = target.labels->backend});
            for (std::size_t error = 0; error < connection_errors; ++error)
                backend.errors[error] = target.errors[error] = 1 + random() % 9;
            fill_http(random, target.http, backend.response_sizes);
            resource.http_requests = random() % 10;
            if (i == 0 || random() % 3 != 0)
                backend.healthy = random() % 2 == 0;
        }
    }
    for (const char* client : {"calm-crab", "\"odd\" crab"}) {
        snapshot.clients.push_back({client, {}});
        fill_traffic(random, snapshot.clients.back().traffic, options.protocols);
    }
}

inline PeerSnapshot peer(std::mt19937_64& random, const Site* site, unsigned interface) {
    WireGuardKey key;
    for (auto& byte : key.bytes)
        byte = static_cast<std::uint8_t>(random());
    PeerSnapshot peer;
    peer.interface = interface;
    // Not base64 by the standard, but as long and of the same characters.
    for (std::size_t i = 0; i < peer.public_key.size(); ++i)
        peer.public_key[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ+/0123"[key.bytes[i % key.bytes.size()] % 32];
    peer.site = site;
    peer.receive_bytes = random() >> 20;
    peer.transmit_bytes = random() >> 20;
    peer.last_handshake_seconds = random() % 5 ? 1.7e9 + static_cast<double>(random() % 1000000000) / 1e3 : 0;
    return peer;
}

inline std::shared_ptr<const SiteHealth> health(std::mt19937_64& random) {
    if (random() % 4 == 0)
        return nullptr;
    SiteHealth health;
    for (auto& count : health.handshakes)
        count = random() % 3;
    for (auto& count : health.reconnects)
        count = random() % 3;
    health.connection_drops = random() % 5;
    fill_latency(random, health.handshake_latency);
    if (random() % 2)
        fill_latency(random, health.tunnel_latency);
    for (auto& count : health.tcp_connections)
        count = random() % 100;
    health.tcp_retransmits = random() % 100;
    health.add_drops(TRAFFIC_EGRESS, "netfilter_drop", random() % 100);
    return std::make_shared<const SiteHealth>(std::move(health));
}

inline void add_certificates(std::mt19937_64& random, Snapshot& snapshot) {
    std::vector<Certificate> certificates(2);
    for (const char* const domain : {"example.com", "example.net"}) {
        Certificate& certificate = certificates[domain[8] == 'c' ? 0 : 1];
        certificate.domain = domain;
        certificate.names = {domain, std::string("*.") + domain};
        certificate.not_after = 1'700'000'000 + static_cast<std::int64_t>(random() % 10'000'000);
    }
    snapshot.certificates.book = std::make_shared<const CertificateBook>(std::move(certificates));
    snapshot.certificates.events = std::make_shared<const CertificateEventCounts>(
        CertificateEventCounts{{"example.com", {random() % 10, random() % 10, 0, 1}}});
}

inline void add_control_plane(std::mt19937_64& random, Snapshot& snapshot) {
    ControlCounts counts;
    for (auto* const counted : {&counts.ui_requests, &counts.integration_requests, &counts.sign_ins})
        (*counted)[{name(random, true), "GET", "200"}] = random() % 1000;
    for (auto* const counted : {&counts.sign_in_failures, &counts.background_jobs,
                                &counts.websocket_connections, &counts.websocket_messages})
        (*counted)[{name(random, true), "other"}] = random() % 1000;
    for (auto* const counted : {&counts.tokens_issued, &counts.tokens_revoked, &counts.token_refreshes,
                                &counts.provider_errors, &counts.configuration_reloads, &counts.hole_punches,
                                &counts.session_checks, &counts.active_websockets})
        (*counted)[{name(random, false)}] = random() % 1000;
    const std::chrono::milliseconds duration(random() % 20'000);
    counts.integration_durations[{"/v1/org/:id", "GET"}].observe(duration);
    counts.sign_in_durations[{"password", "success"}].observe(duration);
    counts.provider_syncs.observe(duration);
    counts.session_check_durations.observe(duration);
    snapshot.control_plane = std::make_shared<const ControlCounts>(std::move(counts));
}

inline void add_accounts(std::mt19937_64& random, Snapshot& snapshot) {
    AccountCounts counts;
    for (auto* const family : {&counts.active, &counts.issued})
        for (auto& count : *family)
            count = random() % 1000;
    counts.ended = {random() % 10, random() % 10, random() % 10};
    counts.refreshed = random() % 10;
    counts.user_sessions = random() % 1000;
    counts.blueprints = BlueprintCounts{random() % 10, random() % 10};
    snapshot.accounts = std::make_shared<const AccountCounts>(counts);
    snapshot.reads_accounts = true;
    snapshot.blueprints = counts.blueprints;
    snapshot.host.pangolin_restarts = random() % 10;
    snapshot.host.plugins["badger"] = {random() % 10, random() % 10};
    snapshot.host.sqlite_connections = DatabaseConnections{random() % 2, 1};
    snapshot.host.database_wait_seconds = static_cast<double>(random() % 100000) / 977.0;
}

inline void fill_status(std::mt19937_64& random, Snapshot& snapshot) {
    snapshot.active_sites = {{"eu", random() % 100}, {"us \"east\"", random() % 100}};
    snapshot.sources = {
        {"wireguard", true, ""}, {"kernel", true, ""}, {"sqlite", false, "db.sqlite: <locked>"}};
    snapshot.features = {{"tcx", true}, {"clsact", false}};
    snapshot.attachments = {{"tcx", 4}, {"tracepoint", 3}};
    for (std::uint32_t i = 0; i < snapshot.interfaces.size(); ++i) {
        snapshot.maps.push_back({"routes", i, random() % 100, 1024});
        snapshot.maps.push_back({"unmatched", i, random() % 100, 4096});
    }
    snapshot.http_opaque = {random() % 10, 0, random() % 10, 1};
    snapshot.lost_updates = {{"unmatched", "full", random() % 10}, {"traffic", "gso_header", 0}};
    snapshot.collection_seconds = 0.0125;
    snapshot.collections = random() % 1000;
    snapshot.collections_seconds_sum = static_cast<double>(random() % 100000) / 977.0;
}

}  // namespace random_snapshot_detail

// The same snapshot for the same seed.
inline std::shared_ptr<const Snapshot> random_snapshot(std::uint64_t seed,
                                                       const RandomSnapshotOptions& options = {}) {
    namespace detail = random_snapshot_detail;
    std::mt19937_64 random(seed);
    auto snapshot = std::make_shared<Snapshot>();
    snapshot->time = std::chrono::system_clock::now();
    auto directory = std::make_shared<SiteDirectory>();
    for (unsigned i = 0; i < options.sites; ++i)
        directory->sites.push_back(detail::site(random, i, options));
    for (unsigned i = 0; i < options.resources; ++i)
        detail::add_resource(random, i, options, *directory);
    for (unsigned i = 0; i < options.interfaces; ++i) {
        auto& interface = snapshot->interfaces.emplace_back();
        interface.name = "wg" + std::to_string(i);
        interface.netns = "pid:42 (gerbil)";
        interface.implementation = "kernel";
        interface.hook = i % 2 ? "clsact" : "tcx";
        interface.undecodable[TRAFFIC_INGRESS][TRAFFIC_BAD_VERSION] = random() % 10;
    }
    for (unsigned i = 0; i <= options.sites; ++i) {
        // The last one is the traffic of no site.
        const Site* const site = i < options.sites ? &directory->sites[i] : nullptr;
        auto& entry = snapshot->sites.emplace_back();
        entry.site = site;
        detail::fill_traffic(random, entry.traffic, options.protocols);
        if (i % 4 == 0)
            entry.relay.count[TRAFFIC_EGRESS] = {.packets = random() >> 30, .bytes = random() >> 20};
        if (!site || site->type == SiteType::local)
            continue;
        entry.tunnel_receive_bytes = random() >> 16;
        entry.tunnel_transmit_bytes = random() >> 16;
        entry.tunnel_up = random() % 4 != 0;
        entry.had_peer = site != nullptr;
        if (options.health)
            entry.health = detail::health(random);
        entry.uptime_seconds = static_cast<double>(random() % 100000000) / 997.0;
        snapshot->peers.push_back(
            detail::peer(random, site, options.interfaces ? i % options.interfaces : 0));
    }
    detail::add_counted(random, options, *snapshot);
    snapshot->directory = std::move(directory);
    detail::add_certificates(random, *snapshot);
    detail::add_control_plane(random, *snapshot);
    detail::add_accounts(random, *snapshot);
    detail::fill_status(random, *snapshot);
    return snapshot;
}

}  // namespace pangolin
