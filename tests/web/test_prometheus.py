#!/usr/bin/env python3
"""A real Prometheus scrapes the exporter beside a lab world, and computes the right rates.

    sudo python3 tests/web/test_prometheus.py [--exporter build/pangolin_exporter]
"""

from __future__ import annotations

import shutil
import socket
import sys
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))

import harness  # noqa: E402
from accounts import host_end, site_end, stage  # noqa: E402
from prometheus_server import Prometheus  # noqa: E402
from traffic import End  # noqa: E402

IP_AND_UDP_HEADERS = 28
PAYLOAD = 972
DATAGRAMS_PER_SECOND = 50
SECONDS = 25
BYTES_PER_SECOND = DATAGRAMS_PER_SECOND * (PAYLOAD + IP_AND_UDP_HEADERS)


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
            Prometheus(exporter.folder, [f"127.0.0.1:{exporter.port}"]) as server,
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
        metadata = server.get("metadata", metric="pangolin_site_bandwidth_bytes")["pangolin_site_bandwidth_bytes"]
        types = {sample["type"] for sample in metadata}
        self.assertEqual(types, {"counter"})


if __name__ == "__main__":
    harness.main()
