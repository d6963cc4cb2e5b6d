#!/usr/bin/env python3
"""The exporter scrapes a real Prometheus that only its own network namespace reaches.

sudo python3 tests/web/test_scrape.py [--exporter build/pangolin_exporter]
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))

import exposition  # noqa: E402
import harness  # noqa: E402

NAMESPACE = "pangolin_exporter-scrape"
PORT = 3004


@contextlib.contextmanager
def namespace() -> Iterator[None]:
    subprocess.run(["ip", "netns", "add", NAMESPACE], check=True)
    try:
        subprocess.run(["ip", "-n", NAMESPACE, "link", "set", "lo", "up"], check=True)
        yield
    finally:
        subprocess.run(["ip", "netns", "del", NAMESPACE], check=True)


@contextlib.contextmanager
def prometheus(folder: Path) -> Iterator[subprocess.Popen]:
    """It has nothing to do but to serve its own metrics."""
    configuration = folder / "prometheus.yml"
    configuration.write_text(json.dumps({"global": {"scrape_interval": "1h"}}))
    with open(folder / "prometheus.log", "w") as log:
        process = subprocess.Popen(
            [
                *("ip", "netns", "exec", NAMESPACE, "prometheus"),
                f"--config.file={configuration}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{PORT}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def own_page() -> str:
    """What it says to somebody in its namespace."""
    program = (
        "import urllib.request as r; o = r.build_opener(r.ProxyHandler({}));"
        f"print(o.open('http://127.0.0.1:{PORT}/metrics', timeout=5).read().decode(), end='')"
    )
    command = ["ip", "netns", "exec", NAMESPACE, sys.executable, "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


class Scrape(harness.LabTest):
    def test_a_program_in_another_namespace(self):
        source = {"source": "scrape:prometheus"}
        target = {
            "name": "prometheus",
            "url": f"http://127.0.0.1:{PORT}/metrics",
            "netns": NAMESPACE,
            "interval": "1s",
            "labels": ["program=prometheus"],
        }
        metrics = {"application": {"otlp": {"enabled": False}, "scrape": [target]}}
        with tempfile.TemporaryDirectory(prefix="pangolin_exporter-test-") as name, namespace():
            with prometheus(Path(name)) as process, harness.Exporter(metrics) as exporter:

                def up() -> float | None:
                    return exporter.scrape().value("pangolin_exporter_source_up", **source)

                harness.wait_for("Prometheus is scraped", lambda: up() == 1, 60)
                theirs = exposition.parse(own_page())
                families = {name for name in theirs.types if not name.startswith("process_")}
                self.assertGreater(len(families), 100)
                harness.wait_for("all families are there", lambda: families <= set(exporter.scrape().types))
                ours = exporter.scrape()
                self.compare(families, theirs, ours)

                process.kill()
                harness.wait_for("its end is seen", lambda: up() == 0)
                left = exporter.scrape()
                self.assertEqual(left.value("process_start_time_seconds"), ours.value("process_start_time_seconds"))
                self.assertEqual(left.value("prometheus_ready", program="prometheus"), 1)  # still young

    def compare(self, families: set[str], theirs: exposition.Samples, ours: exposition.Samples) -> None:
        for name in families:
            # A counter and a gauge of one name cannot both be typed.
            theirs_type = "untyped" if name == "go_memstats_alloc_bytes_total" else theirs.types[name]
            self.assertEqual(ours.types[name], theirs_type, name)
        # These do not change while nothing happens.
        compared = 0
        for (series, labels), value in theirs.values.items():
            if series.startswith(("prometheus_build_info", "prometheus_config_", "prometheus_tsdb_head_max_time_seconds")):
                self.assertEqual(ours.values.get((series, labels | {("program", "prometheus")})), value, series)
                compared += 1
        self.assertGreaterEqual(compared, 3)
        # They are the exporter's own, and its values.
        self.assertEqual(len(list(ours.select("process_start_time_seconds"))), 1)
        rejected = ours.value("pangolin_exporter_application_samples_rejected_total", reason="owned_by_exporter")
        self.assertGreaterEqual(rejected, 5)


if __name__ == "__main__":
    harness.main()
