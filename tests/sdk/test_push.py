#!/usr/bin/env python3
"""OpenTelemetry's own SDKs, and the TypeScript module, push to the exporter.

sudo python3 tests/sdk/test_push.py [--exporter build/pangolin_exporter]
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import unittest
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))

import harness  # noqa: E402
import sdks  # noqa: E402

COUNT = 50_000


@dataclass
class Client:
    """One process with an SDK that records COUNT times and pushes whenever it is told to."""

    language: str
    protocol: str
    temporality: str

    @property
    def name(self) -> str:
        return f"{self.language}-{self.protocol}-{self.temporality}"

    def start(self, installed: Path, folder: Path, url: str) -> None:
        if self.language == "node":
            program = ["node", folder / "push.mjs"]
        else:
            program = [installed / "python/bin/python3", folder / "push.py"]
        self.process = subprocess.Popen(
            [*program, url, self.protocol, self.temporality, self.name, str(COUNT)],
            env=sdks.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def go(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def wait_until_pushed(self, test: unittest.TestCase) -> None:
        test.assertEqual(self.process.stdout.readline(), "pushed\n", self.name)

    def stop(self) -> None:
        if self.process.stdin.closed:
            return
        self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        finally:
            self.process.kill()
            self.process.stdout.close()


def pushing_exporter(prefer: list[str] | None = None, token_file: Path | None = None) -> harness.Exporter:
    port = harness.free_port()
    otlp = {"listen": f"127.0.0.1:{port}"} | ({"token_file": str(token_file)} if token_file else {})
    exporter = harness.Exporter({"application": {"otlp": otlp, "prefer": prefer or []}})
    exporter.otlp = f"http://127.0.0.1:{port}"
    return exporter


class Sdks(harness.LabTest):
    CLIENTS = (
        Client("node", "protobuf", "cumulative"),
        Client("node", "protobuf", "delta"),
        Client("node", "json", "cumulative"),
        Client("node", "json", "delta"),
        Client("python", "protobuf", "cumulative"),
        Client("python", "protobuf", "delta"),
    )

    def check_counts(self, exporter: harness.Exporter, name: str, times: int) -> None:
        """What `times` rounds of COUNT recordings come to."""
        samples = exporter.scrape()
        for status in range(3):
            once = sum(i % 7 for i in range(status, COUNT, 3))
            value = samples.value("pangolin_background_jobs_total", job_type=name, status=f"status-{status}")
            self.assertEqual(value, times * once, f"{name} status-{status}")
        self.assertEqual(samples.value("sdk_test_requests_total", client=name), times * COUNT, name)
        self.assertEqual(samples.value("sdk_test_duration_seconds_count", client=name), times * COUNT, name)
        self.assertEqual(
            samples.value("sdk_test_duration_seconds_sum", client=name), times * COUNT / 8 * sum(range(8)) / 4, name
        )
        for bound, eighths in {"0.25": 2, "0.5": 3, "1": 5, "+Inf": 8}.items():
            bucket = samples.value("sdk_test_duration_seconds_bucket", client=name, le=bound)
            self.assertEqual(bucket, times * COUNT * eighths / 8, f"{name} {bound}")
        self.assertEqual(samples.value("pangolin_background_queue_depth", job_type=name), COUNT, name)

    def pending(self, exporter: harness.Exporter, name: str) -> float | None:
        return exporter.scrape().value("sdk_test_pending", client=name)

    def round(self) -> None:
        for client in self.CLIENTS:
            client.go()
        for client in self.CLIENTS:
            client.wait_until_pushed(self)

    def test_counts_are_equal_and_restarts_lose_what_they_must(self):
        """100,000 recordings each; then the exporter begins anew.

        Cumulative streams are right again with the next push. Of delta streams only what is pushed after the restart
        is known: the exporter keeps no state on disk.
        """
        installed = sdks.installed()
        with (
            tempfile.TemporaryDirectory(prefix="pangolin_exporter-test-") as name,
            pushing_exporter(["pangolin_background_jobs_total"]) as exporter,
        ):
            folder = Path(name)
            (folder / "node_modules").symlink_to(installed / "node_modules")
            for program in ("push.mjs", "push.py"):
                shutil.copy(Path(__file__).with_name(program), folder)
            exporter.wait_alive()
            for client in self.CLIENTS:
                client.start(installed, folder, exporter.otlp + "/v1/metrics")
                self.addCleanup(client.stop)
            for times in (1, 2):
                self.round()
                for client in self.CLIENTS:
                    self.check_counts(exporter, client.name, times)
                    # Always cumulative: it goes up and down.
                    self.assertEqual(self.pending(exporter, client.name), times * COUNT / 2, client.name)

            exporter.stop()
            exporter.start()
            exporter.wait_alive()
            self.round()
            for client in self.CLIENTS:
                self.check_counts(exporter, client.name, 3 if client.temporality == "cumulative" else 1)
                self.assertEqual(self.pending(exporter, client.name), 3 * COUNT / 2, client.name)
            self.assertEqual(exporter.scrape().total("pangolin_exporter_application_samples_rejected_total"), 0)
            for client in self.CLIENTS:
                client.stop()


class TypeScriptModule(harness.LabTest):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        folder = tempfile.TemporaryDirectory(prefix="pangolin_exporter-test-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.tests = sdks.build(sdks.installed(), cls.folder)

    def run_node(self, exporter: harness.Exporter, *arguments: object, **environment: str) -> str:
        result = subprocess.run(
            ["node", *map(str, arguments)],
            cwd=self.tests,
            env=sdks.environment(OTEL_EXPORTER_OTLP_ENDPOINT=exporter.otlp, **environment),
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return result.stdout

    def test_usage_examples(self):
        token = self.folder / "token"
        token.write_text("open sesame\n")
        token.chmod(0o600)
        prefer = [
            "pangolin_site_connection_drops_total",
            "pangolin_site_bandwidth_bytes_total",
            "pangolin_site_handshake_latency_seconds",
            "pangolin_site_online",
            "pangolin_resource_active_connections",
            "pangolin_ui_active_sessions",
        ]
        with pushing_exporter(prefer, token) as exporter:
            exporter.wait_alive()
            self.run_node(
                exporter, "examples.js", OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20open%20sesame"
            )
            samples = exporter.scrape()
            site = {"site_id": "s-abc"}
            expected = {
                ("pangolin_site_connection_drops_total", ()): 1,
                ("pangolin_site_bandwidth_bytes_total", (("direction", "egress"), ("protocol", "tcp"))): 4096,
                ("pangolin_site_handshake_latency_seconds_count", (("transport", "websocket"),)): 1,
                ("pangolin_site_online", (("transport", "websocket"),)): 1,
                ("pangolin_resource_active_connections", (("resource_id", "api"), ("protocol", "http/1.1"))): 12,
            }
            for (family, labels), value in expected.items():
                self.assertEqual(samples.value(family, **site, **dict(labels)), value, family)
            self.assertEqual(samples.value("pangolin_ui_active_sessions"), 5)

    def test_every_metric_arrives_with_the_catalogue_s_type_and_labels(self):
        catalogue = subprocess.run(
            [harness.exporter_path, "catalog", "--format", "json"], check=True, capture_output=True, text=True
        ).stdout
        (self.folder / "catalogue.json").write_text(catalogue)
        rows = {row["name"]: row for row in json.loads(catalogue)}
        with pushing_exporter([name for name, row in rows.items() if row["source"] != "S"]) as exporter:
            exporter.wait_alive()
            used = json.loads(self.run_node(exporter, "every_metric.js", self.folder / "catalogue.json"))
            self.assertEqual(len(used), 46)
            samples = exporter.scrape()
            for name in used:
                row = rows[name]
                self.assertEqual(samples.types.get(name), row["type"], name)
                suffix = "_count" if row["type"] == "histogram" else ""
                labels, value = next(samples.select(name + suffix, **{label: label for label in row["labels"]}))
                self.assertEqual(set(labels), set(row["labels"]), name)
                self.assertEqual(value, 3 if row["type"] == "counter" else 1, name)
            self.assertEqual(samples.total("pangolin_exporter_application_samples_rejected_total"), 0)


if __name__ == "__main__":
    harness.main()
