"""The demo's little live table, from /metrics like any other reader."""

from __future__ import annotations

import re
import time
import urllib.request

SAMPLE = re.compile(r"^(pangolin_\w+)\{(.*)\} (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')


def read_samples(port: int) -> list[tuple[str, dict[str, str], float]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return [(name, dict(LABEL.findall(labels)), float(value)) for name, labels, value in SAMPLE.findall(text)]


def amount(value: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


class Table:
    def __init__(self, port: int, sites: list[str]) -> None:
        self.port = port
        self.sites = sites
        self.before: dict[tuple[str, str], float] = {}
        self.at = 0.0

    def text(self) -> str:
        """One line per site; rates are since the last time."""
        samples, now = read_samples(self.port), time.monotonic()
        totals: dict[tuple[str, str], float] = {}
        protocols: dict[tuple[str, str], float] = {}
        up: dict[str, int] = {}
        for name, labels, value in samples:
            site = labels.get("site_id", "")
            if name == "pangolin_site_bandwidth_bytes_total":
                totals[site, labels["direction"]] = totals.get((site, labels["direction"]), 0) + value
                protocols[site, labels["protocol"]] = protocols.get((site, labels["protocol"]), 0) + value
            elif name == "pangolin_tunnel_up" and labels.get("transport") == "wireguard":
                up[site] = int(value)
        lines = [
            f"{'site':<20} {'tunnel':<7} {'in':>11} {'out':>11} {'in total':>10} {'out total':>10}   "
            f"{'tcp':>9} {'udp':>9} {'icmp':>9}"
        ]
        for site in self.sites:
            rates = [self.rate(totals, (site, way), now) for way in ("ingress", "egress")]
            state = {1: "up", 0: "down"}.get(up.get(site, -1), "?")
            lines.append(
                f"{site:<20} {state:<7} {rates[0]:>11} {rates[1]:>11} {amount(totals.get((site, 'ingress'), 0)):>10} "
                f"{amount(totals.get((site, 'egress'), 0)):>10}   "
                + " ".join(f"{amount(protocols.get((site, name), 0)):>9}" for name in ("tcp", "udp", "icmp"))
            )
        self.before, self.at = totals, now
        return "\n".join(lines)

    def rate(self, totals: dict[tuple[str, str], float], key: tuple[str, str], now: float) -> str:
        if not self.at:
            return "-"
        return amount((totals.get(key, 0) - self.before.get(key, 0)) / (now - self.at)) + "/s"
