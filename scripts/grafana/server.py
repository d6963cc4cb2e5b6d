"""Pangolin's own services, Traefik's configuration, certificates, and the exporter itself."""

from __future__ import annotations

from .expressions import by_resource, or_zero, quantile
from .panels import (
    GREEN,
    RED,
    STATES,
    YELLOW,
    Dashboard,
    Panel,
    Query,
    Row,
    column,
    events,
    graph,
    instance_variable,
    number,
    stacked,
    states,
    table,
)

EXPIRY = [(None, RED), (3, YELLOW), (14, GREEN)]


def now() -> Row:
    sources = {"defaults": {"mappings": STATES}, "thresholds": [(None, RED), (1, GREEN)]}
    return Row(
        "Now",
        [
            number("Pangolin", 'min(pangolin_exporter_source_up{source="pangolin"})', **sources),
            number("Dashboard sessions", "sum(pangolin_ui_active_sessions)"),
            number("Users, newts and olms", "sum(pangolin_auth_active_users)"),
            number("Open WebSockets", or_zero("sum(pangolin_ws_active_connections)")),
            number("Next certificate expires in", "min(pangolin_acme_cert_expiry_days)", unit="d", thresholds=EXPIRY),
            number("Restarts of Pangolin", or_zero("sum(increase(pangolin_restart_count_total[$__range]))"), defaults={"decimals": 0}),
        ],
    )


def sign_ins() -> Row:
    return Row(
        "Signing in",
        [
            events(
                "Sign-ins",
                Query(
                    "sum by (auth_method, result) (increase(pangolin_auth_requests_total[]))", "{{auth_method}} {{result}}"
                ),
            ),
            events(
                "Failures",
                Query(
                    "sum by (auth_method, reason) (increase(pangolin_auth_failure_reasons_total[]))",
                    "{{auth_method}} {{reason}}",
                ),
            ),
            graph(
                "Duration of sign-ins, 95th percentile",
                Query(quantile(0.95, "pangolin_auth_request_duration_seconds_bucket", "auth_method, result"), "{{auth_method}} {{result}}"),
                unit="s",
            ),
            graph("Active", Query("sum by (auth_method) (pangolin_auth_active_users)", "{{auth_method}}")),
            events(
                "Sessions",
                Query("sum by (auth_method) (increase(pangolin_token_issued_total[]))", "issued {{auth_method}}"),
                Query("sum by (reason) (increase(pangolin_token_revoked_total[]))", "ended {{reason}}"),
                Query("sum by (result) (increase(pangolin_token_refresh_total[]))", "prolonged {{result}}"),
            ),
            graph(
                "Session checks for resources",
                Query("sum by (result) (rate(pangolin_session_checks_total[]))", "{{result}}"),
                Query(quantile(0.95, "pangolin_session_check_duration_seconds_bucket"), "95 % took"),
                unit="reqps",
                overrides=[column("95 % took", unit="s", custom__axisPlacement="right")],
            ),
        ],
    )


def interfaces() -> Row:
    return Row(
        "Dashboard and API",
        [
            stacked(
                "Requests by status",
                Query("sum by (status) (rate(pangolin_ui_requests_total[]))", "{{status}}"),
                unit="reqps",
            ),
            graph(
                "Requests by endpoint",
                Query("topk(10, sum by (endpoint, method) (rate(pangolin_ui_requests_total[])))", "{{method}} {{endpoint}}"),
                unit="reqps",
                note="The ten with the most.",
            ),
            graph("Sessions with the dashboard", Query("sum by (instance) (pangolin_ui_active_sessions)", "{{instance}}")),
            graph(
                "Integration API",
                Query(
                    "sum by (endpoint, method, status) (rate(pangolin_integration_api_requests_total[]))",
                    "{{method}} {{endpoint}} {{status}}",
                ),
                unit="reqps",
            ),
            graph(
                "Duration at the integration API, 95th percentile",
                Query(quantile(0.95, "pangolin_integration_api_duration_seconds_bucket", "endpoint, method"), "{{method}} {{endpoint}}"),
                unit="s",
            ),
            graph(
                "WebSocket messages",
                Query("sum by (direction, msg_type) (rate(pangolin_ws_messages_total[]))", "{{direction}} {{msg_type}}"),
                unit="mps",
            ),
            events(
                "WebSockets opened",
                Query("sum by (result) (increase(pangolin_ws_connections_total[]))", "{{result}}"),
                Query("sum(pangolin_ws_active_connections)", "open"),
            ),
            events(
                "Background jobs",
                Query("sum by (job_type, status) (increase(pangolin_background_jobs_total[]))", "{{job_type}} {{status}}"),
                Query("sum by (job_type) (pangolin_background_queue_depth)", "{{job_type}} waiting"),
            ),
            events(
                "Hole punches",
                Query("sum by (result) (increase(pangolin_holepunch_orchestration_total[]))", "{{result}}"),
            ),
        ],
    )


