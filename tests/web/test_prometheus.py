#!/usr/bin/env python3
"""A real Prometheus scrapes the exporter beside a lab world, and computes the right rates.

    sudo python3 tests/web/test_prometheus.py [--exporter build/pangolin_exporter]
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))

import harness  # noqa: E402
from accounts import host_end, site_end, stage  # noqa: E402
from traffic import End  # noqa: E402

IP_AND_UDP_HEADERS = 28
PAYLOAD = 972
DATAGRAMS_PER_SECOND = 50
SECONDS = 25
BYTES_PER_SECOND = DATAGRAMS_PER_SECOND * (PAYLOAD + IP_AND_UDP_HEADERS)


class Prometheus:
    """Debian's prometheus with a scrape interval of 1 s and its data in a folder of its own."""

    def __init__(self, folder: Path, target: int) -> None:
        self.port = harness.free_port()
        configuration = folder / "prometheus.yml"
        configuration.write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
                    "scrape_configs": [
                        {"job_name": "pangolin", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
                    ],
                }
            )
        )
        self.log = open(folder / "prometheus.log", "w+")  # noqa: SIM115 (closed in stop)
        self.process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={configuration}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        url = f"http://127.0.0.1:{self.port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(url, timeout=10) as answer:
            result = json.load(answer)["data"]["result"]
        return [(sample["metric"], float(sample["value"][1])) for sample in result]

    def value(self, expression: str) -> float | None:
        result = self.query(expression)
        assert len(result) <= 1, f"{expression} is {len(result)} series"
        return result[0][1] if result else None

    def targets(self) -> list[dict]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/targets", timeout=10) as answer:
            return json.load(answer)["data"]["activeTargets"]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


@contextlib.contextmanager
def prometheus(folder: Path, target: int) -> Iterator[Prometheus]:
    running = Prometheus(folder, target)
    try:
        yield running
    finally:
        running.stop()


def send_steadily(sender: End, receiver: End) -> None:
    """UDP at a known rate, by the clock: a late datagram is followed by its successors at once."""
    with receiver.socket(socket.SOCK_DGRAM) as inbox, sender.socket(socket.SOCK_DGRAM) as outbox:
        inbox.bind((receiver.address, 0))
        outbox.bind((sender.address, 0))
        begin = time.monotonic()
        for number in range(SECONDS * DATAGRAMS_PER_SECOND):
            time.sleep(max(0.0, begin + number / DATAGRAMS_PER_SECOND - time.monotonic()))
            outbox.sendto(bytes(PAYLOAD), inbox.getsockname())
            inbox.recv(PAYLOAD)


class ScrapedByPrometheus(harness.LabTest):
    @unittest.skipUnless(shutil.which("prometheus"), "needs prometheus")
    def test_rates(self) -> None:
        with (
            stage(2, "pw") as (world, _accounts, exporter),
            prometheus(exporter.folder, exporter.port) as server,
        ):
            harness.wait_for("prometheus scrapes", lambda: server.value('up{job="pangolin"}') == 1)
            site = world.sites[0]
            send_steadily(site_end(site), host_end(world))
            self.check_rate(server, site.nice_id)
            self.check_target(server)

    def check_rate(self, server: Prometheus, site_id: str) -> None:
        series = f'{{site_id="{site_id}",direction="ingress",protocol="udp"}}'
        rate = server.value(f"rate(pangolin_site_bandwidth_bytes_total{series}[15s])")
        self.assertIsNotNone(rate)
        self.assertAlmostEqual(rate / BYTES_PER_SECOND, 1, delta=0.1)
        size = server.value(
            f"increase(pangolin_site_bandwidth_bytes_total{series}[15s])"
            f" / increase(pangolin_site_packets_total{series}[15s])"
        )
        self.assertAlmostEqual(size, PAYLOAD + IP_AND_UDP_HEADERS, delta=1)
        joined = server.query(
            f"pangolin_site_bandwidth_bytes_total{series} * on (site_id) group_left (name) pangolin_site_info"
        )
        self.assertEqual(len(joined), 1)
        self.assertTrue(joined[0][0]["name"])

    def check_target(self, server: Prometheus) -> None:
        (target,) = server.targets()
        self.assertEqual((target["health"], target["lastError"]), ("up", ""))
        self.assertEqual(server.value('min_over_time(up{job="pangolin"}[15s])'), 1)
        self.assertEqual(server.query("resets(pangolin_site_bandwidth_bytes_total[15s]) > 0"), [])
        self.assertEqual(server.value('count(pangolin_tunnel_up{transport="wireguard"} == 1)'), 2)
        types = {sample["type"] for sample in self.metadata(server)}
        self.assertEqual(types, {"counter"})

    @staticmethod
    def metadata(server: Prometheus) -> list[dict]:
        url = f"http://127.0.0.1:{server.port}/api/v1/metadata?" + urllib.parse.urlencode(
            {"metric": "pangolin_site_bandwidth_bytes"}
        )
        with urllib.request.urlopen(url, timeout=10) as answer:
            data = json.load(answer)["data"]
        return data["pangolin_site_bandwidth_bytes"]


if __name__ == "__main__":
    harness.main()
