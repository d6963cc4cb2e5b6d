// What Pangolin's database, a sites.yml or Traefik's API says about sites, resources, their targets and
// clients.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loader/base/error.h"
#include "loader/base/ip_prefix.h"
#include "userspace/wireguard/key.h"

namespace pangolin {

enum class SiteType : std::uint8_t { newt, wireguard, local };
std::string_view to_string(SiteType type);

// One site (Pangolin's table `sites`, joined with `exitNodes`).
struct Site {
    // The site's name in the label site_id, by metrics.metadata.site_label.
    std::string site_id;
    std::string name;
    std::string organisation;
    SiteType type = SiteType::newt;
    // sites.pubKey; newt makes a new one at each start, so it may be older than the tunnel's.
    std::optional<WireGuardKey> public_key;
    // newt.id: by which newt asks for a token. Empty when unknown.
    std::string newt_id;
    // sites.exitNodeSubnet (sites.subnet before 1.22.0), the site's networks inside the tunnel.
    std::vector<IpPrefix> tunnel;
    // The address before the "/" of the first of them, which Traefik dials for newt's targets.
    std::optional<IpAddress> tunnel_address;
    // sites.listenPort: the UDP port at the tunnel address that relayed client traffic goes to.
    std::optional<std::uint16_t> listen_port;
    // exitNodes.name and .region; empty when unknown.
    std::string exit_node;
    std::string region;
    // exitNodes.publicKey: the WireGuard interface that serves the site. None: assume this host.
    std::optional<WireGuardKey> exit_node_public_key;
    // Pangolin's own view (sites.online, from newt's WebSocket pings); none when the source does not say.
    std::optional<bool> online;

    bool operator==(const Site&) const = default;
};

// The label site_id of traffic that belongs to no known site, hence no site's own.
inline constexpr std::string_view unassigned_site_id = "unassigned";

// One resource (Pangolin's table `resources`).
struct Resource {
    // The resource's name in the label resource_id: its niceId, or its number where it has none.
    std::string resource_id;
    std::string name;
    std::string organisation;
    // resources.fullDomain; empty for tcp and udp.
    std::string domain;
    // "http", "tcp" or "udp", or another of Pangolin's modes ("ssh", "rdp", "vnc", "inference").
    std::string protocol = "http";
    // Traefik ends TLS for it.
    bool ssl = false;
    bool enabled = true;
    // The port on which Traefik takes tcp or udp.
    std::optional<std::uint16_t> proxy_port;
    // resources.resourceId, as in the paths of Pangolin's API; none when the source does not say.
    std::optional<std::int64_t> number;

    bool operator==(const Resource&) const = default;
};

// Where something listens: an address, or a name that only the one who dials it can resolve.
struct TargetAddress {
    // Without brackets. An address is in the form that IpAddress writes.
    std::string host;
    // None when `host` is a name.
    std::optional<IpAddress> address;
    std::uint16_t port = 0;

    // `host` may have an IPv6 address's brackets.
    static TargetAddress make(std::string_view host, std::uint16_t port);
    static TargetAddress make(const IpAddress& address, std::uint16_t port);
    // "100.89.128.4:40001", "[fd00::4]:40001", "nginx:80": the label `backend`.
    std::string to_string() const;

    auto operator<=>(const TargetAddress&) const = default;
};

enum class TargetHealth : std::uint8_t { unknown, healthy, unhealthy };
enum class PathMatch : std::uint8_t { none, exact, prefix, regex };

// One target of a resource at a site (Pangolin's table `targets`, joined with `targetHealthCheck`).
struct Target {
    // Index into SiteDirectory::resources.
    std::uint32_t resource = 0;
    // Index into SiteDirectory::sites; none when no site is known for it.
    std::optional<std::uint32_t> site;
    // What Traefik dials (Pangolin's server/lib/traefik/loadBalancer.ts and browserGateway.ts): for a newt
    // the site's tunnel address and targets.internalPort, or newt_gateway_port for ssh, rdp and vnc; for the
    // other sites the real target. None while that cannot be told. Several targets may share one.
    std::optional<TargetAddress> dialled;
    // Where that leads when it is a name, each address once; empty while nobody knows. See TargetNames.
    std::vector<IpAddress> resolved;
    // targets.ip and .port, as the site sees them; none when the source does not say.
    std::optional<TargetAddress> real;
    // "http", "https" or "h2c"; empty for tcp and udp.
    std::string method;
    // Requests of the resource that come here: all, or those whose path matches.
    std::string path;
    PathMatch path_match = PathMatch::none;
    bool enabled = true;
    // Pangolin's own health check is on, and what it found last.
    bool health_checked = false;
    TargetHealth health = TargetHealth::unknown;

