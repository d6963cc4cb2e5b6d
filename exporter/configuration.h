// The section `metrics` of Pangolin's config.yml.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "exporter/application/scrape_target.h"
#include "exporter/listen_address.h"
#include "loader/base/error.h"
#include "loader/network_hook.h"
#include "loader/wireguard_probe.h"
#include "userspace/metadata/site_directory.h"

namespace pangolin {

// Every path below is absolute or relative to the working directory: what the file gives relative to its own
// folder has been resolved.

struct WireGuardConfiguration {
    // auto | host | NAME | PATH | container:NAME | pid:N, as find_network_namespaces() takes it.
    std::string netns = "auto";
    // Names; empty means all that are found.
    std::vector<std::string> interfaces;
    HookMode attach = HookMode::automatic;
    HandshakeMode handshakes = HandshakeMode::automatic;
};

enum class MetadataKind : std::uint8_t { sqlite, postgres, sites_file, traefik };

// Where sites and resources come from.
struct MetadataConfiguration {
    // What is used: sites_file where it is set, else sqlite or postgres as set here, else PostgreSQL where
    // Pangolin's own settings name one, else the SQLite file where Pangolin puts it. Where that is not there
    // at the start, and metrics.traefik.api is set, it is Traefik.
    MetadataKind kind = MetadataKind::sqlite;
    std::string sqlite;
    // A connection string with a password in it: never log it.
    std::string postgres;
    std::string sites_file;
    std::chrono::milliseconds refresh = std::chrono::seconds(10);
    SiteLabel site_label = SiteLabel::nice_id;
};

struct HttpConfiguration {
    bool enabled = true;
    // Folders of cgroup-v2; empty means its root.
    std::vector<std::string> cgroups;
};

struct TraefikConfiguration {
    // Its acme.json; empty: not used.
    std::string acme;
    // Base URL of Traefik's API, for resources where neither a database nor the sites_file tells them; empty:
    // not used.
    std::string api;
    // Its access log in JSON, for requests that the kernel cannot read; empty: not used.
    std::string access_log;
};

struct OtlpConfiguration {
    bool enabled = true;
    ListenAddress listen{"127.0.0.1", 4318};
    // Empty: no token is asked for.
    std::string token_file;
    // A series is published for this long after it was pushed last.
    std::chrono::milliseconds max_age = std::chrono::minutes(5);
};

struct ApplicationConfiguration {
    OtlpConfiguration otlp;
    std::vector<ScrapeTarget> scrape;
    // Families of the catalogue that applications own although the exporter measures them.
    std::vector<std::string> prefer;
};

struct LimitsConfiguration {
    // Of applications.
    std::uint32_t max_series = 200000;
    std::uint32_t max_peers = 16384;
    std::uint32_t max_targets = 65536;
};

// What is read of Pangolin's own settings, with Pangolin's defaults. Values that make no sense are left at
// those: judging them is Pangolin's business.
struct PangolinSettings {
    // Of the environment variable POSTGRES_CONNECTION_STRING, else of the file, as Pangolin has it. As secret
    // as MetadataConfiguration::postgres.
    std::string postgres_connection_string;
    std::uint16_t external_port = 3000;
    std::uint16_t internal_port = 3001;
    std::uint16_t next_port = 3002;
    std::uint16_t integration_port = 3003;
};

struct Configuration {
    // At least one.
    std::vector<ListenAddress> listen;
    WireGuardConfiguration wireguard;
    MetadataConfiguration metadata;
    HttpConfiguration http;
    TraefikConfiguration traefik;
    ApplicationConfiguration application;
    LimitsConfiguration limits;
    std::string state_dir = "/var/lib/pangolin_exporter";
    // Where programs and maps are pinned; empty: they end with the process.
    std::string pin_dir = "/sys/fs/bpf/pangolin_exporter";
    // Whether privileges and system calls that are not needed are given up at the start.
    bool confine = true;
    PangolinSettings pangolin;
};

struct LoadedConfiguration {
    // None: metrics are switched off, and `summary` says by what.
    std::optional<Configuration> configuration;
    // One line for the log: which file was read, or why none, or why nothing is to be done.
    std::string summary;
};

// Where config.yml is looked for when the command line names none, in this order.
const std::vector<std::string>& default_configuration_paths();

// Reads `file`, or without one the first of `search` that exists, or without any of these the defaults.
// `file` must exist. Errors are about the file's contents (with line and column) or about reading it; they
// are the operator's to mend, exit code 2.
Result<LoadedConfiguration> load_configuration(
    const std::optional<std::string>& file,
    const std::vector<std::string>& search = default_configuration_paths());

}  // namespace pangolin
