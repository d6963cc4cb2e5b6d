#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <map>
#include <utility>

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

// One picture of the tables; remembers the bytes for the next one's rates.
class Tables {
  public:
    void print(const Snapshot& snapshot) {
        elapsed_ = std::chrono::duration<double>(snapshot.time - before_time_).count();
        fmt::print("{:<24} {:<6} {:>14} {:>14} {:>12} {:>12}\n", "SITE", "TUNNEL", "INGRESS", "EGRESS",
                   "RECEIVED", "SENT");
        for (const SiteSnapshot& site : snapshot.sites) {
            fmt::print("{:<24} {:<6} ", escaped(site.site_id()), tunnel_state(site));
            print_bytes(std::string(site.site_id()),
                        {site.bytes(TRAFFIC_INGRESS), site.bytes(TRAFFIC_EGRESS)});
        }
        print_resources(snapshot);
        for (const SourceStatus& source : snapshot.sources) {
            if (!source.up)
                fmt::print("{}: {}\n", source.name, escaped(source.error));
        }
        flush_standard_output();
        before_ = std::exchange(now_, {});
        before_time_ = snapshot.time;
    }

  private:
    using Bytes = std::array<std::uint64_t, TRAFFIC_DIRECTIONS>;

    void print_resources(const Snapshot& snapshot) {
        bool first = true;
        for (const ResourceAccount& resource : snapshot.resources) {
            if (!resource.counted)
                continue;
            if (std::exchange(first, false))
                fmt::print("\n{:<24} {:<24} {:>14} {:>14} {:>12} {:>12}\n", "RESOURCE", "SITE", "INGRESS",
                           "EGRESS", "RECEIVED", "SENT");
            const ResourceLabels& labels = *resource.labels;
            fmt::print("{:<24} {:<24} ", escaped(labels.resource_id), escaped(labels.site_id));
            // No site_id has a line feed in front.
            print_bytes("\n" + labels.resource_id + "\n" + labels.site_id,
                        {resource.traffic.count[TRAFFIC_INGRESS].bytes,
                         resource.traffic.count[TRAFFIC_EGRESS].bytes});
        }
    }

    void print_bytes(const std::string& key, const Bytes& bytes) {
        const auto before = before_.find(key);
        const auto rate = [&](traffic_direction direction) {
            if (before == before_.end() || elapsed_ <= 0)
                return std::string("-");
            return human(
                8 * static_cast<double>(bytes.at(direction) - before->second.at(direction)) / elapsed_,
                "bit/s");
        };
        fmt::print("{:>14} {:>14} {:>12} {:>12}\n", rate(TRAFFIC_INGRESS), rate(TRAFFIC_EGRESS),
                   human(static_cast<double>(bytes[0]), "B"), human(static_cast<double>(bytes[1]), "B"));
        now_.emplace(key, bytes);
    }

    std::map<std::string, Bytes> before_;
    std::map<std::string, Bytes> now_;
    double elapsed_ = 0;
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
    Tables tables;
    const bool terminal = ::isatty(STDOUT_FILENO) != 0;
    do {
        // Home and clear, so that the table stays in its place; a pipe gets one picture after the other.
        fmt::print("{}", terminal ? "\x1b[H\x1b[2J" : "\n");
        tables.print(*collector.collect());
    } while (!signals.wait_for(command_line.top_interval));
    return exit_success;
}

}  // namespace pangolin