    // The addresses at which connections to `dialled` are seen.
    std::vector<IpAddress> dialled_addresses() const {
        return dialled && dialled->address ? std::vector{*dialled->address} : resolved;
    }

    bool operator==(const Target&) const = default;
};

// newt's browser gateway at a site's tunnel address, shared by the site's ssh, rdp and vnc resources.
inline constexpr std::uint16_t newt_gateway_port = 39999;

// One client (Pangolin's table `clients`): a device that runs olm.
struct Client {
    // The client's name in the label client_id: its niceId, or its number where it has none.
    std::string client_id;
    std::string name;
    std::string organisation;
    // clients.pubKey: olm's key. Since 1.22.0 a client may be a peer of the exit node's interface, too.
    std::optional<WireGuardKey> public_key;
    // clients.exitNodeSubnet: its network on the exit node's interface; none before 1.22.0.
    std::optional<IpPrefix> tunnel;
    // clients.subnet without its length: its address among its organisation's clients and sites.
    std::optional<IpAddress> address;
    // exitNodes.publicKey, as Site has it.
    std::optional<WireGuardKey> exit_node_public_key;

    bool operator==(const Client&) const = default;
};

// One immutable reading. Sites are in the order of site_id, resources of resource_id, clients of client_id,
// targets of their resource.
struct SiteDirectory {
    std::vector<Site> sites;
    std::vector<Resource> resources;
    std::vector<Target> targets;
    std::vector<Client> clients;

    bool operator==(const SiteDirectory&) const = default;
};

// Where the directory comes from. read() may block for a moment (a file, one short SELECT, up to some seconds
// for a server that does not answer); it is called from one thread. An error leaves the caller with the
// directory that it had.
class SiteSource {
  public:
    SiteSource() = default;
    SiteSource(const SiteSource&) = delete;
    SiteSource& operator=(const SiteSource&) = delete;
    virtual ~SiteSource() = default;
    // "sqlite", "postgres", "sites_file" or "traefik": the label `source` of pangolin_exporter_source_up.
    virtual std::string_view name() const = 0;
    virtual Result<SiteDirectory> read() = 0;
};

class DatabaseReading;

enum class SiteLabel : std::uint8_t { nice_id, site_id, name };

// Pangolin's SQLite database, opened read-only for one short SELECT at a time: Pangolin's Node thread waits
// for readers. `also`, if it is not null, reads what else it wants after each reading.
std::unique_ptr<SiteSource> make_sqlite_site_source(std::string path, SiteLabel label,
                                                    std::shared_ptr<DatabaseReading> also = nullptr);

// Pangolin's PostgreSQL database, in a read-only session that is kept between readings. `connection_string`
// is a URI or "key=value ..." as Pangolin (node-postgres) or libpq take it; no error ever shows its password.
std::unique_ptr<SiteSource> make_postgres_site_source(const std::string& connection_string, SiteLabel label,
                                                      std::shared_ptr<DatabaseReading> also = nullptr);

// A sites.yml.
std::unique_ptr<SiteSource> make_sites_file_source(std::string path);

// Resources and targets from Traefik's API at `url` ("http://127.0.0.1:8080"). Sites, and the sites of
// targets by their tunnels, come from `sites`, whose own resources win where it has any; null: none are
// known. With `sites` a failure of Traefik costs only what is new in it and is logged.
std::unique_ptr<SiteSource> make_traefik_site_source(const std::string& url,
                                                     std::unique_ptr<SiteSource> sites = nullptr);

}  // namespace pangolin
