#include "exporter/configuration_schema.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>

#include "exporter/application/metric_names.h"
#include "exporter/catalogue.h"
#include "exporter/duration.h"
#include "loader/base/number.h"
#include "userspace/metadata/http_get.h"
#include "userspace/metadata/text.h"

namespace pangolin {
namespace {

constexpr std::array<YamlChoice<HookMode>, 3> hook_modes{
    {{"auto", HookMode::automatic}, {"tcx", HookMode::tcx}, {"clsact", HookMode::clsact}}};
constexpr std::array<YamlChoice<HandshakeMode>, 4> handshake_modes{{{"auto", HandshakeMode::automatic},
                                                                    {"module", HandshakeMode::module},
                                                                    {"underlay", HandshakeMode::underlay},
                                                                    {"off", HandshakeMode::off}}};
constexpr std::array<YamlChoice<SiteLabel>, 3> site_labels{
    {{"niceId", SiteLabel::nice_id}, {"siteId", SiteLabel::site_id}, {"name", SiteLabel::name}}};

// Beyond these a wrong digit is likelier than a wish; a map of a million peers takes some 100 MB.
constexpr std::int64_t greatest_series = 10'000'000;
constexpr std::int64_t greatest_map = 1'048'576;
constexpr auto least_refresh = std::chrono::seconds(1);
constexpr auto greatest_refresh = std::chrono::hours(1);
// SDKs push every minute by default.
constexpr auto least_age = std::chrono::seconds(10);
constexpr auto greatest_age = std::chrono::hours(24);

Result<std::string> parse_netns(std::string_view text) {
    constexpr std::string_view pid = "pid:";
    constexpr std::string_view container = "container:";
    const char* hint = "Write auto, host, a name under /run/netns, a path, container:NAME or pid:NUMBER.";
    if (text.empty() || text == container)
        return failure("names no network namespace", hint);
    if (text.starts_with(pid)) {
        const auto number = parse_number<std::int32_t>(text.substr(pid.size()));
        if (!number || *number < 1)
            return failure(in_quotes(text) + " is no process", hint);
    }
    return std::string(text);
}

bool is_interface_name(std::string_view name) {
    constexpr std::size_t longest = 15;  // IFNAMSIZ without its NUL
    const auto forbidden = [](char c) {
        return c == '/' || c == ':' || static_cast<unsigned char>(c) <= ' ';
    };
    return !name.empty() && name.size() <= longest && name != "." && name != ".." &&
           std::ranges::none_of(name, forbidden);
}

// Empty is allowed: not set.
Result<std::string> parse_url(std::string_view text) {
    for (const std::string_view scheme : {"http://", "https://"})
        if (text.starts_with(scheme) && text.size() > scheme.size() && text[scheme.size()] != '/')
            return std::string(text);
    if (text.empty())
        return std::string();
    return failure(in_quotes(text) + " is not a URL", "Begin with http:// or https:// and a host.");
}

void read_listen(YamlMapping& metrics, std::uint16_t port, std::vector<ListenAddress>& listen) {
    std::vector<std::string> texts;
    metrics.texts("listen", texts);
    if (texts.empty() || (texts.size() == 1 && texts[0].empty()))
        texts = {"0.0.0.0"};
    for (std::size_t i = 0; i < texts.size(); ++i) {
        auto address = ListenAddress::parse(texts[i], port);
        if (!address)
            metrics.problem_at("listen", i, address.error().what, address.error().hint);
        else if (address->port == 0)
            metrics.problem_at("listen", i, in_quotes(texts[i]) + " has port 0",
                               "Choose a port from 1 to 65535.");
        else if (std::ranges::find(listen, *address) != listen.end())
            metrics.problem_at("listen", i, in_quotes(texts[i]) + " is written twice",
                               "Remove one of the two.");
        else
            listen.push_back(std::move(*address));
    }
}

void read_wireguard(YamlMapping wireguard, WireGuardConfiguration& value) {
    wireguard.parsed("netns", value.netns, parse_netns);
    wireguard.choice<HookMode>("attach", value.attach, hook_modes);
    wireguard.choice<HandshakeMode>("handshakes", value.handshakes, handshake_modes);
    wireguard.texts("interfaces", value.interfaces);
    for (std::size_t i = 0; i < value.interfaces.size(); ++i)
        if (!is_interface_name(value.interfaces[i]))
            wireguard.problem_at("interfaces", i, in_quotes(value.interfaces[i]) + " is no interface name",
                                 "Names have 1 to 15 characters, as 'ip link' shows them.");
    wireguard.finish();
}

bool is_absent(const std::string& path) {
    std::error_code error;
    return !std::filesystem::exists(path, error) && !error;
}

// `traefik` has been read.
void read_metadata(YamlMapping metadata, const std::string& folder, const PangolinSettings& pangolin,
                   const TraefikConfiguration& traefik, MetadataConfiguration& value) {
    metadata.text("sqlite", value.sqlite);
    metadata.text("postgres", value.postgres);
    metadata.text("sites_file", value.sites_file);
    metadata.parsed("refresh", value.refresh, [](std::string_view text) {
        return parse_duration(text, least_refresh, greatest_refresh);
    });
    metadata.choice<SiteLabel>("site_label", value.site_label, site_labels);
    metadata.finish();

    if (!value.sites_file.empty())
        value.kind = MetadataKind::sites_file;
    else if (!value.postgres.empty() ||
             (value.sqlite.empty() && !pangolin.postgres_connection_string.empty()))
        value.kind = MetadataKind::postgres;
    else if (value.sqlite.empty() && !traefik.api.empty() && is_absent(default_database(folder)))
        value.kind = MetadataKind::traefik;
    if (value.postgres.empty())
        value.postgres = pangolin.postgres_connection_string;
    value.sqlite = value.sqlite.empty() ? default_database(folder) : resolve_path(folder, value.sqlite);
    value.sites_file = resolve_path(folder, value.sites_file);
}

void read_http(YamlMapping http, HttpConfiguration& value) {
    http.boolean("enabled", value.enabled);
    http.texts("cgroups", value.cgroups);
    for (std::size_t i = 0; i < value.cgroups.size(); ++i)
        if (value.cgroups[i].empty())
            http.problem_at("cgroups", i, "an entry is empty", "Name a folder below the cgroup-v2 root.");
    http.finish();
}

void read_traefik(YamlMapping traefik, const std::string& folder, TraefikConfiguration& value) {
    value.acme = "letsencrypt/acme.json";
    traefik.text("acme", value.acme);
    traefik.parsed("api", value.api, parse_url);
    traefik.text("access_log", value.access_log);
    traefik.finish();
    value.acme = resolve_path(folder, value.acme);
    value.access_log = resolve_path(folder, value.access_log);
}

void read_otlp(YamlMapping otlp, const std::string& folder, OtlpConfiguration& value) {
    otlp.boolean("enabled", value.enabled);
    otlp.parsed("listen", value.listen,
                [&](std::string_view text) { return ListenAddress::parse(text, 4318); });
    if (value.listen.port == 0)
        otlp.problem("listen", "has port 0", "Choose a port from 1 to 65535.");
    otlp.text("token_file", value.token_file);
    otlp.parsed("max_age", value.max_age,
                [](std::string_view text) { return parse_duration(text, least_age, greatest_age); });
    otlp.finish();
    value.token_file = resolve_path(folder, value.token_file);
}

void read_prefer(YamlMapping& application, std::vector<std::string>& prefer) {
    std::vector<std::string_view> names;
    for (const Metric& row : catalogue())
        if (row.source != "S")
            names.push_back(row.name);
    application.texts("prefer", prefer);
    for (std::size_t i = 0; i < prefer.size(); ++i) {
        if (std::ranges::find(names, prefer[i]) != names.end())
            continue;
        const auto close = nearest(prefer[i], names);
        application.problem_at(
            "prefer", i, in_quotes(prefer[i]) + " is no family that can be given away",
            close ? fmt::format("Did you mean '{}'? 'pangolin_exporter catalog' lists the families.", *close)
                  : "'pangolin_exporter catalog' lists the families.");
    }
}

// Not `auto`, which is many.
Result<std::string> parse_one_netns(std::string_view text) {
    if (text == "auto")
        return failure("'auto' is not one network namespace",
                       "Write host, a name under /run/netns, a path, container:NAME or pid:NUMBER.");
    return parse_netns(text);
}

Result<std::string> parse_scrape_url(std::string_view text) {
    if (const auto endpoint = HttpEndpoint::parse(text); !endpoint)
        return std::unexpected(endpoint.error());
    return std::string(text);
}

// "LABEL=VALUE"
Result<Label> parse_label(std::string_view text) {
    const std::size_t equals = text.find('=');
    if (equals == std::string_view::npos || !is_label_name(text.substr(0, equals)))
        return failure(in_quotes(text) + " is no label", "Write it as in 'program=gerbil'.");
    return Label{std::string(text.substr(0, equals)), std::string(text.substr(equals + 1))};
}

ScrapeTarget read_scrape_target(YamlMapping& entry) {
    ScrapeTarget target;
    entry.require("name", "Name the application, as in 'name: gerbil'.");
    entry.require("url", "Name its metrics page, as in 'url: http://127.0.0.1:3004/metrics'.");
    entry.text("name", target.name);
    entry.parsed("url", target.url, parse_scrape_url);
    entry.parsed("netns", target.netns, parse_one_netns);
    entry.parsed("interval", target.interval,
                 [](std::string_view text) { return parse_duration(text, least_refresh, greatest_refresh); });
    std::vector<std::string> labels;
    entry.texts("labels", labels);
    for (std::size_t i = 0; i < labels.size(); ++i) {
        auto label = parse_label(labels[i]);
        if (!label)
            entry.problem_at("labels", i, label.error().what, label.error().hint);
        else if (std::ranges::find(target.labels, label->name, &Label::name) != target.labels.end())
            entry.problem_at("labels", i, in_quotes(label->name) + " is written twice",
                             "Remove one of the two.");
        else
            target.labels.push_back(std::move(*label));
    }
    if (entry.has("name") && target.name.empty())
        entry.problem("name", "is empty", "Name the application, as in 'name: gerbil'.");
    return target;
}

void read_application(YamlMapping application, const std::string& folder, ApplicationConfiguration& value) {
    read_otlp(application.mapping("otlp"), folder, value.otlp);
    for (YamlMapping& entry : application.mappings("scrape")) {
        ScrapeTarget target = read_scrape_target(entry);
        if (std::ranges::find(value.scrape, target.name, &ScrapeTarget::name) != value.scrape.end())
            entry.problem("name", in_quotes(target.name) + " is written twice",
                          "Give each target a name of its own.");
        entry.finish();
        value.scrape.push_back(std::move(target));
    }
    read_prefer(application, value.prefer);
    application.finish();
}

void read_limits(YamlMapping limits, LimitsConfiguration& value) {
    limits.integer("max_series", value.max_series, 1, greatest_series);
    limits.integer("max_peers", value.max_peers, 1, greatest_map);
    limits.integer("max_targets", value.max_targets, 1, greatest_map);
    limits.finish();
}

}  // namespace

std::string resolve_path(const std::string& folder, const std::string& path) {
    if (path.empty())
        return path;
    return (std::filesystem::path(folder) / path).lexically_normal().string();
}

std::string default_database(const std::string& folder) {
    return resolve_path(folder, "db/db.sqlite");
}

MetricsSection read_metrics_section(YamlMapping metrics, const std::string& folder,
                                    const PangolinSettings& pangolin) {
    MetricsSection section;
    Configuration& configuration = section.configuration;
    configuration.pangolin = pangolin;
    std::uint16_t port = default_port;
    metrics.boolean("enabled", section.enabled);
    metrics.integer("port", port, 1, 65535);
    read_listen(metrics, port, configuration.listen);
    read_wireguard(metrics.mapping("wireguard"), configuration.wireguard);
    read_traefik(metrics.mapping("traefik"), folder, configuration.traefik);
    read_metadata(metrics.mapping("metadata"), folder, pangolin, configuration.traefik,
                  configuration.metadata);
    read_http(metrics.mapping("http"), configuration.http);
    read_application(metrics.mapping("application"), folder, configuration.application);
    read_limits(metrics.mapping("limits"), configuration.limits);
    metrics.text("state_dir", configuration.state_dir);
    if (!configuration.state_dir.starts_with('/'))
        metrics.problem("state_dir", in_quotes(configuration.state_dir) + " is not an absolute path",
                        "Begin with '/', as in /var/lib/pangolin_exporter.");
    metrics.text("pin_dir", configuration.pin_dir);
    if (!configuration.pin_dir.empty() && !configuration.pin_dir.starts_with('/'))
        metrics.problem("pin_dir", in_quotes(configuration.pin_dir) + " is not an absolute path",
                        "Begin with '/', as in /sys/fs/bpf/pangolin_exporter, or write '' to pin nothing.");
    metrics.boolean("confine", configuration.confine);
    metrics.finish();
    return section;
}

}  // namespace pangolin
