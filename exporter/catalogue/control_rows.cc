#include <utility>

#include "exporter/catalogue/rows.h"

namespace pangolin {
namespace {

template <std::size_t Labels, std::size_t... Position>
void add(Samples& samples, const LabelValuesOf<Labels>& labels, std::uint64_t count,
         std::index_sequence<Position...>) {
    samples.add({std::string_view(labels[Position])...}, count);
}

template <std::size_t Labels, std::size_t... Position>
void add(Samples& samples, const LabelValuesOf<Labels>& labels, const Durations& durations,
         std::index_sequence<Position...>) {
    samples.add_histogram({std::string_view(labels[Position])...}, Durations::bounds, durations.buckets(),
                          durations.sum());
}

template <std::size_t Labels, class Value>
void add_all(Samples& samples, const std::map<LabelValuesOf<Labels>, Value>& family) {
    for (const auto& [labels, value] : family)
        add(samples, labels, value, std::make_index_sequence<Labels>());
}

void add_all(Samples& samples, const Durations& durations) {
    samples.add_histogram({}, Durations::bounds, durations.buckets(), durations.sum());
}

// The whole of one member of ControlCounts, whose keys are in the order of the row's labels.
template <auto ControlCounts::* family>
void emit(const SnapshotView& view, Samples& samples) {
    if (const auto& counts = view.snapshot().control_plane)
        add_all(samples, (*counts).*family);
}

// The same, unless `first` has other sources for it.
template <auto ControlCounts::* family, auto first>
void emit_unless(const SnapshotView& view, Samples& samples) {
    if (!first(view, samples))
        emit<family>(view, samples);
}

// What Traefik got, and blueprints.
void emit_reloads(const SnapshotView& view, Samples& samples) {
    CountsBy<1> sums;
    if (const auto& counts = view.snapshot().control_plane)
        sums = counts->configuration_reloads;
    if (const auto& blueprints = view.snapshot().blueprints) {
        sums[{"success"}] += blueprints->succeeded;
        sums[{"failure"}] += blueprints->failed;
    }
    add_all(samples, sums);
}

void emit_jobs(const SnapshotView& view, Samples& samples) {
    emit<&ControlCounts::background_jobs>(view, samples);
    if (const auto& blueprints = view.snapshot().blueprints) {
        samples.add({"blueprint", "success"}, blueprints->succeeded);
        samples.add({"blueprint", "failure"}, blueprints->failed);
    }
}

// Histograms of this part have the buckets of Durations: 1 ms to 10 s.
constexpr auto rows = std::to_array<Metric>({
    {.name = "pangolin_ui_requests_total",
     .type = MetricType::counter,
     .labels = {"endpoint", "method", "status"},
     .help = "Requests to the dashboard and its API from outside of Pangolin's network namespace, by route.",
     .source = "H",
     .emit = emit<&ControlCounts::ui_requests>},
    {.name = "pangolin_integration_api_requests_total",
     .type = MetricType::counter,
     .labels = {"endpoint", "method", "status"},
     .help = "Requests to the integration API, by route.",
     .source = "H",
     .emit = emit<&ControlCounts::integration_requests>},
    {.name = "pangolin_integration_api_duration_seconds",
     .type = MetricType::histogram,
     .unit = "seconds",
     .labels = {"endpoint", "method"},
     .help = "Time from the first byte of a request to the integration API to the last of its answer.",
     .source = "H",
     .emit = emit<&ControlCounts::integration_durations>},
    {.name = "pangolin_auth_requests_total",
     .type = MetricType::counter,
     .labels = {"site_id", "auth_method", "result"},
     .help =
         "Attempts to sign in; site_id is newt's own, or that of the one site that serves the resource, else "
         "empty.",
     .source = "H",
     .emit = emit<&ControlCounts::sign_ins>},
    {.name = "pangolin_auth_request_duration_seconds",
     .type = MetricType::histogram,
     .unit = "seconds",
     .labels = {"auth_method", "result"},
     .help = "Time that Pangolin took to answer an attempt to sign in.",
     .source = "H",
     .emit = emit<&ControlCounts::sign_in_durations>},
    {.name = "pangolin_auth_failure_reasons_total",
     .type = MetricType::counter,
     .labels = {"reason", "auth_method"},
     .help = "Attempts to sign in that failed, by what was wrong.",
     .source = "H",
     .emit = emit<&ControlCounts::sign_in_failures>},
    {.name = "pangolin_token_issued_total",
     .type = MetricType::counter,
     .labels = {"auth_method"},
     .help = "Sessions that were opened, by how somebody signed in.",
     .source = "DH",
     .emit = emit_unless<&ControlCounts::tokens_issued, emit_issued_sessions>,
     .has_source = has_accounts_or_requests},
    {.name = "pangolin_token_revoked_total",
     .type = MetricType::counter,
     .labels = {"reason"},
     .help = "Sessions that ended: one of a user before its time (logout), in due time (expired), otherwise "
             "(removed).",
     .source = "DH",
     .emit = emit_unless<&ControlCounts::tokens_revoked, emit_ended_sessions>,
     .has_source = has_accounts_or_requests},
    {.name = "pangolin_token_refresh_total",
     .type = MetricType::counter,
     .labels = {"result"},
     .help = "Sessions that were prolonged; without a database requests of newt and olm for a new token.",
     .source = "DH",
     .emit = emit_unless<&ControlCounts::token_refreshes, emit_prolonged_sessions>,
     .has_source = has_accounts_or_requests},
    {.name = "pangolin_session_checks_total",
     .type = MetricType::counter,
     .labels = {"result"},
     .help =
         "Requests to resources that badger asked Pangolin about, by its answer: allowed, refused or error.",
     .source = "H",
     .emit = emit<&ControlCounts::session_checks>},
    {.name = "pangolin_session_check_duration_seconds",
     .type = MetricType::histogram,
     .unit = "seconds",
     .help = "Time that a request to a resource waited for Pangolin's answer to badger.",
     .source = "H",
     .emit = emit<&ControlCounts::session_check_durations>},
    {.name = "pangolin_traefik_provider_sync_seconds",
     .type = MetricType::histogram,
     .unit = "seconds",
     .help = "Time from Traefik's request for its configuration to the last byte of it.",
     .source = "H",
     .emit = emit<&ControlCounts::provider_syncs>},
    {.name = "pangolin_traefik_provider_errors_total",
     .type = MetricType::counter,
     .labels = {"error_type"},
     .help = "Traefik's requests for its configuration that failed: http_4xx, http_5xx, or timeout without "
             "an answer.",
     .source = "H",
     .emit = emit<&ControlCounts::provider_errors>},
    {.name = "pangolin_config_reloads_total",
     .type = MetricType::counter,
     .labels = {"result"},
     .help = "Configurations that Traefik got and that differ from the one before, and blueprints.",
     .source = "HD",
     .emit = emit_reloads,
     .has_source = has_accounts_or_requests},
    {.name = "pangolin_holepunch_orchestration_total",
     .type = MetricType::counter,
     .labels = {"result"},
     .help =
         "Hole punches that gerbil reported to Pangolin, by its answer: success, rejected (4xx) or error.",
     .source = "H",
     .emit = emit<&ControlCounts::hole_punches>},
    {.name = "pangolin_background_jobs_total",
     .type = MetricType::counter,
     .labels = {"job_type", "status"},
     .help = "Jobs that can be seen: gerbil's bandwidth_report, Traefik's provider_sync, each blueprint.",
     .source = "HD",
     .emit = emit_jobs,
     .has_source = has_accounts_or_requests},
    {.name = "pangolin_ws_connections_total",
     .type = MetricType::counter,
     .labels = {"site_id", "result"},
     .help = "Requests for a WebSocket with Pangolin: success, unauthorized or error.",
     .source = "H",
     .emit = emit<&ControlCounts::websocket_connections>},
    {.name = "pangolin_ws_active_connections",
     .type = MetricType::gauge,
     .labels = {"site_id"},
     .help = "Open WebSockets with Pangolin that began since the exporter's start.",
     .source = "H",
     .emit = emit<&ControlCounts::active_websockets>},
    {.name = "pangolin_ws_messages_total",
     .type = MetricType::counter,
     .labels = {"direction", "msg_type"},
     .help = "WebSocket messages and control frames: ingress to Pangolin, egress from it.",
     .source = "H",
     .emit = emit<&ControlCounts::websocket_messages>},
});

}  // namespace

bool has_accounts_or_requests(const Snapshot& snapshot) {
    return has_accounts(snapshot) || is_measured(catalogue_row("pangolin_ui_requests_total"), snapshot);
}

std::span<const Metric> control_rows() {
    return rows;
}

}  // namespace pangolin
