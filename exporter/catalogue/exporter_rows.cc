#include "exporter/catalogue/rows.h"

#include <bpf/libbpf.h>
#include <map>
#include <utility>

namespace pangolin {
namespace {

constexpr std::array<std::string_view, TRAFFIC_UNDECODABLE_REASONS> undecodable_names{
    "truncated", "bad_version", "bad_header_length"};

// Every interface has maps of its own; what they lost stands once for each kind of map.
void emit_lost_updates(const SnapshotView& view, Samples& samples) {
    std::map<std::pair<std::string_view, std::string_view>, std::uint64_t> sums;
    for (const LostUpdates& lost : view.snapshot().lost_updates)
        sums[{lost.map, lost.reason}] += lost.count;
    for (const auto& [labels, sum] : sums)
        samples.add({labels.first, labels.second}, sum);
}

void emit_undecodable(const SnapshotView& view, Samples& samples) {
    const auto& interfaces = view.snapshot().interfaces;
    for (std::uint32_t i = 0; i < interfaces.size(); ++i)
        for (std::size_t direction = 0; direction < TRAFFIC_DIRECTIONS; ++direction)
            for (std::size_t reason = 0; reason < TRAFFIC_UNDECODABLE_REASONS; ++reason)
                samples.add({view.interface_label(i), direction_names[direction], undecodable_names[reason]},
                            interfaces[i].undecodable[direction][reason]);
}

std::string_view libbpf_version() {
    std::string_view version = libbpf_version_string();
    if (version.starts_with('v'))
        version.remove_prefix(1);
    return version;
}

constexpr auto rows = std::to_array<Metric>({
    {.name = "pangolin_exporter_build_info",
     .type = MetricType::info,
     .labels = {"version", "libbpf"},
     .help = "Version of the exporter and of the libbpf that it runs with.",
     .source = "S",
     .emit = [](const SnapshotView&,
                Samples& samples) { samples.add({PANGOLIN_VERSION, libbpf_version()}, std::uint64_t{1}); }},
    {.name = "pangolin_exporter_source_up",
     .type = MetricType::gauge,
     .labels = {"source"},
     .help = "1 when the last read of the source succeeded.",
     .source = "S",
     .emit =
         [](const SnapshotView& view, Samples& samples) {
             for (const SourceStatus& source : view.snapshot().sources)
                 samples.add({source.name}, zero_or_one(source.up));
         }},
    {.name = "pangolin_exporter_feature_enabled",
     .type = MetricType::gauge,
     .labels = {"feature"},
     .help = "1 when this host offers what the feature needs and it is in use.",
     .source = "S",
     .emit =
         [](const SnapshotView& view, Samples& samples) {
             for (const FeatureStatus& feature : view.snapshot().features)
                 samples.add({feature.name}, zero_or_one(feature.enabled));
         }},
    {.name = "pangolin_exporter_collection_duration_seconds",
     .type = MetricType::summary,
     .unit = "seconds",
     .help = "Wall time of the collections from kernel, WireGuard and metadata.",
     .source = "S",
     .emit =
         [](const SnapshotView& view, Samples& samples) {
             samples.add_summary({}, view.snapshot().collections_seconds_sum, view.snapshot().collections);
         }},
    {.name = "pangolin_exporter_attachments",
     .type = MetricType::gauge,
     .labels = {"hook"},
     .help = "Attached eBPF programs, by the kind of hook.",
     .source = "S",
     .emit =
         [](const SnapshotView& view, Samples& samples) {
             for (const Attachments& attachments : view.snapshot().attachments)
                 samples.add({attachments.hook}, attachments.count);
         }},
    {.name = "pangolin_exporter_map_entries",
     .type = MetricType::gauge,
     .labels = {"interface", "map"},
     .help = "Entries in use of an eBPF map.",
     .source = "S",
     .emit =
         [](const SnapshotView& view, Samples& samples) {
             for (const MapUsage& usage : view.snapshot().maps)
                 samples.add({view.interface_label(usage.interface), usage.map}, usage.entries);
         }},
    {.name = "pangolin_exporter_map_max_entries",
     .type = MetricType::gauge,
     .labels = {"interface", "map"},
     .help = "Entries that an eBPF map has room for.",
     .source = "S",
     .emit =
         [](const SnapshotView& view, Samples& samples) {
             for (const MapUsage& usage : view.snapshot().maps)
                 samples.add({view.interface_label(usage.interface), usage.map}, usage.max_entries);
         }},
    {.name = "pangolin_exporter_lost_updates_total",
     .type = MetricType::counter,
     .labels = {"map", "reason"},
     .help = "Packets, connections, requests and events that were counted inexactly, for the wrong owner or "
             "not at all, by reason.",
     .source = "K",
     .emit = emit_lost_updates},
    {.name = "pangolin_exporter_undecodable_packets_total",
     .type = MetricType::counter,
     .unit = "packets",
     .labels = {"interface", "direction", "reason"},
     .help = "Packets whose remote address could not be read, by reason.",
     .source = "K",
     .emit = emit_undecodable},
    {.name = "pangolin_exporter_application_series",
     .type = MetricType::gauge,
     .help = "Series of applications that are held, those included that are remembered only.",
     .source = "S"},
    {.name = "pangolin_exporter_application_samples_rejected_total",
     .type = MetricType::counter,
     .labels = {"reason"},
     .help = "Samples of applications that are not published, by reason.",
     .source = "S"},
    {.name = "pangolin_exporter_otlp_responses_total",
     .type = MetricType::counter,
     .labels = {"code"},
     .help = "Answers of the OTLP receiver.",
     .source = "S"},
    {.name = "pangolin_exporter_otlp_connections_rejected_total",
     .type = MetricType::counter,
     .help = "Connections that the OTLP receiver turned away because it had too many.",
     .source = "S"},
    {.name = "pangolin_exporter_series_limited_total",
     .type = MetricType::counter,
     .labels = {"family"},
     .help = "Samples that were refused because their family or all applications had too many series.",
     .source = "S"},
    {.name = "pangolin_exporter_http_responses_total",
     .type = MetricType::counter,
     .labels = {"handler", "code"},
     .help = "Answers of the exporter's web server.",
     .source = "S"},
    {.name = "pangolin_exporter_http_connections",
     .type = MetricType::gauge,
     .help = "Open connections to the exporter's web server.",
     .source = "S"},
    {.name = "pangolin_exporter_http_connections_rejected_total",
     .type = MetricType::counter,
     .help = "Connections that the exporter's web server turned away because it had too many.",
     .source = "S"},
    {.name = "pangolin_exporter_web_config_last_reload_successful",
     .type = MetricType::gauge,
     .help = "1 when the file of --web.config.file could be read the last time that it changed; 0: the one "
             "before is in "
             "force.",
     .source = "S"},
    {.name = "pangolin_exporter_scrape_duration_seconds",
     .type = MetricType::histogram,
     .unit = "seconds",
     .help = "Time from a request for metrics to the last byte of its answer.",
     .source = "S"},

    // The process, under the names that all Prometheus clients use
    {.name = "process_cpu_seconds_total",
     .type = MetricType::counter,
     .unit = "seconds",
     .help = "Total user and system CPU time spent in seconds.",
     .source = "S"},
    {.name = "process_open_fds",
     .type = MetricType::gauge,
     .help = "Number of open file descriptors.",
     .source = "S"},
    {.name = "process_max_fds",
     .type = MetricType::gauge,
     .help = "Maximum number of open file descriptors.",
     .source = "S"},
    {.name = "process_virtual_memory_bytes",
     .type = MetricType::gauge,
     .unit = "bytes",
     .help = "Virtual memory size in bytes.",
     .source = "S"},
    {.name = "process_resident_memory_bytes",
     .type = MetricType::gauge,
     .unit = "bytes",
     .help = "Resident memory size in bytes.",
     .source = "S"},
    {.name = "process_start_time_seconds",
     .type = MetricType::gauge,
     .unit = "seconds",
     .help = "Start time of the process since unix epoch in seconds.",
     .source = "S"},
});

}  // namespace

std::span<const Metric> exporter_rows() {
    return rows;
}

}  // namespace pangolin
