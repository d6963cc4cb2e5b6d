#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <map>

#include "exporter/commands.h"
#include "exporter/signals.h"
#include "exporter/standard_streams.h"
#include "loader/preflight.h"
#include "userspace/metadata/text.h"

namespace pangolin {
namespace {

std::string human(double value, std::string_view unit) {
    constexpr std::array prefixes{"", "k", "M", "G", "T", "P"};
    std::size_t prefix = 0;
    for (; value >= 1000 && prefix + 1 < prefixes.size(); ++prefix)
        value /= 1000;
    return fmt::format("{:.{}f} {}{}", value, prefix == 0 ? 0 : 1, prefixes.at(prefix), unit);
}

std::string_view tunnel_state(const SiteSnapshot& site) {
    if (!site.tunnel_up)
        return "-";
    return *site.tunnel_up ? "up" : "down";
}

// One picture of the table; remembers the bytes for the next one's rates.
class SiteTable {
  public:
    void print(const Snapshot& snapshot) {
        const double elapsed = std::chrono::duration<double>(snapshot.time - before_time_).count();
        fmt::print("{:<24} {:<6} {:>14} {:>14} {:>12} {:>12}\n", "SITE", "TUNNEL", "INGRESS", "EGRESS",
                   "RECEIVED", "SENT");
        std::map<std::string, std::array<std::uint64_t, TRAFFIC_DIRECTIONS>, std::less<>> now;
        for (const SiteSnapshot& site : snapshot.sites) {
            const std::array bytes{site.bytes(TRAFFIC_INGRESS), site.bytes(TRAFFIC_EGRESS)};
            const auto before = before_.find(site.site_id());
            const auto rate = [&](traffic_direction direction) {
                if (before == before_.end() || elapsed <= 0)
                    return std::string("-");
                return human(
                    8 * static_cast<double>(bytes.at(direction) - before->second.at(direction)) / elapsed,
                    "bit/s");
            };
            fmt::print("{:<24} {:<6} {:>14} {:>14} {:>12} {:>12}\n", escaped(site.site_id()),
                       tunnel_state(site), rate(TRAFFIC_INGRESS), rate(TRAFFIC_EGRESS),
                       human(static_cast<double>(bytes[0]), "B"), human(static_cast<double>(bytes[1]), "B"));
            now.emplace(site.site_id(), bytes);
        }
        for (const SourceStatus& source : snapshot.sources) {
            if (!source.up)
                fmt::print("{}: {}\n", source.name, escaped(source.error));
        }
        flush_standard_output();
        before_ = std::move(now);
        before_time_ = snapshot.time;
    }

  private:
    std::map<std::string, std::array<std::uint64_t, TRAFFIC_DIRECTIONS>, std::less<>> before_;
    std::chrono::system_clock::time_point before_time_;
};

}  // namespace

int top(const CommandLine& command_line, const Configuration& configuration) {
    const TerminationSignals signals;
    if (const auto possible = require_host(); !possible) {
        spdlog::error("{}", possible.error().message());
        return exit_failure;
    }
    Collector collector(collector_options(configuration));
    collector.start();
    SiteTable table;
    const bool terminal = ::isatty(STDOUT_FILENO) != 0;
    do {
        // Home and clear, so that the table stays in its place; a pipe gets one table after the other.
        fmt::print("{}", terminal ? "\x1b[H\x1b[2J" : "\n");
        table.print(*collector.collect());
    } while (!signals.wait_for(command_line.top_interval));
    return exit_success;
}

}  // namespace pangolin
