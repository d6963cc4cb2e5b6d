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
    named_legend,
    number,
    stacked,
    states,
    table,
)

EXPIRY = [(None, RED), (3, YELLOW), (14, GREEN)]


def legend_of(labels: str) -> str:
    return " ".join(f"{{{{{label.strip()}}}}}" for label in labels.split(","))


def added(counter: str, by: str, legend: str = "") -> Query:
    """What a counter has grown by, for what happens seldom."""
    return Query(f"sum by ({by}) (increase({counter}[]))", f"{legend} {legend_of(by)}".strip())


def rate(counter: str, by: str, legend: str = "") -> Query:
    return Query(f"sum by ({by}) (rate({counter}[]))", f"{legend} {legend_of(by)}".strip())


def gauge(name: str, by: str, legend: str = "") -> Query:
    return Query(f"sum by ({by}) ({name})", f"{legend} {legend_of(by)}".strip())


def slowest(histogram: str, by: str, share: float = 0.95) -> Query:
    return Query(quantile(share, f"{histogram}_bucket", by), legend_of(by))


def now() -> Row:
    source = {"defaults": {"mappings": STATES}, "thresholds": [(None, RED), (1, GREEN)]}
    return Row(
        "Now",
        [
            number("Pangolin", 'min(pangolin_exporter_source_up{source="pangolin"})', **source),
            number("Dashboard sessions", "sum(pangolin_ui_active_sessions)"),
            number("Users, newts and olms", "sum(pangolin_auth_active_users)"),
            number("Open WebSockets", or_zero("sum(pangolin_ws_active_connections)")),
            number(
                "Next certificate expires in",
                "min(pangolin_acme_cert_expiry_days)",
                unit="d",
                thresholds=EXPIRY,
            ),
            number(
                "Restarts of Pangolin",
                or_zero("sum(increase(pangolin_restart_count_total[$__range]))"),
                defaults={"decimals": 0},
            ),
        ],
    )


def signing_in() -> list[Panel]:
    checks = quantile(0.95, "pangolin_session_check_duration_seconds_bucket")
    return [
        events("Sign-ins", added("pangolin_auth_requests_total", "auth_method, result")),
        events("Failures", added("pangolin_auth_failure_reasons_total", "auth_method, reason")),
        graph(
            "Duration of sign-ins, 95th percentile",
            slowest("pangolin_auth_request_duration_seconds", "auth_method, result"),
            unit="s",
        ),
        graph("Active", gauge("pangolin_auth_active_users", "auth_method")),
        events(
            "Sessions",
            added("pangolin_token_issued_total", "auth_method", "issued"),
            added("pangolin_token_revoked_total", "reason", "ended"),
            added("pangolin_token_refresh_total", "result", "prolonged"),
        ),
        graph(
            "Session checks for resources",
            rate("pangolin_session_checks_total", "result"),
            Query(checks, "95 % took"),
            unit="reqps",
            overrides=[column("95 % took", unit="s", custom__axisPlacement="right")],
        ),
    ]


def dashboard_and_api() -> list[Panel]:
    busiest = "topk(10, sum by (endpoint, method) (rate(pangolin_ui_requests_total[])))"
    return [
        stacked("Requests by status", rate("pangolin_ui_requests_total", "status"), unit="reqps"),
        graph(
            "Requests by endpoint",
            Query(busiest, "{{method}} {{endpoint}}"),
            unit="reqps",
            note="The ten with the most.",
        ),
        graph("Sessions with the dashboard", gauge("pangolin_ui_active_sessions", "instance")),
        graph(
            "Integration API",
            rate("pangolin_integration_api_requests_total", "method, endpoint, status"),
            unit="reqps",
        ),
        graph(
            "Duration at the integration API, 95th percentile",
            slowest("pangolin_integration_api_duration_seconds", "method, endpoint"),
            unit="s",
        ),
        graph("WebSocket messages", rate("pangolin_ws_messages_total", "direction, msg_type"), unit="mps"),
        events(
            "WebSockets opened",
            added("pangolin_ws_connections_total", "result"),
            Query("sum(pangolin_ws_active_connections)", "open"),
        ),
        events(
            "Background jobs",
            added("pangolin_background_jobs_total", "job_type, status"),
            gauge("pangolin_background_queue_depth", "job_type", "waiting"),
        ),
        events("Hole punches", added("pangolin_holepunch_orchestration_total", "result")),
    ]


