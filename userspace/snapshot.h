// One collection's result: everything that is published, joined and immutable.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bpf/shared/traffic.h"
#include "userspace/accounts/account_snapshot.h"
#include "userspace/certificates/certificate_snapshot.h"
#include "userspace/control_plane/control_counts.h"
#include "userspace/host/host_snapshot.h"
#include "userspace/metadata/site_directory.h"
#include "userspace/resource_ledger.h"
#include "userspace/site_health.h"
#include "userspace/wireguard/key.h"

namespace pangolin {

// A site with what was counted for it since the exporter's start. Totals only grow.
struct SiteSnapshot {
    // Null for the unassigned traffic; otherwise points into Snapshot::directory, or is one of
    // departed_sites.
    const Site* site = nullptr;
    std::string_view site_id() const { return site ? std::string_view(site->site_id) : unassigned_site_id; }

    // Inner IP packets and bytes, by direction and protocol.
    traffic_counts traffic{};
    // Part of it: client traffic that gerbil relays to the site inside the tunnel.
    target_counts relay{};
    // Bytes of all protocols.
    std::uint64_t bytes(traffic_direction direction) const {
        std::uint64_t sum = 0;
        for (const traffic_count& count : traffic.count[direction])
            sum += count.bytes;
        return sum;
    }

    // What WireGuard counted (encrypted); none when the site never had a peer here.
    std::optional<std::uint64_t> tunnel_receive_bytes;
    std::optional<std::uint64_t> tunnel_transmit_bytes;
    // The kernel's view. None for a local site, for one that another exit node serves, and while WireGuard
    // cannot be read.
    std::optional<bool> tunnel_up;
    // Seconds during which the tunnel was seen up; none for a local site, and for one that another exit node
    // serves.
    std::optional<double> uptime_seconds;
    // A peer of this site was seen here at least once.
    bool had_peer = false;
    // Null when there was nothing to tell; to be read as if all were 0.
    std::shared_ptr<const SiteHealth> health;
};

// A client that was seen as a peer. Totals only grow.
struct ClientSnapshot {
    std::string client_id;
    // Inner IP packets and bytes, by direction and protocol.
    traffic_counts traffic{};
};

// A peer of a WireGuard interface as WireGuard reports it now.
struct PeerSnapshot {
    // Index into Snapshot::interfaces.
    std::uint32_t interface = 0;
    std::array<char, WireGuardKey::base64_length> public_key{};
    const Site* site = nullptr;
    std::uint64_t receive_bytes = 0;
    std::uint64_t transmit_bytes = 0;
    // Unix seconds; 0 when there was none.
    double last_handshake_seconds = 0;
};

// A WireGuard interface that is counted.
struct InterfaceSnapshot {
    std::string name;
    std::string netns;
    // As to_string() writes WireGuardImplementation and HookKind.
    std::string_view implementation;
    std::string_view hook;
    // Packets that could not be attributed to any address, by direction and reason (enum
    // traffic_undecodable).
    std::array<std::array<std::uint64_t, TRAFFIC_UNDECODABLE_REASONS>, TRAFFIC_DIRECTIONS> undecodable{};
};

struct SourceStatus {
    // "wireguard", "kernel" or a SiteSource's name.
    std::string_view name;
    bool up = false;
    // Of the last failure; empty while up.
    std::string error;
};

struct FeatureStatus {
    std::string_view name;
    bool enabled = false;
};

// Attached programs by the kind of hook.
struct Attachments {
    std::string_view hook;
    std::uint64_t count = 0;
};

struct MapUsage {
    std::string_view map;
    // Index into Snapshot::interfaces.
    std::uint32_t interface = 0;
    std::uint64_t entries = 0;
    std::uint64_t max_entries = 0;
};

struct LostUpdates {
    std::string_view map;
    std::string_view reason;
    std::uint64_t count = 0;
};

struct ActiveSites {
    std::string region;
    std::uint64_t sites = 0;
};

struct Snapshot {
    std::chrono::system_clock::time_point time;
    // These two keep every `site` pointer below alive.
    std::shared_ptr<const SiteDirectory> directory;
    std::vector<std::shared_ptr<const Site>> departed_sites;
    std::vector<SiteSnapshot> sites;
    // In the order of their labels.
    std::vector<ResourceAccount> resources;
    std::vector<TargetAccount> targets;
    std::vector<BackendAccount> backends;
    // Connections to targets whose HTTP cannot be read, by enum http_opaque; none where none is read.
    std::optional<std::array<std::uint64_t, HTTP_OPAQUE_KINDS>> http_opaque;
    std::vector<ClientSnapshot> clients;
    std::vector<PeerSnapshot> peers;
    std::vector<InterfaceSnapshot> interfaces;
    std::vector<ActiveSites> active_sites;
    // Null where Pangolin's own exchanges are not observed.
    std::shared_ptr<const ControlCounts> control_plane;
    std::vector<SourceStatus> sources;
    std::vector<FeatureStatus> features;
    std::vector<Attachments> attachments;
    std::vector<MapUsage> maps;
    std::vector<LostUpdates> lost_updates;
    CertificateSnapshot certificates;
    // Null while Pangolin's database cannot be read.
    std::shared_ptr<const AccountCounts> accounts;
    // That it is, or is to be as soon as it can be.
    bool reads_accounts = false;
    // Those of `accounts`, as they were last while the database cannot be read: they are part of sums.
    std::optional<BlueprintCounts> blueprints;
    HostSnapshot host;
    // Wall time that this collection took, and what all collections took.
    double collection_seconds = 0;
    std::uint64_t collections = 0;
    double collections_seconds_sum = 0;

    // A feature is in use when it is on some interface.
    void add_feature(std::string_view name, bool enabled);
    void add_attachments(std::string_view hook, std::uint64_t count);
};

}  // namespace pangolin
