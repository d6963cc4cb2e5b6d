"""One site, or several: is the tunnel healthy, and if not, why?"""

from __future__ import annotations

from .expressions import by_backend, by_resource, by_site, or_zero, quantile
from .panels import (
    GREEN,
    RED,
    STATES,
    YELLOW,
    Dashboard,
    Query,
    Row,
    events,
    graph,
    heatmap,
    instance_variable,
    named_variable,
    number,
    stacked,
    states,
)


def now() -> Row:
    up_or_down = {"defaults": {"mappings": STATES}, "thresholds": [(None, RED), (1, GREEN)]}
    last_handshake = (
        "time() - max by (site_id) (max by (instance, public_key) (pangolin_wg_peer_last_handshake_timestamp_seconds > 0)"
        " * on (instance, public_key) group_left (site_id) max by (instance, public_key, site_id) (pangolin_wg_peer_info))"
    )
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
                f"max({last_handshake})",
                unit="s",
                thresholds=[(None, GREEN), (180, YELLOW), (300, RED)],
                note="A tunnel in use makes one every two minutes.",
            ),
            number("Reconnects", or_zero("sum(increase(pangolin_tunnel_reconnects_total[$__range]))"), defaults={"decimals": 0}),
            number("Drops of the tunnel", or_zero("sum(increase(pangolin_site_connection_drops_total[$__range]))"), defaults={"decimals": 0}),
        ],
    )


def health() -> Row:
    return Row(
        "Is the tunnel healthy?",
        [
            states(
                "Online, by transport",
                Query(by_site("max by (site_id, transport) (pangolin_site_online)"), "{{name}} {{transport}}"),
            ),
            events(
                "Handshakes",
                Query(by_site("sum by (site_id, result) (increase(pangolin_wg_handshake_total[]))"), "{{name}} {{result}}"),
                note="timeout: the host's answers do not arrive, or the site is gone.",
            ),
            events(
                "Handshakes of nobody known",
                Query('sum by (result) (increase(pangolin_wg_handshake_total{site_id="unassigned"}[]))', "{{result}}"),
                note="unknown_peer: a key that this host does not know. invalid_mac: set up for another server's key, or a scan.",
            ),
            graph(
                "Round trip through the tunnel",
                Query(by_site(quantile(0.5, "pangolin_tunnel_latency_seconds_bucket", "site_id")), "{{name}} median"),
                Query(by_site(quantile(0.95, "pangolin_tunnel_latency_seconds_bucket", "site_id")), "{{name}} 95 %"),
                unit="s",
            ),
            heatmap("Round trips", "pangolin_tunnel_latency_seconds"),
            graph(
                "Handshake latency, median",
                Query(
                    by_site(quantile(0.5, "pangolin_site_handshake_latency_seconds_bucket", "site_id, transport")),
                    "{{name}} {{transport}}",
                ),
                unit="s",
            ),
            events(
                "Reconnects by reason",
                Query(
                    by_site("sum by (site_id, reason) (increase(pangolin_tunnel_reconnects_total[]))"), "{{name}} {{reason}}"
                ),
                note="key_change: newt started anew. endpoint_change: another address or NAT mapping. timeout: it was dead.",
            ),
            graph(
                "Packets dropped, by reason",
                Query(
                    by_site("sum by (site_id, direction, reason) (rate(pangolin_site_packet_drops_total[]))"),
                    "{{name}} {{direction}} {{reason}}",
                ),
                unit="pps",
            ),
            graph(
                "TCP connections through the tunnel, by result",
                Query(by_site("sum by (site_id, result) (rate(pangolin_tcp_connections_total[]))"), "{{name}} {{result}}"),
                unit="cps",
            ),
            graph(
                "TCP segments sent again",
                Query(
                    by_site(
                        "sum by (site_id) (rate(pangolin_tcp_retransmits_total[])) / sum by (site_id)"
                        ' (rate(pangolin_site_packets_total{direction="egress",protocol="tcp"}[]))'
                    ),
                    "{{name}}",
                ),
                unit="percentunit",
                note="As a share of the TCP packets to the site.",
            ),
            events(
                "Drops of the tunnel",
                Query(by_site("sum by (site_id) (increase(pangolin_site_connection_drops_total[]))"), "{{name}}"),
            ),
            events(
                "newt's WebSocket",
                Query(by_site("sum by (site_id, result) (increase(pangolin_ws_connections_total[]))"), "{{name}} {{result}}"),
                Query(by_site("sum by (site_id) (pangolin_ws_active_connections)"), "{{name}} open"),
            ),
        ],
    )


def traffic() -> Row:
    return Row(
        "Traffic",
        [
            graph(
                "Bandwidth",
                Query(
                    by_site("sum by (site_id, direction, protocol) (rate(pangolin_site_bandwidth_bytes_total[]))"),
                    "{{name}} {{direction}} {{protocol}}",
                ),
                unit="Bps",
                note="ingress: from the site to this host.",
            ),
            graph(
                "Packets",
                Query(
                    by_site("sum by (site_id, direction, protocol) (rate(pangolin_site_packets_total[]))"),
                    "{{name}} {{direction}} {{protocol}}",
                ),
                unit="pps",
            ),
            graph(
                "Encrypted, and relayed",
                Query(
                    by_site("sum by (site_id, transport, direction) (rate(pangolin_tunnel_bytes_total[]))"),
                    "{{name}} {{transport}} {{direction}}",
                ),
                Query(
                    by_site("sum by (site_id, direction) (rate(pangolin_relay_bytes_total[]))"), "{{name}} relayed {{direction}}"
                ),
                unit="Bps",
            ),
            stacked(
                "Bandwidth by resource",
                Query(by_resource("sum by (resource_id) (rate(pangolin_resource_bandwidth_bytes_total[]))"), "{{name}}"),
                unit="Bps",
            ),
            graph(
                "Requests and errors by resource",
                Query(by_resource("sum by (resource_id) (rate(pangolin_resource_requests_total[]))"), "{{name}} requests"),
                Query(by_resource("sum by (resource_id) (rate(pangolin_resource_errors_total[]))"), "{{name}} errors"),
                unit="reqps",
            ),
            states(
                "Backends",
                Query(by_backend("max by (backend, site_id) (pangolin_backend_health_status)"), "{{target}}"),
            ),
        ],
    )


def dashboard() -> Dashboard:
    return Dashboard(
        uid="pangolin-site",
        title="Pangolin: site",
        description="Is the tunnel of a site healthy, who uses it, and for what?",
        rows=[now(), health(), traffic()],
        variables=[
            instance_variable(),
            named_variable("site_id", "Site", "pangolin_site_info", "pangolin_site_bandwidth_bytes_total"),
        ],
    )
