#!/usr/bin/env python3
"""A client that invents paths, methods, hosts and types of messages: Pangolin's ports see each of them once, and the
exporter counts all of them in the series and the memory that it has anyhow.

PANGOLIN_EXPORTER_LAB_REQUESTS   invented requests through Traefik (1000000)
"""

from __future__ import annotations

import base64
import contextlib
import os
import random
import socket
import struct
from collections import Counter

import harness
import http_books
from harness import Exporter, wait_for
from mix_world import MixWorld
from pangolin_server import EXTERNAL, INTEGRATION, INTERNAL, NEXT, Client, PangolinServer
from pangolin_world import PangolinTest

MILLION = int(os.environ.get("PANGOLIN_EXPORTER_LAB_REQUESTS", 1_000_000))
REQUESTS = 10_000
MESSAGES = 20_000
# Allocators keep some; ten thousand paths of a hundred bytes that were kept would be more than a megabyte.
GROWTH = 4 << 20

FAMILIES = (
    "pangolin_ui_requests_total",
    "pangolin_integration_api_requests_total",
    "pangolin_integration_api_duration_seconds_count",
    "pangolin_resource_requests_total",
    "pangolin_auth_requests_total",
    "pangolin_ws_messages_total",
    "pangolin_ws_connections_total",
)


class ForgedWebSocket:
    """A client's end of one, by hand: the types of its messages are what no library would send."""

    def __init__(self, server: PangolinServer, outside) -> None:
        self.socket = outside.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.settimeout(30)
        self.socket.connect((server.address, EXTERNAL))
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            "GET /api/v1/ws?token=good-forged&clientType=newt HTTP/1.1\r\n"
            f"Host: {server.address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.socket.recv(4096)
        assert answer.startswith(b"HTTP/1.1 101"), answer

    def send(self, texts: list[bytes]) -> None:
        frames = []
        for text in texts:
            mask = os.urandom(4)
            size = bytes([0x80 | len(text)]) if len(text) < 126 else b"\xfe" + struct.pack(">H", len(text))
            masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(text))
            frames.append(b"\x81" + size + mask + masked)
        self.socket.sendall(b"".join(frames))

    def close(self) -> None:
        self.socket.close()


