"""One resource, or several: who asks for it, how fast is it, and which backend fails?"""

from __future__ import annotations

from .expressions import EXPORTER, by_backend, by_resource, mean, or_zero, quantile
from .panels import (
    GREEN,
    RED,
    YELLOW,
    Dashboard,
    Panel,
    Query,
    Row,
    graph,
    heatmap,
    instance_variable,
    named_legend,
    named_variable,
    number,
    stacked,
    states,
)

DURATION = "pangolin_resource_request_duration_seconds"
# Metrics of backends do not name the resource, which a backend may share with others.
OF_THE_RESOURCE = f"and on ({EXPORTER}, backend, site_id) pangolin_backend_info"


def now() -> Row:
    failed = 'sum(rate(pangolin_resource_requests_total{status=~"5..|none"}[]))'
    share = f"{failed} / sum(rate(pangolin_resource_requests_total[]))"
    return Row(
        "Now",
        [
            number("Requests", or_zero("sum(rate(pangolin_resource_requests_total[]))"), unit="reqps"),
            number(
                "Failed requests",
                f"({share}) >= 0 or vector(0)",
                unit="percentunit",
                thresholds=[(None, GREEN), (0.01, YELLOW), (0.05, RED)],
                note="Answered with a server error, or not at all.",
            ),
            number("Errors", or_zero("sum(rate(pangolin_resource_errors_total[]))"), unit="eps"),
            number("Duration, 95th percentile", quantile(0.95, f"{DURATION}_bucket"), unit="s"),
            number("Connections in use", or_zero("sum(pangolin_resource_active_connections)")),
            number(
                "Certificate expires in",
                "min(pangolin_certificates_expiry_days)",
                unit="d",
                thresholds=[(None, RED), (3, YELLOW), (14, GREEN)],
            ),
        ],
    )


def of_resource(expression: str, legend: str = "") -> Query:
    return Query(by_resource(expression), named_legend("name", legend))


def requests() -> Row:
    return Row(
        "Requests",
        [
            stacked(
                "Requests by status",
                of_resource(
                    "sum by (resource_id, status) (rate(pangolin_resource_requests_total[]))", "{{status}}"
                ),
                unit="reqps",
                note="none: the connection ended without an answer.",
            ),
            stacked(
                "Requests by method and site",
                of_resource(
                    "sum by (resource_id, site_id, method) (rate(pangolin_resource_requests_total[]))",
                    "{{method}} {{site_id}}",
                ),
                unit="reqps",
            ),
            graph(
                "Connections in use",
                of_resource(
                    "sum by (resource_id, protocol) (pangolin_resource_active_connections)", "{{protocol}}"
                ),
            ),
            graph(
                "Duration of requests",
                *(
                    of_resource(quantile(share, f"{DURATION}_bucket", "resource_id"), legend)
                    for share, legend in ((0.5, "median"), (0.95, "95 %"), (0.99, "99 %"))
                ),
                of_resource(mean(DURATION, "resource_id"), "mean"),
                unit="s",
            ),
            heatmap("Durations", DURATION),
            graph(
                "Bandwidth",
                of_resource(
                    "sum by (resource_id, direction) (rate(pangolin_resource_bandwidth_bytes_total[]))",
                    "{{direction}}",
                ),
                unit="Bps",
                note="ingress: from the site to this host.",
            ),
        ],
    )


def errors() -> Row:
    return Row(
        "Errors",
        [
            stacked(
                "Errors by type",
                of_resource(
                    "sum by (resource_id, error_type) (rate(pangolin_resource_errors_total[]))",
                    "{{error_type}}",
                ),
                unit="eps",
                note="early_close: how newt shows a target that is down. http_5xx: the backend answered so.",
                width=12,
            ),
            graph(
                "Requests given up",
                of_resource("sum by (resource_id) (rate(pangolin_resource_requests_aborted_total[]))"),
                unit="reqps",
                width=12,
            ),
        ],
    )


def backend_health() -> Panel:
    health = f"max by (backend, site_id) (pangolin_backend_health_status {OF_THE_RESOURCE})"
    return states("Health", Query(by_backend(health), named_legend("target", "at {{site_id}}")), width=12)


def backends() -> Row:
    def query(expression: str, legend: str) -> Query:
        return Query(by_backend(f"({expression}) {OF_THE_RESOURCE}"), named_legend("target", legend))

    size = "pangolin_backend_response_size_bytes"
    return Row(
        "Backends",
        [
            backend_health(),
            graph(
                "Failed connections",
                query(
                    "sum by (backend, site_id, error_type) (rate(pangolin_backend_connection_errors_total[]))",
                    "{{error_type}}",
                ),
                unit="cps",
                width=12,
            ),
            graph(
                "Requests by backend",
                Query(
                    by_backend("sum by (backend, site_id) (rate(pangolin_resource_requests_total[]))"),
                    named_legend("target"),
                ),
                unit="reqps",
            ),
            graph(
                "Mean duration by backend",
                Query(by_backend(mean(DURATION, "backend, site_id")), named_legend("target")),
                unit="s",
            ),
            graph(
                "Size of answers",
                query(quantile(0.5, f"{size}_bucket", "backend, site_id"), "median"),
                query(quantile(0.95, f"{size}_bucket", "backend, site_id"), "95 %"),
                unit="bytes",
            ),
        ],
    )


def dashboard() -> Dashboard:
    return Dashboard(
        uid="pangolin-resource",
        title="Pangolin: resource",
        description="Requests, durations, errors and backends of a resource.",
        rows=[now(), requests(), errors(), backends()],
        variables=[
            instance_variable(),
            named_variable(
                "resource_id", "Resource", "pangolin_resource_info", "pangolin_resource_bandwidth_bytes_total"
            ),
        ],
    )
