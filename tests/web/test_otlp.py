#!/usr/bin/env python3
"""The OTLP receiver of the running exporter: what is pushed appears, and no client can harm it or the endpoint.

    sudo python3 tests/web/test_otlp.py [--exporter build/pangolin_exporter]
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import itertools
import json
import resource
import socket
import statistics
import sys
import tempfile
import threading
import time
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))

import exposition  # noqa: E402
import harness  # noqa: E402
from http_client import connect, get, receive_all, status_of  # noqa: E402

JSON = "application/json"
REJECTED = "pangolin_exporter_application_samples_rejected_total"


# Measured by the exporter as well.
PREFERRED = ["pangolin_tunnel_up", "pangolin_ui_active_sessions", "pangolin_token_issued_total"]


def metric(name: str, kind: str, points: list[dict], **data: object) -> dict:
    return {"name": name, kind: {"dataPoints": points, **data}}


def body(*metrics: dict) -> bytes:
    return json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": list(metrics)}]}]}).encode()


def point(value: int, **labels: str) -> dict:
    return {"asInt": value, "attributes": [{"key": key, "value": {"stringValue": text}} for key, text in labels.items()]}


SESSIONS = body(metric("pangolin_ui_active_sessions", "gauge", [point(5)]))


class OtlpTest(harness.LabTest):
    exporter: harness.Exporter
    port: int
    otlp_port: int
    token = ""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.otlp_port = harness.free_port()
        settings = {
            "wireguard": {"netns": "host", "interfaces": ["pangolinweb0"]},
            "application": {"otlp": {"listen": f"127.0.0.1:{cls.otlp_port}"}, "prefer": PREFERRED},
            "limits": {"max_series": 20000},
        }
        cls.exporter = cls.enterClassContext(harness.Exporter(settings))
        cls.exporter.wait_alive()
        cls.port = cls.exporter.port

    def post(self, content: bytes, path: str = "/v1/metrics", **headers: str) -> tuple[int, dict[str, str], bytes]:
        client = http.client.HTTPConnection("127.0.0.1", self.otlp_port, timeout=30 * harness.SLOWNESS)
        with contextlib.closing(client):
            fields = {"Content-Type": JSON} | {name.replace("_", "-"): value for name, value in headers.items()}
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.request("POST", path, content, fields)
            answer = client.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def value(self, name: str, **labels: str) -> float | None:
        return self.exporter.scrape().value(name, **labels)


class Pushed(OtlpTest):
    def test_appears_with_the_type_of_the_catalogue(self) -> None:
        self.assertEqual(self.post(SESSIONS)[::2], (200, b"{}"))
        samples = self.exporter.scrape()
        self.assertEqual(samples.value("pangolin_ui_active_sessions"), 5)
        self.assertEqual(samples.types["pangolin_ui_active_sessions"], "gauge")
        self.assertEqual(samples.value("pangolin_exporter_feature_enabled", feature="otlp"), 1)
        self.assertEqual(self.post(gzip.compress(SESSIONS), Content_Encoding="gzip")[0], 200)

    def test_both_formats_stay_well_formed(self) -> None:
        self.post(body(metric("x", "gauge", [point(1, a='q"\n\\'), point(2, a="\u00e9")]),
                       metric("x", "sum", [point(3)], aggregationTemporality=2, isMonotonic=True),
                       metric("x.total", "sum", [point(4)], aggregationTemporality=2, isMonotonic=True)))
        text = get(self.port, "/metrics")[2].decode()
        samples = exposition.parse(text)
        self.assertEqual(samples.value("x", a="\u00e9"), 2)
        # In OpenMetrics the counter x_total would be the family x, which is a gauge.
        self.assertIsNone(samples.value("x_total"))
        self.assertGreaterEqual(samples.value(REJECTED, reason="name_collision"), 2)
        open_metrics = get(self.port, "/metrics", Accept="application/openmetrics-text;version=1.0.0")[2].decode()
        self.assertTrue(open_metrics.endswith("# EOF\n"))
        types = [line.split()[2] for line in open_metrics.splitlines() if line.startswith("# TYPE ")]
        self.assertEqual(len(types), len(set(types)))

    def test_owner_of_a_family(self) -> None:
        answer = json.loads(self.post(body(metric("pangolin_exporter_attachments", "gauge", [point(1, hook="a")])))[2])
        self.assertEqual(answer["partialSuccess"]["rejectedDataPoints"], "1")
        self.assertIn("owned_by_exporter", answer["partialSuccess"]["errorMessage"])
        # There is no WireGuard interface that the exporter could read: an application may say it.
        self.assertEqual(self.post(body(metric("pangolin_tunnel_bytes_total", "sum", [point(7, site_id="a")],
                                               aggregationTemporality=2, isMonotonic=True)))[2], b"{}")
        self.assertEqual(self.value("pangolin_tunnel_bytes_total", site_id="a"), 7)
        # Given away by the configuration.
        self.assertEqual(self.post(body(metric("pangolin_tunnel_up", "gauge",
                                               [point(1, site_id="a", transport="websocket")])))[2], b"{}")
        self.assertEqual(self.value("pangolin_tunnel_up", site_id="a", transport="websocket"), 1)

    def test_counts_of_both_temporalities(self) -> None:
        name = "pangolin_token_issued_total"
        for temporality, method, expected in ((1, "delta", 10), (2, "cumulative", 4)):
            for value in range(1, 5):
                start = value if temporality == 1 else 1
                self.post(body(metric(name, "sum", [point(value, auth_method=method) |
                                                    {"startTimeUnixNano": str(start), "timeUnixNano": str(value + 1)}],
                                      aggregationTemporality=temporality, isMonotonic=True)))
            self.assertEqual(self.value(name, auth_method=method), expected)

    def test_refusals(self) -> None:
        for expected, answer in (
            (400, self.post(b"{")),
            (400, self.post(b"text", Content_Type="application/x-protobuf")),
            (404, self.post(SESSIONS, "/v1/traces")),
            (415, self.post(SESSIONS, Content_Type="text/plain")),
            (415, self.post(SESSIONS, Content_Encoding="zstd")),
            (405, get(self.otlp_port, "/v1/metrics")),
        ):
            self.assertEqual(answer[0], expected)


class Hostile(OtlpTest):
    """While it lasts, /metrics answers within 100 ms. The median is held against that: this machine may be busy."""

    def setUp(self) -> None:
        self.post(SESSIONS)
        self.times: list[float] = []
        self.over = threading.Event()
        self.watcher = threading.Thread(target=self.watch)
        self.watcher.start()

    def watch(self) -> None:
        # One or two answers have no median: an attack that is over at once is watched a little longer.
        for tries in itertools.count():
            if self.over.is_set() and (len(self.times) >= 5 or tries > 50):
                return
            begin = time.monotonic()
            status = get(self.port, "/metrics", Accept_Encoding="gzip")[0]
            if status == 200:
                self.times.append(time.monotonic() - begin)
            time.sleep(0.05)

    def tearDown(self) -> None:
        self.over.set()
        self.watcher.join()
        median = statistics.median(self.times)
        print(f"/metrics: {len(self.times)} answers, median {median:.3f} s, slowest {max(self.times):.3f} s")
        self.assertLess(median, 0.1 * harness.SLOWNESS)
        self.assertLess(self.exporter.scrape().value("process_resident_memory_bytes"), (512 << 20) * harness.HEAVINESS)

    def test_body_of_a_gigabyte(self) -> None:
        begin = time.monotonic()
        self.assertEqual(self.declared(1 << 30), 413)
        # Not told beforehand: ended when the limit is passed.
        with connect(self.otlp_port) as connection:
            connection.sendall(b"POST /v1/metrics HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                               b"Transfer-Encoding: chunked\r\n\r\n")
            chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for _ in range(1024):
                    connection.sendall(chunk)
            self.assertIn(status_of(receive_all(connection)), (413, None))
        self.assertLess(time.monotonic() - begin, 10 * harness.SLOWNESS)

    def declared(self, length: int) -> int | None:
        with connect(self.otlp_port) as connection:
            connection.sendall(f"POST /v1/metrics HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\n"
                               f"Content-Length: {length}\r\n\r\n".encode())
            return status_of(connection.recv(4096))

    def test_gzip_bomb(self) -> None:
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        bomb = b"".join(packer.compress(b" " * (1 << 20)) for _ in range(1024)) + packer.flush()
        self.assertLess(len(bomb), 4 << 20)
        self.assertEqual(self.post(bomb, Content_Encoding="gzip")[0], 413)

    def test_a_million_label_sets(self) -> None:
        before = self.exporter.scrape()
        refused = 0
        for part in range(20):
            points = [point(1, number=f"{part}-{i}") for i in range(50_000)]
            content = gzip.compress(body(metric("flood", "gauge", points)), 1)
            status, _, text = self.post(content, Content_Encoding="gzip")
            self.assertEqual(status, 200)
            refused += int(json.loads(text).get("partialSuccess", {}).get("rejectedDataPoints", 0))
        self.assertGreaterEqual(refused, 980_000)
        after = self.exporter.scrape()
        self.assertLessEqual(after.value("pangolin_exporter_application_series"), 20_000)
        self.assertEqual(after.value(REJECTED, reason="series_limit") - before.value(REJECTED, reason="series_limit"),
                         refused)
        self.assertEqual(after.value("pangolin_exporter_series_limited_total", family="other"), refused)

    def test_messages_that_weigh_nothing(self) -> None:
        """Two bytes each on the wire."""
        points = b"\x0a\x00" * 2_000_000

        def field(number: int, content: bytes) -> bytes:
            length, size = len(content), b""
            while length >= 0x80:
                size += bytes([length & 0x7F | 0x80])
                length >>= 7
            return bytes([number << 3 | 2]) + size + bytes([length]) + content

        request = field(1, field(2, field(2, field(1, b"x") + field(5, points))))
        status, _, _ = self.post(gzip.compress(request), Content_Type="application/x-protobuf", Content_Encoding="gzip")
        self.assertEqual(status, 413)

    def test_ten_thousand_slow_connections(self) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 12_000), hard))
        header = b"POST /v1/metrics HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
        with contextlib.ExitStack() as stack:
            for number in range(10_000):
                connection = stack.enter_context(socket.socket())
                connection.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    connection.connect(("127.0.0.1", self.otlp_port))
                with contextlib.suppress(OSError):
                    connection.send(header if number % 2 else b"POST /v1")
            # The slow ones make room for whoever knows what to say.
            harness.wait_for("it takes metrics", lambda: self.accepts(), 5 * harness.SLOWNESS)
            samples = self.exporter.scrape()
            self.assertLess(samples.value("process_open_fds"), 400)
            self.assertGreater(samples.value("pangolin_exporter_otlp_connections_rejected_total"), 5000)
        self.assertTrue(self.accepts())

    def accepts(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.post(SESSIONS)[0] == 200
        return False


class Guarded(harness.LabTest):
    def test_token(self) -> None:
        with tempfile.TemporaryDirectory(prefix="pangolin_exporter-test-") as folder:
            token = Path(folder) / "token"
            token.write_text("secret\n")
            port = harness.free_port()
            settings = {
                "wireguard": {"netns": "host", "interfaces": ["pangolinweb0"]},
                "application": {"otlp": {"listen": f"127.0.0.1:{port}", "token_file": str(token)}},
            }
            with harness.Exporter(settings, folder=Path(folder)) as exporter:
                exporter.wait_alive()
                for header, expected in (
                    ({}, 401),
                    ({"Authorization": "Bearer wrong"}, 401),
                    ({"Authorization": "Bearer secret"}, 200),
                ):
                    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                    with contextlib.closing(client):
                        client.request("POST", "/v1/metrics", SESSIONS, {"Content-Type": JSON} | header)
                        self.assertEqual(client.getresponse().status, expected)
                self.assertNotIn("secret", exporter.log())

    def test_port_in_use(self) -> None:
        """The rest goes on, and says so."""
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            settings = {
                "wireguard": {"netns": "host", "interfaces": ["pangolinweb0"]},
                "application": {"otlp": {"listen": f"127.0.0.1:{port}"}},
            }
            with harness.Exporter(settings) as exporter:
                exporter.wait_alive()
                self.assertEqual(exporter.scrape().value("pangolin_exporter_feature_enabled", feature="otlp"), 0)
                self.assertRegex(exporter.log(), rf"port {port} .* is in use .*\(HINT: Choose another one")


if __name__ == "__main__":
    harness.main()
