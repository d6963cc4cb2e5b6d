#include "exporter/status_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <ctime>
#include <iterator>

#include "exporter/snapshot_view.h"
#include "userspace/utf8.h"

namespace pangolin {

namespace {

// A browser is slow with longer tables, and the page would take megabytes.
constexpr std::size_t max_rows = 500;

constexpr std::string_view head = R"(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>pangolin_exporter</title>
<style>
:root { color-scheme: light dark; --back: #f6f7f9; --card: #fff; --text: #1c2430; --soft: #667085; --line: #e3e6eb;
  --good: #18794e; --good-back: #def3e8; --bad: #b42318; --bad-back: #fde4e1; --link: #175cd3; }
@media (prefers-color-scheme: dark) { :root { --back: #101418; --card: #181e25; --text: #e6e9ee; --soft: #98a2b3;
  --line: #2a323c; --good: #5fd39b; --good-back: #12372a; --bad: #ff9c92; --bad-back: #46201c; --link: #84b4ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 3rem; max-width: 72rem; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
header { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; align-items: baseline; }
h1 { margin: 0; font-size: 1.4rem; } h2 { margin: 2rem 0 .5rem; font-size: 1.05rem; }
a { color: var(--link); } nav { display: flex; gap: 1rem; } .soft { color: var(--soft); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; overflow-x: auto; }
.problems { padding: .75rem 1rem; margin-top: 1rem; color: var(--bad); background: var(--bad-back);
  border-radius: 10px; } .problems ul { margin: .25rem 0 0; padding-left: 1.25rem; }
table { width: 100%; border-collapse: collapse; }
th, td { padding: .45rem .9rem; text-align: left; border-top: 1px solid var(--line); white-space: nowrap; }
tr:first-child th { border-top: 0; color: var(--soft); font-weight: 500; font-size: .85rem; }
td.text { min-width: 11rem; white-space: normal; overflow-wrap: anywhere; } .number { text-align: right; font-variant-numeric: tabular-nums; }
.pill { display: inline-block; padding: 0 .6rem; border-radius: 1rem; font-size: .85rem; }
.good { color: var(--good); background: var(--good-back); } .bad { color: var(--bad); background: var(--bad-back); }
</style></head><body>
)";

void append_escaped(std::string& out, std::string_view text) {
    for (const char c : text) {
        switch (c) {
            case '&':
                out += "&amp;";
                break;
            case '<':
                out += "&lt;";
                break;
            case '>':
                out += "&gt;";
                break;
            case '"':
                out += "&quot;";
                break;
            case '\'':
                out += "&#39;";
                break;
            default:
                out += c;
        }
    }
}

template <class... Arguments>
void append(std::string& out, fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    fmt::format_to(std::back_inserter(out), format, std::forward<Arguments>(arguments)...);
}

std::string human_bytes(std::uint64_t bytes) {
    static constexpr std::array<std::string_view, 6> units{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024)
        return fmt::format("{} B", bytes);
    double value = static_cast<double>(bytes) / 1024;
    std::size_t unit = 0;
    for (; value >= 1024 && unit + 1 < units.size(); ++unit)
        value /= 1024;
    return fmt::format("{:.1f} {}", value, units.at(unit));
}

std::string pill(bool good, std::string_view text) {
    return fmt::format(R"(<span class="pill {}">{}</span>)", good ? "good" : "bad", text);
}

std::string pill(std::optional<bool> state, std::string_view yes, std::string_view no) {
    return state ? pill(*state, *state ? yes : no) : R"(<span class="soft">–</span>)";
}

void append_problems(std::string& out, const StatusPage& page) {
    if (page.problems.empty())
        return;
    out += R"(<div class="problems"><strong>Not ready</strong><ul>)";
    for (const std::string& problem : page.problems)
        append(out, "<li>{}</li>", html_escaped(problem));
    out += "</ul></div>\n";
}

void append_site(std::string& out, const SiteSnapshot& entry) {
    const Site* const site = entry.site;
    const std::string name = site ? html_escaped(site->name) : "traffic of no known site";
    const std::optional<bool> online = site ? site->online : std::nullopt;
    append(out, "<tr><td>{}</td><td class=\"text\">{}</td><td>{}</td><td>{}</td><td>{}</td>",
           html_escaped(entry.site_id()), name, site ? to_string(site->type) : "",
           pill(online, "online", "offline"), pill(entry.tunnel_up, "up", "down"));
    append(out, "<td class=\"number\">{}</td><td class=\"number\">{}</td></tr>\n",
           human_bytes(entry.bytes(TRAFFIC_INGRESS)), human_bytes(entry.bytes(TRAFFIC_EGRESS)));
}

void append_sites(std::string& out, const Snapshot& snapshot) {
    append(out, "<h2>Sites <span class=\"soft\">{}</span></h2>\n<div class=\"card\"><table>\n",
           snapshot.directory ? snapshot.directory->sites.size() : 0);
    out +=
        "<tr><th>site_id</th><th>Name</th><th>Type</th><th>Pangolin</th><th>Tunnel</th>"
        "<th class=\"number\">From site</th><th class=\"number\">To site</th></tr>\n";
    for (std::size_t i = 0; i < std::min(snapshot.sites.size(), max_rows); ++i)
        append_site(out, snapshot.sites[i]);
    if (snapshot.sites.size() > max_rows)
        append(out, "<tr><td colspan=\"7\" class=\"soft\">and {} more in the metrics</td></tr>\n",
               snapshot.sites.size() - max_rows);
    out += "</table></div>\n";
}

std::string connections(const ResourceAccount& resource) {
    std::string text;
    if (resource.tcp_connections)
        text = fmt::format("{} tcp", *resource.tcp_connections);
    if (resource.udp_flows)
        text += fmt::format("{}{} udp", text.empty() ? "" : ", ", *resource.udp_flows);
    return text;
}

void append_resources(std::string& out, const Snapshot& snapshot) {
    const auto counted = std::ranges::count_if(snapshot.resources, &ResourceAccount::counted);
    if (counted == 0)
        return;
    append(out, "<h2>Resources <span class=\"soft\">{}</span></h2>\n<div class=\"card\"><table>\n", counted);
    out +=
        "<tr><th>resource_id</th><th>Site</th><th>In use</th>"
        "<th class=\"number\">From site</th><th class=\"number\">To site</th></tr>\n";
    std::size_t rows = 0;
    for (const ResourceAccount& resource : snapshot.resources) {
        if (!resource.counted || ++rows > max_rows)
            continue;
        append(out,
               "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"number\">{}</td>"
               "<td class=\"number\">{}</td></tr>\n",
               html_escaped(resource.labels->resource_id), html_escaped(resource.labels->site_id),
               connections(resource), human_bytes(resource.traffic.count[TRAFFIC_INGRESS].bytes),
               human_bytes(resource.traffic.count[TRAFFIC_EGRESS].bytes));
    }
    if (rows > max_rows)
        append(out, "<tr><td colspan=\"5\" class=\"soft\">and {} more in the metrics</td></tr>\n",
               rows - max_rows);
    out += "</table></div>\n";
}

void append_interfaces(std::string& out, const Snapshot& snapshot) {
    std::vector<std::size_t> peers(snapshot.interfaces.size());
    for (const PeerSnapshot& peer : snapshot.peers)
        if (peer.interface < peers.size())
            ++peers[peer.interface];
    out +=
        "<h2>WireGuard interfaces</h2>\n<div class=\"card\"><table>\n"
        "<tr><th>Interface</th><th>Namespace</th><th>WireGuard</th><th>Hook</th><th "
        "class=\"number\">Peers</th></tr>\n";
    const std::size_t rows = std::min(peers.size(), max_rows);
    for (std::size_t i = 0; i < rows; ++i) {
        const InterfaceSnapshot& interface = snapshot.interfaces[i];
        append(out, "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"number\">{}</td></tr>\n",
               html_escaped(interface.name), html_escaped(interface.netns), interface.implementation,
               interface.hook, peers[i]);
    }
    if (rows == 0)
        out += "<tr><td colspan=\"5\" class=\"soft\">none found</td></tr>\n";
    out += "</table></div>\n";
}

void append_sources(std::string& out, const Snapshot& snapshot) {
    out +=
        "<h2>Sources</h2>\n<div class=\"card\"><table>\n<tr><th>Source</th><th>State</th><th>Last "
        "error</th></tr>\n";
    for (const SourceStatus& source : snapshot.sources)
        append(out, "<tr><td>{}</td><td>{}</td><td class=\"text\">{}</td></tr>\n", html_escaped(source.name),
               pill(source.up, source.up ? "up" : "down"), html_escaped(source.error));
    out +=
        "</table></div>\n<h2>Features of this host</h2>\n<div class=\"card\"><table>\n"
        "<tr><th>Feature</th><th>State</th></tr>\n";
    for (const FeatureStatus& feature : snapshot.features)
        append(
            out, "<tr><td>{}</td><td>{}</td></tr>\n", html_escaped(feature.name),
            feature.enabled ? pill(true, "in use") : std::string("<span class=\"soft\">not in use</span>"));
    out += "</table></div>\n";
}

std::string utc(std::chrono::system_clock::time_point time) {
    const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
    std::tm parts{};
    gmtime_r(&seconds, &parts);
    std::array<char, 32> text{};
    return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S UTC", &parts)};
}

}  // namespace

std::string html_escaped(std::string_view text) {
    std::string out;
    append_escaped(out, valid_utf8(text));
    return out;
}

std::string render(const StatusPage& page) {
    std::string out(head);
    append(out,
           "<header><h1>pangolin_exporter</h1><span class=\"soft\">{}</span><nav><a href=\"{}\">metrics</a>",
           PANGOLIN_VERSION, html_escaped(page.telemetry_path));
    out += "<a href=\"/healthz\">healthz</a><a href=\"/readyz\">readyz</a></nav></header>\n";
    append_problems(out, page);
    if (const Snapshot* const snapshot = page.snapshot) {
        append_sites(out, *snapshot);
        append_resources(out, *snapshot);
        append_interfaces(out, *snapshot);
        append_sources(out, *snapshot);
        append(out, "<p class=\"soft\">Collected {} in {:.1f} ms.</p>\n", utc(snapshot->time),
               snapshot->collection_seconds * 1e3);
    } else {
        out += "<p>Nothing has been collected yet.</p>\n";
    }
    out += "</body></html>\n";
    return out;
}

}  // namespace pangolin