def traefik_and_database() -> list[Panel]:
    polls = "pangolin_traefik_provider_sync_seconds_bucket"
    return [
        graph(
            "Traefik's polls",
            Query(quantile(0.5, polls), "median"),
            Query(quantile(0.95, polls), "95 %"),
            unit="s",
        ),
        events("Failed polls", added("pangolin_traefik_provider_errors_total", "error_type")),
        events(
            "Configurations and plugins",
            added("pangolin_config_reloads_total", "result", "configuration"),
            added("pangolin_plugin_fetch_total", "plugin, result"),
        ),
        graph("Database connections", gauge("pangolin_db_pool_connections", "state")),
        graph(
            "Waiting for the database",
            rate("pangolin_db_wait_seconds_total", "instance"),
            unit="percentunit",
            note="As a share of the time.",
        ),
        events("Restarts of Pangolin", added("pangolin_restart_count_total", "instance")),
    ]


def certificates() -> list[Panel]:
    by_domain = "min by (domain) (pangolin_acme_cert_expiry_days)"
    by_resource_id = "min by (resource_id) (pangolin_certificates_expiry_days)"
    return [
        table(
            "Certificates by domain",
            {"domain": "domain", "Value": "days left"},
            Query(by_domain, instant=True, format="table"),
            overrides=[column("days left", decimals=1, custom__cellOptions={"type": "color-text"})],
            thresholds=EXPIRY,
            defaults={"color": {"mode": "thresholds"}},
        ),
        graph(
            "Days left, by resource",
            Query(by_resource(by_resource_id), named_legend("name")),
            unit="d",
        ),
        events("Events", added("pangolin_acme_cert_events_total", "domain, event")),
    ]


def exporters_work() -> list[Panel]:
    duration = "pangolin_exporter_collection_duration_seconds"
    mean = f"sum by (instance) (rate({duration}_sum[])) / sum by (instance) (rate({duration}_count[]))"
    scrape = quantile(0.95, "pangolin_exporter_scrape_duration_seconds_bucket", "instance")
    return [
        states("Sources", Query("min by (source) (pangolin_exporter_source_up)", "{{source}}")),
        states("Features", Query("min by (feature) (pangolin_exporter_feature_enabled)", "{{feature}}")),
        events(
            "Counted inexactly or not at all",
            added("pangolin_exporter_lost_updates_total", "map, reason"),
            added("pangolin_exporter_undecodable_packets_total", "direction, reason"),
        ),
        graph(
            "Time for a collection and for a scrape",
            Query(mean, "{{instance}} collection, mean"),
            Query(scrape, "{{instance}} scrape, 95 %"),
            unit="s",
        ),
        graph(
            "Answers",
            rate("pangolin_exporter_http_responses_total", "handler, code"),
            rate("pangolin_exporter_otlp_responses_total", "code", "OTLP"),
            unit="reqps",
        ),
        graph(
            "Applications' series",
            gauge("pangolin_exporter_application_series", "instance", "series of"),
            rate("pangolin_exporter_application_samples_rejected_total", "reason", "refused a second:"),
        ),
    ]


def exporters_needs() -> list[Panel]:
    ours = "and on (instance, job) pangolin_exporter_build_info"
    in_use = "max by (map) (pangolin_exporter_map_entries / pangolin_exporter_map_max_entries)"
    right = [{"id": "unit", "value": "none"}, {"id": "custom.axisPlacement", "value": "right"}]
    return [
        graph(
            "Memory and processor",
            Query(f"process_resident_memory_bytes {ours}", "{{instance}} memory"),
            Query(f"rate(process_cpu_seconds_total[]) {ours}", "{{instance}} processors"),
            unit="bytes",
            overrides=[{"matcher": {"id": "byRegexp", "options": "/processors$/"}, "properties": right}],
        ),
        graph(
            "eBPF maps in use",
            Query(in_use, "{{map}}"),
            unit="percentunit",
            note="Some grow as they fill. What found no room is counted as lost.",
        ),
        graph("Attached programs", gauge("pangolin_exporter_attachments", "hook")),
        table(
            "Versions",
            {"instance": "exporter", "version": "version", "libbpf": "libbpf"},
            Query("pangolin_exporter_build_info", instant=True, format="table"),
            height=6,
            width=24,
        ),
    ]


def dashboard() -> Dashboard:
    return Dashboard(
        uid="pangolin-server",
        title="Pangolin: server",
        description="Pangolin's own services, Traefik's configuration, certificates, and the exporter itself.",
        rows=[
            now(),
            Row("Signing in", signing_in()),
            Row("Dashboard and API", dashboard_and_api()),
            Row("Traefik and the database", traefik_and_database()),
            Row("Certificates", certificates()),
            Row("The exporter itself", [*exporters_work(), *exporters_needs()]),
        ],
        variables=[instance_variable()],
    )
