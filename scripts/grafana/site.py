"""One site, or several: is the tunnel healthy, and if not, why?"""

from __future__ import annotations

from .expressions import by_backend, by_resource, by_site, or_zero, quantile
from .panels import (
    GREEN,
    RED,
    STATES,
    YELLOW,
    Dashboard,
    Panel,
    Query,
    Row,
    events,
    graph,
    heatmap,
    instance_variable,
    named_legend,
    named_variable,
    number,
    stacked,
    states,
)

ROUND_TRIP = "pangolin_tunnel_latency_seconds"
HANDSHAKE = "pangolin_site_handshake_latency_seconds"


def of_site(expression: str, legend: str = "") -> Query:
    return Query(by_site(expression), named_legend("name", legend))


def since_last_handshake() -> str:
    times = "max by (instance, public_key) (pangolin_wg_peer_last_handshake_timestamp_seconds > 0)"
    peers = "max by (instance, public_key, site_id) (pangolin_wg_peer_info)"
    return f"time() - max by (site_id) ({times} * on (instance, public_key) group_left (site_id) {peers})"


def now() -> Row:
    up_or_down = {"defaults": {"mappings": STATES}, "thresholds": [(None, RED), (1, GREEN)]}
    whole = {"defaults": {"decimals": 0}}
    return Row(
        "Now",
        [
            number("Tunnel", "min(pangolin_tunnel_up)", **up_or_down, note="The worst of the selected sites."),
            number("Pangolin says", 'min(pangolin_site_online{transport!="wireguard"})', **up_or_down),
            number(
                "Up during this time",
                "avg(increase(pangolin_site_uptime_seconds_total[$__range])) / $__range_s",
                unit="percentunit",
                thresholds=[(None, RED), (0.95, YELLOW), (0.999, GREEN)],
            ),
            number(
                "Last handshake, ago",
                f"max({since_last_handshake()})",
                unit="s",
                thresholds=[(None, GREEN), (180, YELLOW), (300, RED)],
                note="A tunnel in use makes one every two minutes.",
            ),
            number("Reconnects", or_zero("sum(increase(pangolin_tunnel_reconnects_total[$__range]))"), **whole),
            number(
                "Drops of the tunnel",
                or_zero("sum(increase(pangolin_site_connection_drops_total[$__range]))"),
                **whole,
            ),
        ],
    )


def handshakes() -> list[Panel]:
    return [
        states(
            "Online, by transport",
            of_site("max by (site_id, transport) (pangolin_site_online)", "{{transport}}"),
        ),
        events(
            "Handshakes",
            of_site("sum by (site_id, result) (increase(pangolin_wg_handshake_total[]))", "{{result}}"),
            note="timeout: the host's answers do not arrive, or the site is gone.",
        ),
        events(
            "Handshakes of nobody known",
            Query(
                'sum by (result) (increase(pangolin_wg_handshake_total{site_id="unassigned"}[]))', "{{result}}"
            ),
            note="unknown_peer: a key that this host does not know. "
            "invalid_mac: set up for another server's key, or a scan.",
        ),
    ]


def round_trips() -> list[Panel]:
    return [
        graph(
            "Round trip through the tunnel",
            of_site(quantile(0.5, f"{ROUND_TRIP}_bucket", "site_id"), "median"),
            of_site(quantile(0.95, f"{ROUND_TRIP}_bucket", "site_id"), "95 %"),
            unit="s",
        ),
        heatmap("Round trips", ROUND_TRIP),
        graph(
            "Handshake latency, median",
            of_site(quantile(0.5, f"{HANDSHAKE}_bucket", "site_id, transport"), "{{transport}}"),
            unit="s",
        ),
    ]


def losses() -> list[Panel]:
    again = "sum by (site_id) (rate(pangolin_tcp_retransmits_total[]))"
    sent = 'sum by (site_id) (rate(pangolin_site_packets_total{direction="egress",protocol="tcp"}[]))'
    drops = "sum by (site_id, direction, reason) (rate(pangolin_site_packet_drops_total[]))"
    return [
        graph("Packets dropped, by reason", of_site(drops, "{{direction}} {{reason}}"), unit="pps"),
        graph(
            "TCP segments sent again",
            of_site(f"{again} / {sent}"),
            unit="percentunit",
            note="As a share of the TCP packets to the site.",
        ),
        graph(
            "TCP connections through the tunnel, by result",
            of_site("sum by (site_id, result) (rate(pangolin_tcp_connections_total[]))", "{{result}}"),
            unit="cps",
        ),
    ]


def comings_and_goings() -> list[Panel]:
    reconnects = "sum by (site_id, reason) (increase(pangolin_tunnel_reconnects_total[]))"
    return [
        events(
            "Reconnects by reason",
            of_site(reconnects, "{{reason}}"),
            note="key_change: newt started anew. endpoint_change: another address or NAT mapping. "
            "timeout: it was dead.",
        ),
        events(
            "Drops of the tunnel",
            of_site("sum by (site_id) (increase(pangolin_site_connection_drops_total[]))"),
        ),
        events(
            "newt's WebSocket",
            of_site("sum by (site_id, result) (increase(pangolin_ws_connections_total[]))", "{{result}}"),
            of_site("sum by (site_id) (pangolin_ws_active_connections)", "open"),
        ),
    ]


def traffic() -> list[Panel]:
    by = "site_id, direction, protocol"
    encrypted = "sum by (site_id, transport, direction) (rate(pangolin_tunnel_bytes_total[]))"
    relayed = "sum by (site_id, direction) (rate(pangolin_relay_bytes_total[]))"
    return [
        graph(
            "Bandwidth",
            of_site(
                f"sum by ({by}) (rate(pangolin_site_bandwidth_bytes_total[]))", "{{direction}} {{protocol}}"
            ),
            unit="Bps",
            note="ingress: from the site to this host.",
        ),
        graph(
            "Packets",
            of_site(f"sum by ({by}) (rate(pangolin_site_packets_total[]))", "{{direction}} {{protocol}}"),
            unit="pps",
        ),
        graph(
            "Encrypted, and relayed",
            of_site(encrypted, "{{transport}} {{direction}}"),
            of_site(relayed, "relayed {{direction}}"),
            unit="Bps",
        ),
    ]


def resources() -> list[Panel]:
    def of_resource(metric: str, legend: str = "") -> Query:
        rate = f"sum by (resource_id) (rate({metric}[]))"
        return Query(by_resource(rate), named_legend("name", legend))

    health = "max by (backend, site_id) (pangolin_backend_health_status)"
    return [
        stacked("Bandwidth by resource", of_resource("pangolin_resource_bandwidth_bytes_total"), unit="Bps"),
        graph(
            "Requests and errors by resource",
            of_resource("pangolin_resource_requests_total", "requests"),
            of_resource("pangolin_resource_errors_total", "errors"),
            unit="reqps",
        ),
        states("Backends", Query(by_backend(health), named_legend("target", "by {{backend}}"))),
    ]


def dashboard() -> Dashboard:
    health = [*handshakes(), *round_trips(), *losses(), *comings_and_goings()]
    return Dashboard(
        uid="pangolin-site",
        title="Pangolin: site",
        description="Is the tunnel of a site healthy, who uses it, and for what?",
        rows=[now(), Row("Is the tunnel healthy?", health), Row("Traffic", [*traffic(), *resources()])],
        variables=[
            instance_variable(),
            named_variable("site_id", "Site", "pangolin_site_info", "pangolin_site_bandwidth_bytes_total"),
        ],
    )
