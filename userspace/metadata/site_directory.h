// Pangolin's sites as its database or a sites.yml describes them.
#pragma once

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
    // sites.exitNodeSubnet (sites.subnet before 1.22.0), the site's networks inside the tunnel.
    std::vector<IpPrefix> tunnel;
    // exitNodes.name and .region; empty when unknown.
    std::string exit_node;
    std::string region;
    // exitNodes.publicKey: the WireGuard interface that serves the site. None: assume this host.
    std::optional<WireGuardKey> exit_node_public_key;
    // Pangolin's own view (sites.online, from newt's WebSocket pings); none when the source does not say.
    std::optional<bool> online;
};

// The label site_id of traffic that belongs to no known site, hence no site's own.
inline constexpr std::string_view unassigned_site_id = "unassigned";

// An immutable list of sites, in the order of site_id.
struct SiteDirectory {
    std::vector<Site> sites;
};

// Where sites come from. read() may block for a moment (a file, one short SELECT); it is called from one
// thread. An error leaves the caller with the directory that it had.
class SiteSource {
  public:
    SiteSource() = default;
    SiteSource(const SiteSource&) = delete;
    SiteSource& operator=(const SiteSource&) = delete;
    virtual ~SiteSource() = default;
    // "sqlite" or "sites_file": the label `source` of pangolin_exporter_source_up.
    virtual std::string_view name() const = 0;
    virtual Result<SiteDirectory> read() = 0;
};

enum class SiteLabel : std::uint8_t { nice_id, site_id, name };

// Pangolin's SQLite database, opened read-only for one short SELECT at a time: Pangolin's Node thread waits
// for readers.
std::unique_ptr<SiteSource> make_sqlite_site_source(std::string path, SiteLabel label);

// A sites.yml.
std::unique_ptr<SiteSource> make_sites_file_source(std::string path);

}  // namespace pangolin
