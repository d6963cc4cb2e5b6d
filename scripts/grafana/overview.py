"""All sites and resources at a glance, and what is wrong now."""

from __future__ import annotations

from .expressions import by_resource, by_site, of_each_exporter, or_zero, quantile
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
    graph,
    instance_variable,
    link,
    named_legend,
    number,
    stacked,
    states,
    table,
)

BAD_ABOVE_ZERO = [(None, GREEN), (1, RED)]


def now() -> Row:
    firing = 'ALERTS{alertname=~"Pangolin.*",alertstate="firing"}'
    online_but_dead = (
        'pangolin_site_online{transport="websocket"} == 1'
        ' and on (instance, site_id) pangolin_tunnel_up{transport="wireguard"} == 0'
    )
    return Row(
        "Now",
        [
            number("Tunnels up", "sum(pangolin_site_active_sites)"),
            number(
                "Tunnels down",
                or_zero("count(pangolin_tunnel_up == 0)"),
                thresholds=[(None, GREEN), (1, YELLOW)],
            ),
            number(
                "Online, but the tunnel is dead",
                or_zero(f"count({online_but_dead})"),
                thresholds=BAD_ABOVE_ZERO,
                note="Pangolin shows the site as online, and no packet gets through its tunnel.",
            ),
            number("Requests", or_zero("sum(rate(pangolin_resource_requests_total[]))"), unit="reqps"),
            number("Errors", or_zero("sum(rate(pangolin_resource_errors_total[]))"), unit="eps"),
            number(
                "Alerts",
                or_zero(f"count({firing})"),
                thresholds=BAD_ABOVE_ZERO,
                note="Firing alerts of the rules in scripts/prometheus.",
            ),
            table(
                "Firing alerts",
                {"alertname": "alert", "severity": "severity", "site_id": "site", "resource_id": "resource"}
                | {"backend": "backend", "source": "source", "domain": "domain", "instance": "exporter"},
                Query(firing, instant=True, format="table"),
                width=24,
                height=6,
                note="Of the rules in scripts/prometheus, as Prometheus evaluates them.",
            ),
        ],
    )


def table_of_sites() -> Panel:
    def cell(expression: str) -> Query:
        return Query(of_each_exporter(expression), instant=True, format="table")

    def traffic(direction: str) -> Query:
        bytes_of = f'pangolin_site_bandwidth_bytes_total{{direction="{direction}"}}'
        return cell(f"sum by (site_id) (rate({bytes_of}[]))")

    everything = "group by (site_id) (pangolin_site_online or pangolin_site_bandwidth_bytes_total)"
    uptime = "max by (site_id) (increase(pangolin_site_uptime_seconds_total[$__range])) / $__range_s"
    state = {"mappings": STATES, "custom__cellOptions": {"type": "color-text"}}
    return table(
        "Sites",
        {"site_id": "site_id", "name": "name", "instance": "exporter"}
        | {"Value #B": "tunnel", "Value #C": "Pangolin says"}
        | {"Value #D": "from the site", "Value #E": "to the site"}
        | {"Value #F": "up during this time", "Value #G": "drops of the tunnel"},
        # All sites, and whatever else has traffic.
        Query(by_site(everything), instant=True, format="table"),
        cell("max by (site_id) (pangolin_tunnel_up)"),
        cell('max by (site_id) (pangolin_site_online{transport!="wireguard"})'),
        traffic("ingress"),
        traffic("egress"),
        cell(uptime),
        cell("sum by (site_id) (increase(pangolin_site_connection_drops_total[$__range]))"),
        width=24,
        height=9,
        overrides=[
            column("site_id", links=link("This site", "pangolin-site", "site_id")),
            column("tunnel", **state),
            column("Pangolin says", **state),
            column("from the site", unit="Bps"),
            column("to the site", unit="Bps"),
            column("up during this time", unit="percentunit", max=1),
            column("drops of the tunnel", decimals=0),
        ],
    )


def sites() -> Row:
    def of_site(expression: str) -> Query:
        return Query(by_site(expression), named_legend("name"))

    def bandwidth(direction: str) -> Query:
        bytes_of = f'pangolin_site_bandwidth_bytes_total{{direction="{direction}"}}'
        return of_site(f"sum by (site_id) (rate({bytes_of}[]))")

    return Row(
        "Sites",
        [
            table_of_sites(),
            stacked("Bandwidth from the sites", bandwidth("ingress"), unit="Bps", width=12),
            stacked("Bandwidth to the sites", bandwidth("egress"), unit="Bps", width=12),
            states(
                "Tunnels",
                of_site('max by (site_id) (pangolin_tunnel_up{transport="wireguard"})'),
                width=12,
            ),
            graph(
                "Active sites by region",
                Query("sum by (region) (pangolin_site_active_sites)", "{{region}}"),
                width=12,
            ),
            graph(
                "Round trip through the tunnel, median",
                of_site(quantile(0.5, "pangolin_tunnel_latency_seconds_bucket", "site_id")),
                unit="s",
            ),
            graph(
                "Reconnects",
                of_site("sum by (site_id) (increase(pangolin_tunnel_reconnects_total[]))"),
                note="Within Grafana's rate interval.",
            ),
            graph(
                "Packets dropped",
                of_site("sum by (site_id) (rate(pangolin_site_packet_drops_total[]))"),
                unit="pps",
            ),
        ],
    )


def resources() -> Row:
    def by_name(expression: str) -> Query:
        return Query(by_resource(expression), named_legend("name"))

    return Row(
        "Resources",
        [
            graph(
                "Requests",
                by_name("sum by (resource_id) (rate(pangolin_resource_requests_total[]))"),
                unit="reqps",
            ),
            graph(
                "Errors",
                by_name("sum by (resource_id) (rate(pangolin_resource_errors_total[]))"),
                unit="eps",
            ),
            graph(
                "Duration of requests, 95th percentile",
                by_name(quantile(0.95, "pangolin_resource_request_duration_seconds_bucket", "resource_id")),
                unit="s",
            ),
            graph(
                "Bandwidth",
                by_name("sum by (resource_id) (rate(pangolin_resource_bandwidth_bytes_total[]))"),
                unit="Bps",
            ),
            graph(
                "Connections in use",
                by_name("sum by (resource_id) (pangolin_resource_active_connections)"),
            ),
            graph(
                "Clients' bandwidth",
                Query("sum by (client_id) (rate(pangolin_client_bandwidth_bytes_total[]))", "{{client_id}}"),
                unit="Bps",
            ),
        ],
    )


def dashboard() -> Dashboard:
    return Dashboard(
        uid="pangolin-overview",
        title="Pangolin: overview",
        description="Sites and resources of a Pangolin host, as pangolin_exporter counts them.",
        rows=[now(), sites(), resources()],
        variables=[instance_variable()],
    )
