#include <algorithm>
#include <charconv>

#include "exporter/catalogue/rows.h"

namespace pangolin {
namespace {

// In the order of enum http_opaque.
constexpr std::array<std::string_view, HTTP_OPAQUE_KINDS> opaque_names{"tls", "h2c", "tunnel", "unknown"};

std::string_view method_name(std::uint16_t method) {
    return http_method_names[method < http_method_names.size() ? method : std::uint16_t{HTTP_METHOD_OTHER}];
}

const std::array<double, HTTP_SIZE_BOUNDS> size_bounds = [] {
    std::array<double, HTTP_SIZE_BOUNDS> bounds{};
    std::ranges::copy(http_size_bounds, bounds.begin());
    return bounds;
}();

void emit_requests(const TargetAccount& target, const SnapshotView&, Samples& samples) {
    for (const auto& [key, count] : target.http.requests) {
        std::array<char, 8> text{};
        auto* end = std::to_chars(text.data(), text.data() + text.size(), key.second).ptr;
        if (key.second == HTTP_STATUS_NONE)
            end = std::ranges::copy(std::string_view("none"), text.data()).out;
        else if (key.second < 10)  // see HttpExchanges::most_answers
            end = std::ranges::copy(std::string_view("xx"), end).out;
        samples.add({target.labels->site_id, target.labels->resource_id, target.labels->backend,
                     method_name(key.first), std::string_view(text.data(), end)},
                    count);
    }
}

// Their order is that of the labels, but for the backend: badger asks before there is one.
void emit_refused(const SnapshotView& view, Samples& samples) {
    if (const auto& counts = view.snapshot().control_plane)
        for (const auto& [labels, count] : counts->refused_requests)
            samples.add({labels[0], labels[1], "", labels[2], labels[3]}, count);
}

constexpr auto rows = std::to_array<Metric>({
    {.name = "pangolin_resource_requests_total",
     .type = MetricType::counter,
     .labels = {"site_id", "resource_id", "backend", "method", "status"},
     .help = "HTTP requests to the resource by method and the status of the backend's answer, none where the "
             "connection ended without one; without backend, those that Pangolin refused.",
     .source = "H",
     .emit = emit_requests,
     .emit_rest = emit_refused},
    {.name = "pangolin_resource_request_duration_seconds",
     .type = MetricType::histogram,
     .unit = "seconds",
     .labels = {"site_id", "resource_id", "backend", "method"},
     .help = "Time from the first byte of an HTTP request to the last byte of its answer; without upgrades, "
             "event "
             "streams and answers that were cut off.",
     .source = "H",
     .emit =
         [](const TargetAccount& target, const SnapshotView&, Samples& samples) {
             for (const auto& [method, duration] : target.http.durations)
                 if (!duration.empty())
                     samples.add_histogram({target.labels->site_id, target.labels->resource_id,
                                            target.labels->backend, method_name(method)},
                                           latency_bounds, duration.histogram().bucket,
                                           static_cast<double>(duration.histogram().sum_us) / 1e6);
         }},
    {.name = "pangolin_resource_requests_aborted_total",
     .type = MetricType::counter,
     .labels = {"site_id", "resource_id", "backend"},
     .help =
         "HTTP requests whose connection to the backend ended before their answer did: the client gave them "
         "up, or the backend did.",
     .source = "H",
     .emit =
         [](const TargetAccount& target, const SnapshotView&, Samples& samples) {
             if (!target.http.requests.empty() || target.http.aborted > 0)
                 samples.add({target.labels->site_id, target.labels->resource_id, target.labels->backend},
                             target.http.aborted);
         }},
    {.name = "pangolin_backend_response_size_bytes",
     .type = MetricType::histogram,
     .unit = "bytes",
     .labels = {"backend", "site_id"},
     .help = "Head and body bytes of the backend's HTTP responses.",
     .source = "H",
     .emit =
         [](const BackendAccount& backend, const SnapshotView&, Samples& samples) {
             const HttpResponseSizes& sizes = backend.response_sizes;
             if (sizes.sum == 0)
                 return;
             std::array<__u64, HTTP_SIZE_BUCKETS> buckets{};
             std::ranges::copy(sizes.bucket, buckets.begin());
             samples.add_histogram({backend.labels->backend, backend.labels->site_id}, size_bounds, buckets,
                                   static_cast<double>(sizes.sum));
         }},
    {.name = "pangolin_exporter_http_opaque_connections_total",
     .type = MetricType::counter,
     .labels = {"kind"},
     .help = "Connections to HTTP targets whose requests cannot be read, by what they speak.",
     .source = "H",
     .emit =
         [](const SnapshotView& view, Samples& samples) {
             const auto& opaque = view.snapshot().http_opaque;
             for (std::size_t kind = 0; opaque && kind < opaque->size(); ++kind)
                 samples.add({opaque_names[kind]}, (*opaque)[kind]);
         }},
});

}  // namespace

std::span<const Metric> http_rows() {
    return rows;
}

}  // namespace pangolin