def resident(exporter: Exporter) -> int:
    with open(f"/proc/{exporter.process.pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def series(exporter: Exporter) -> dict[str, int]:
    samples = exporter.scrape()
    return {family: sum(1 for _ in samples.select(family)) for family in FAMILIES}


class LabelAttack(PangolinTest):
    tag = "attack"

    def setUp(self) -> None:
        self.exporter = self.start_exporter()
        self.random = random.Random(7)

    def word(self) -> str:
        return "".join(self.random.choices("abcdefghijklmnopqrstuvwxyz0123456789-_", k=self.random.randint(1, 40)))

    def invent(self, requests: int) -> None:
        """Each request differs from all others, by what is seen of it."""
        prefixes = ("/", "/api/v1/", "/api/v1/site/", "/v1/org/", "/api/v1/auth/resource/", "/_next/")
        for port in (EXTERNAL, NEXT, INTEGRATION, INTERNAL):
            with contextlib.closing(Client(self.server, port, self.host)) as client:
                for number in range(requests // 4):
                    method = self.random.choice(("GET", "POST", "DELETE", "PURGE", "LINK", "MKCOL", "REPORT"))
                    path = self.random.choice(prefixes) + "/".join(self.word() for _ in range(3)) + f"/{number}"
                    headers = {"Host": f"{self.word()}.{number}.example.com", "x-answer": "404"}
                    client.connection.request(method, path, headers=headers)
                    response = client.connection.getresponse()
                    response.read()
                    self.assertEqual(response.status, 404)
                path = "/api/v1/badger/verify-session"
                for number in range(50 if port == INTERNAL else 0):
                    body = {"host": f"{self.word()}.{number}.example", "method": self.word().upper()}
                    client.ask("POST", path, body=body, valid="false")

    def forge(self, messages: int) -> None:
        with contextlib.closing(ForgedWebSocket(self.server, self.host)) as forged:
            for begin in range(0, messages, 100):
                forged.send(
                    [b'{"type":"newt/%s/%d"}' % (self.word().encode(), number) for number in range(begin, begin + 100)]
                )
            wait_for("the server has read all of it", lambda: self.arrived() >= messages, timeout=60)

    def arrived(self) -> int:
        return sum(count for name, count in self.server.log()["frames"].items() if name.startswith("ingress newt/"))

    def test_invented_labels(self) -> None:
        self.invent(400)
        self.forge(100)
        before, memory = series(self.exporter), resident(self.exporter)
        counted = self.exporter.scrape().total("pangolin_ui_requests_total")
        self.server.stop()
        self.server.start()
        wait_for("Pangolin is found again", lambda: self.exporter.log().count("observing Pangolin") == 2)
        self.invent(REQUESTS)
        self.forge(MESSAGES)

        def missing() -> float:
            """Beyond what the exporter itself says that it lost: a full ring on a busy machine."""
            samples = self.exporter.scrape()
            requests = samples.total("pangolin_ui_requests_total") - counted
            messages = samples.value("pangolin_ws_messages_total", direction="ingress", msg_type="other") - 100
            refused = samples.value(
                "pangolin_exporter_lost_updates_total", map="refused_requests", reason="unknown_resource"
            )
            lost = samples.value("pangolin_exporter_lost_updates_total", map="http_events", reason="full")
            self.assertLessEqual(requests, REQUESTS / 2)
            self.assertLessEqual(messages, MESSAGES)
            self.assertLessEqual(refused, 100)
            return REQUESTS / 2 + MESSAGES + 100 - requests - messages - refused - lost

        wait_for("each request and message is counted, or as lost", lambda: missing() <= 0)
        after = series(self.exporter)
        for family, number in after.items():
            # A route and method that chance did not find before.
            self.assertLessEqual(number, before[family] + 10, family)
        self.assertLess(resident(self.exporter) - memory, GROWTH)


class AttackedWorld(MixWorld):
    traefik_settings = None


class ThroughTraefik(harness.LabTest):
    """A million requests to a real Traefik: half of them reach a backend, which has them in its log."""

    def test_a_million_invented_requests(self) -> None:
        with AttackedWorld("million") as stage:
            database = stage.world.state.folder / "pangolin/db.sqlite"
            stage.plan.write_database(database)
            settings = {
                "wireguard": {"netns": stage.world.host.namespace.name},
                "metadata": {"sqlite": str(database), "refresh": "1s"},
            }
            with Exporter(settings, folder=database.parent) as exporter:
                exporter.wait_ready(60)
                stage.attack(stage.local_fast, 5000)
                self.settle(stage, exporter)
                before, memory = series(exporter), resident(exporter)
                load = stage.attack(stage.local_fast, MILLION)
                print(load, flush=True)
                self.assertGreaterEqual(load.requests, MILLION)
                methods = self.settle(stage, exporter)
                self.assertGreater(len(methods), MILLION // 20, "methods that the backend had")
                for family, number in series(exporter).items():
                    self.assertLessEqual(number, before[family] + 2, family)
                self.assertLess(resident(exporter) - memory, GROWTH)

    def settle(self, stage: MixWorld, exporter: Exporter) -> Counter:
        """Until every request that the backend has answered is counted, by the exporter's names of methods."""
        nginx = stage.nginxes[stage.local_fast.identity]

        def difference() -> dict:
            had = Counter((each.method, each.status) for each in nginx.exchanges())
            counted = http_books.of_exporter(exporter, stage.local_fast).requests
            expected = http_books.folded(had)
            return {key: (counted[key], count) for key, count in (counted | expected).items() if counted[key] != expected[key]}

        with contextlib.suppress(AssertionError):
            wait_for("all requests are counted", lambda: not difference(), every=2)
        self.assertEqual(difference(), {}, "counted, and had by the backend")
        return Counter(each.method for each in nginx.exchanges())


if __name__ == "__main__":
    harness.main()