def traefik_and_database() -> Row:
    return Row(
        "Traefik and the database",
        [
            graph(
                "Traefik's polls",
                Query(quantile(0.5, "pangolin_traefik_provider_sync_seconds_bucket"), "median"),
                Query(quantile(0.95, "pangolin_traefik_provider_sync_seconds_bucket"), "95 %"),
                unit="s",
            ),
            events(
                "Failed polls",
                Query("sum by (error_type) (increase(pangolin_traefik_provider_errors_total[]))", "{{error_type}}"),
            ),
            events(
                "Configurations and plugins",
                Query("sum by (result) (increase(pangolin_config_reloads_total[]))", "configuration {{result}}"),
                Query("sum by (plugin, result) (increase(pangolin_plugin_fetch_total[]))", "{{plugin}} {{result}}"),
            ),
            graph("Database connections", Query("sum by (state) (pangolin_db_pool_connections)", "{{state}}")),
            graph(
                "Waiting for the database",
                Query("sum by (instance) (rate(pangolin_db_wait_seconds_total[]))", "{{instance}}"),
                unit="percentunit",
                note="As a share of the time.",
            ),
            events(
                "Restarts of Pangolin", Query("sum by (instance) (increase(pangolin_restart_count_total[]))", "{{instance}}")
            ),
        ],
    )


def certificate_table() -> Panel:
    return table(
        "Certificates by domain",
        {"domain": "domain", "Value": "days left"},
        Query("min by (domain) (pangolin_acme_cert_expiry_days)", instant=True, format="table"),
        overrides=[column("days left", decimals=1, custom__cellOptions={"type": "color-text"})],
        thresholds=EXPIRY,
        defaults={"color": {"mode": "thresholds"}},
    )


def certificates() -> Row:
    return Row(
        "Certificates",
        [
            certificate_table(),
            graph(
                "Days left, by resource",
                Query(by_resource("min by (resource_id) (pangolin_certificates_expiry_days)"), "{{name}}"),
                unit="d",
            ),
            events(
                "Events",
                Query("sum by (domain, event) (increase(pangolin_acme_cert_events_total[]))", "{{domain}} {{event}}"),
            ),
        ],
    )


def exporter() -> Row:
    return Row(
        "The exporter itself",
        [
            states("Sources", Query("min by (source) (pangolin_exporter_source_up)", "{{source}}")),
            states("Features", Query("min by (feature) (pangolin_exporter_feature_enabled)", "{{feature}}")),
            events(
                "Counted inexactly or not at all",
                Query("sum by (map, reason) (increase(pangolin_exporter_lost_updates_total[]))", "{{map}} {{reason}}"),
                Query("sum by (direction, reason) (increase(pangolin_exporter_undecodable_packets_total[]))", "{{direction}} {{reason}}"),
            ),
            graph(
                "Time for a collection and for a scrape",
                Query(
                    "sum by (instance) (rate(pangolin_exporter_collection_duration_seconds_sum[]))"
                    " / sum by (instance) (rate(pangolin_exporter_collection_duration_seconds_count[]))",
                    "{{instance}} collection, mean",
                ),
                Query(quantile(0.95, "pangolin_exporter_scrape_duration_seconds_bucket", "instance"), "{{instance}} scrape, 95 %"),
                unit="s",
            ),
            graph(
                "Memory and processor",
                Query('process_resident_memory_bytes and on (instance, job) pangolin_exporter_build_info', "{{instance}} memory"),
                Query(
                    'rate(process_cpu_seconds_total[]) and on (instance, job) pangolin_exporter_build_info', "{{instance}} processors"
                ),
                unit="bytes",
                overrides=[
                    {
                        "matcher": {"id": "byRegexp", "options": "/processors$/"},
                        "properties": [
                            {"id": "unit", "value": "none"},
                            {"id": "custom.axisPlacement", "value": "right"},
                        ],
                    }
                ],
            ),
            graph(
                "eBPF maps in use",
                Query("max by (map) (pangolin_exporter_map_entries / pangolin_exporter_map_max_entries)", "{{map}}"),
                unit="percentunit",
                note="Some grow as they fill. What found no room is counted as lost.",
            ),
            graph("Attached programs", Query("sum by (hook) (pangolin_exporter_attachments)", "{{hook}}")),
            graph(
                "Applications' series",
                Query("sum by (instance) (pangolin_exporter_application_series)", "{{instance}} series"),
                Query("sum by (reason) (rate(pangolin_exporter_application_samples_rejected_total[]))", "refused a second: {{reason}}"),
            ),
            graph(
                "Answers",
                Query("sum by (handler, code) (rate(pangolin_exporter_http_responses_total[]))", "{{handler}} {{code}}"),
                Query("sum by (code) (rate(pangolin_exporter_otlp_responses_total[]))", "OTLP {{code}}"),
                unit="reqps",
            ),
            table(
                "Versions",
                {"instance": "exporter", "version": "version", "libbpf": "libbpf"},
                Query("pangolin_exporter_build_info", instant=True, format="table"),
                height=6,
                width=24,
            ),
        ],
    )


def dashboard() -> Dashboard:
    return Dashboard(
        uid="pangolin-server",
        title="Pangolin: server",
        description="Pangolin's own services, Traefik's configuration, certificates, and the exporter itself.",
        rows=[now(), sign_ins(), interfaces(), traefik_and_database(), certificates(), exporter()],
        variables=[instance_variable()],
    )
