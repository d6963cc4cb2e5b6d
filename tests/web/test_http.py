#!/usr/bin/env python3
"""The web endpoint of the running exporter: what it serves, and that no client can harm it.

    sudo python3 tests/web/test_http.py [--exporter build/pangolin_exporter]
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))

import exposition  # noqa: E402
import harness  # noqa: E402
import readings  # noqa: E402
from http_client import connect, exchange, get, receive_all, reset, status_of  # noqa: E402

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS_ACCEPTS = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
GET_HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
GET_METRICS = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


class WebTest(harness.LabTest):
    exporter: harness.Exporter
    port: int

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        # Interfaces of that name only: whatever WireGuard this host has is left alone.
        settings = {"wireguard": {"netns": "host", "interfaces": ["pangolinweb0"]}}
        cls.exporter = cls.enterClassContext(harness.Exporter(settings))
        cls.exporter.wait_alive()
        cls.port = cls.exporter.port

    def process(self, name: str) -> float:
        return self.exporter.scrape().value(f"process_{name}")


class Served(WebTest):
    def test_formats(self) -> None:
        for accept, expected in (
            ("*/*", TEXT),
            ("text/plain", TEXT),
            (PROMETHEUS_ACCEPTS, OPEN_METRICS),
            ("application/openmetrics-text;q=0.1,text/plain;q=0.2", TEXT),
        ):
            with self.subTest(accept=accept):
                status, headers, body = get(self.port, "/metrics", Accept=accept)
                self.assertEqual((status, headers["content-type"]), (200, expected))
                self.assertEqual(body.endswith(b"# EOF\n"), expected == OPEN_METRICS)
                self.assertIn(b"\npangolin_exporter_build_info{", body)

    def test_text_is_strictly_well_formed(self) -> None:
        samples = exposition.parse(get(self.port, "/metrics")[2].decode())
        self.assertEqual(samples.types["pangolin_exporter_source_up"], "gauge")

    @harness.unittest.skipUnless(shutil.which("promtool"), "needs promtool")
    def test_promtool_finds_nothing_to_say(self) -> None:
        text = get(self.port, "/metrics")[2]
        check = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=60)
        self.assertEqual((check.returncode, check.stdout, check.stderr), (0, b"", b""))

    def test_gzip_holds_the_same_series(self) -> None:
        plain = exposition.parse(get(self.port, "/metrics")[2].decode())
        status, headers, packed = get(self.port, "/metrics", Accept_Encoding="deflate, gzip;q=0.5")
        self.assertEqual((status, headers["content-encoding"]), (200, "gzip"))
        unpacked = exposition.parse(gzip.decompress(packed).decode())
        self.assertEqual(plain.types, unpacked.types)
        self.assertEqual(set(plain.values), set(unpacked.values))
        for refusal in ("identity", "gzip;q=0", "*;q=0"):
            self.assertNotIn("content-encoding", get(self.port, "/metrics", Accept_Encoding=refusal)[1])

    def test_pages(self) -> None:
        status, headers, page = get(self.port, "/")
        self.assertEqual((status, headers["content-type"]), (200, "text/html; charset=utf-8"))
        for link in ('href="/metrics"', 'href="/healthz"', 'href="/readyz"'):
            self.assertIn(link, page.decode())
        self.assertNotIn("<script", page.decode())
        self.assertEqual(get(self.port, "/healthz")[::2], (200, b"ok\n"))
        self.assertIn(get(self.port, "/readyz")[0], (200, 503))
        self.assertEqual(get(self.port, "/favicon.ico")[0], 404)
        self.assertNotIn("server", headers)
        self.assertEqual(headers["cache-control"], "no-store")

    def test_only_get_and_head(self) -> None:
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
            status, headers, _ = get(self.port, "/metrics", method)
            self.assertEqual((status, headers.get("allow")), (405, "GET, HEAD"), method)
        for path in ("/", "/metrics", "/healthz"):
            status, _, body = get(self.port, path, "HEAD")
            self.assertEqual((status, body), (200, b""))

    def test_http_1_0(self) -> None:
        answer = exchange(self.port, b"GET /metrics HTTP/1.0\r\n\r\n")
        header, _, body = answer.partition(b"\r\n\r\n")
        self.assertNotIn(b"Transfer-Encoding", header)
        exposition.parse(body.decode())

    def test_responses_are_counted(self) -> None:
        def count() -> float:
            labels = {"handler": "other", "code": "404"}
            return self.exporter.scrape().value("pangolin_exporter_http_responses_total", **labels) or 0

        before = count()
        for path in ("/a", "/b", "/metrics/../x"):
            get(self.port, path)
        self.assertEqual(count(), before + 3)


# Seconds that a good scrape may take whatever others do.
QUICK = 0.2


class Hostile(WebTest):
    idle_descriptors: float

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        harness.wait_for(
            "all programs are loaded", lambda: readings.feature_enabled(cls.exporter.scrape(), "http"), timeout=60
        )
        cls.idle_descriptors = cls.exporter.scrape().value("process_open_fds")

    def setUp(self) -> None:
        self.random = random.Random(4711)

    def tearDown(self) -> None:
        """Whatever was done to it: it lives, answers at once, and holds nothing of it."""
        begin = time.monotonic()
        self.assertEqual(get(self.port, "/healthz")[0], 200)
        self.assertLess(time.monotonic() - begin, 2 * harness.SLOWNESS)
        most = self.idle_descriptors + 5
        harness.wait_for("no descriptors are left", lambda: self.process("open_fds") <= most, 20)
        self.assertLess(self.process("resident_memory_bytes"), (96 << 20) * harness.HEAVINESS)

    def test_garbage(self) -> None:
        for _ in range(200):
            junk = self.random.randbytes(self.random.randrange(1, 3000))
            self.assertIn(status_of(exchange(self.port, junk)), (None, 400, 431, 505))

    def test_damaged_requests(self) -> None:
        whole = b"GET /metrics?x=y HTTP/1.1\r\nHost: a\r\nAccept: text/plain;q=0.5\r\nAccept-Encoding: gzip\r\n\r\n"
        for _ in range(300):
            damaged = bytearray(whole)
            for _ in range(self.random.randrange(1, 4)):
                damaged[self.random.randrange(len(damaged))] = self.random.randrange(256)
            answer = exchange(self.port, bytes(damaged[: self.random.randrange(len(damaged) + 1)]))
            self.assertIn(status_of(answer), (None, 200, 400, 404, 405, 413, 431, 503, 505))

    def test_large_headers(self) -> None:
        for request in (
            b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"x" * 1_000_000 + b"\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
            b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nAccept: " + b"a/b;q=0.1," * 1500 + b"\r\n\r\n",
        ):
            # A client that goes on sending may be reset before it reads the answer.
            self.assertIn(status_of(exchange(self.port, request)), (None, 200, 431))

    def test_bodies(self) -> None:
        for header in (b"Content-Length: 1000000000", b"Transfer-Encoding: chunked", b"Content-Length: -1"):
            request = b"GET / HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n" + b"x" * 10_000
            self.assertIn(status_of(exchange(self.port, request, half_close=False)), (400, 413))

    def test_pipelining(self) -> None:
        answers = exchange(self.port, (GET_HEALTH * 20 + GET_METRICS) * 20)
        self.assertEqual(answers.count(b"HTTP/1.1 200 OK\r\n"), 420)

    def test_requests_in_small_pieces(self) -> None:
        with connect(self.port) as connection:
            for byte in GET_HEALTH:
                connection.sendall(bytes([byte]))
            connection.settimeout(5)
            self.assertEqual(status_of(connection.recv(4096)), 200)

    def test_half_closed(self) -> None:
        answer = exchange(self.port, GET_METRICS)
        self.assertEqual(status_of(answer), 200)
        self.assertTrue(answer.endswith(b"\r\n0\r\n\r\n"))

    def test_slow_headers(self) -> None:
        """Slowloris: each client keeps sending a little and never comes to an end."""
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(self.port)) for _ in range(50)]
            deadline = time.monotonic() + 20 * harness.SLOWNESS
            while clients and time.monotonic() < deadline:
                for client in list(clients):
                    try:
                        client.sendall(b"X")
                    except OSError:
                        clients.remove(client)
                begin = time.monotonic()
                self.assertEqual(get(self.port, "/healthz")[0], 200)
                self.assertLess(time.monotonic() - begin, 2 * harness.SLOWNESS)
                time.sleep(0.5)
            self.assertEqual(clients, [])

    def test_resets(self) -> None:
        for _ in range(300):
            connection = connect(self.port)
            connection.sendall(self.random.choice([b"", b"GET /", GET_METRICS, GET_METRICS * 50]))
            reset(connection)

    def test_clients_that_do_not_read(self) -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(30):
                stack.enter_context(connect(self.port)).sendall(GET_METRICS * 200)
            time.sleep(1)
            self.assertEqual(get(self.port, "/healthz")[0], 200)

    def test_more_connections_than_it_takes(self) -> None:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(self.port)) for _ in range(512)]
            clients[-1].sendall(GET_HEALTH)
            answer = b""
            while not answer.endswith(b"ok\n"):
                answer += clients[-1].recv(4096)
            self.assertEqual(status_of(answer), 200)
            # Who has an answer makes room at once, who says nothing after a second.
            self.assertEqual(get(self.port, "/healthz")[0], 200)
            self.assertEqual(clients[-1].recv(4096), b"")
            extra = stack.enter_context(connect(self.port))
            extra.sendall(b"GET /")
            extra = stack.enter_context(connect(self.port))
            self.assertEqual(status_of(receive_all(extra)), 503)
            time.sleep(1)
            for _ in range(5):
                self.assertLess(self.scrape_time(), QUICK * harness.SLOWNESS)

    def scrape_time(self) -> float:
        """Of a client that comes again when it is told to, or cut off."""
        begin = time.monotonic()
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                status = get(self.port, "/metrics")[0]
                if status == 200:
                    return time.monotonic() - begin
                self.assertEqual(status, 503)
            self.assertLess(time.monotonic() - begin, 10 * harness.SLOWNESS)
            time.sleep(0.02)

    def test_a_thousand_scrapes_at_once(self) -> None:
        """Of so many some are told to come again; who does is served in time."""
        with contextlib.ExitStack() as stack:
            for _ in range(1000):
                with contextlib.suppress(OSError):
                    stack.enter_context(connect(self.port)).sendall(GET_METRICS)
            times = [self.scrape_time() for _ in range(10)]
        self.assertLess(min(times), QUICK * harness.SLOWNESS)
        print(f"scrapes while a thousand wait: {min(times) * 1000:.0f} to {max(times) * 1000:.0f} ms")


if __name__ == "__main__":
    harness.main()
