#!/usr/bin/env python3
"""The exporter scrapes a real Prometheus, and a real Traefik where scripts/traefik has built one, which only their own
network namespace reaches. Both are Go programs, as gerbil is: they have dozens of families in common.

sudo python3 tests/web/test_scrape.py [--exporter build/pangolin_exporter]
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))

import exposition  # noqa: E402
import harness  # noqa: E402
from lab.traefik import built_traefik  # noqa: E402  (harness has added scripts/ to the path)

NAMESPACE = "pangolin_exporter-scrape"
PORT = 3004  # gerbil's
TRAEFIK_PORT = 8080


@contextlib.contextmanager
def namespace() -> Iterator[None]:
    subprocess.run(["ip", "netns", "add", NAMESPACE], check=True)
    try:
        subprocess.run(["ip", "-n", NAMESPACE, "link", "set", "lo", "up"], check=True)
        yield
    finally:
        subprocess.run(["ip", "netns", "del", NAMESPACE], check=True)


@contextlib.contextmanager
def in_namespace(log: Path, *command: str) -> Iterator[subprocess.Popen]:
    with open(log, "w") as output:
        process = subprocess.Popen(
            ["ip", "netns", "exec", NAMESPACE, *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def prometheus(folder: Path) -> contextlib.AbstractContextManager[subprocess.Popen]:
    """It has nothing to do but to serve its own metrics."""
    configuration = folder / "prometheus.yml"
    configuration.write_text(json.dumps({"global": {"scrape_interval": "1h"}}))
    return in_namespace(
        folder / "prometheus.log",
        "prometheus",
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{PORT}",
    )


def traefik(folder: Path, program: str) -> contextlib.AbstractContextManager[subprocess.Popen]:
    """As Pangolin's installer sets it up, with metrics."""
    static = {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "api": {"insecure": True},
        "entryPoints": {"web": {"address": ":80"}},
        "metrics": {"prometheus": {"addEntryPointsLabels": True, "addServicesLabels": True}},
    }
    configuration = folder / "traefik.yml"
    configuration.write_text(json.dumps(static))
    return in_namespace(folder / "traefik.log", program, f"--configFile={configuration}")


def own_page(port: int = PORT) -> str:
    """What it says to somebody in its namespace."""
    program = (
        "import urllib.request as r; o = r.build_opener(r.ProxyHandler({}));"
        f"print(o.open('http://127.0.0.1:{port}/metrics', timeout=5).read().decode(), end='')"
    )
    command = ["ip", "netns", "exec", NAMESPACE, sys.executable, "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


def ask_traefik() -> None:
    """It knows no such host and answers 404."""
    program = (
        "import http.client as h; c = h.HTTPConnection('127.0.0.1', 80, timeout=5); c.request('GET', '/');"
        "assert c.getresponse().status == 404"
    )
    subprocess.run(["ip", "netns", "exec", NAMESPACE, sys.executable, "-c", program], check=True, timeout=20)


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

    def test_a_real_traefik_beside_another_program(self):
        """One TYPE and HELP a family, which the parser insists on, and the series of both."""
        program = built_traefik()
        if program is None:
            print("    no Traefik has been built: nothing to scrape", flush=True)
            return

        def target(name: str, port: int) -> dict:
            return {
                "name": name,
                "url": f"http://127.0.0.1:{port}/metrics",
                "netns": NAMESPACE,
                "interval": "1s",
                "labels": [f"program={name}"],
            }

        targets = [target("gerbil", PORT), target("traefik", TRAEFIK_PORT)]
        metrics = {"application": {"otlp": {"enabled": False}, "scrape": targets}}
        with tempfile.TemporaryDirectory(prefix="pangolin_exporter-test-") as name, namespace():
            with (
                prometheus(Path(name)),
                traefik(Path(name), program) as process,
                harness.Exporter(metrics) as exporter,
            ):

                def up(source: str) -> float | None:
                    return exporter.scrape().value("pangolin_exporter_source_up", source=f"scrape:{source}")

                harness.wait_for("both are scraped", lambda: up("gerbil") == 1 and up("traefik") == 1, 60)
                for _ in range(5):
                    ask_traefik()
                counts = "traefik_entrypoint_requests_total"
                theirs = exposition.parse(own_page(TRAEFIK_PORT))
                self.assertEqual(theirs.total(counts, entrypoint="web"), 5)
                harness.wait_for(
                    "Traefik's requests are there", lambda: exporter.scrape().total(counts, entrypoint="web") == 5
                )
                ours = exporter.scrape()
                common = set(theirs.types) & set(exposition.parse(own_page()).types)
                common = {name for name in common if not name.startswith("process_")}
                self.assertGreater(len(common), 20, "two Go programs")
                for family, kind in theirs.types.items():
                    if family.startswith("process_"):
                        continue
                    # A counter and a gauge of one name cannot both be typed.
                    expected = "untyped" if family == "go_memstats_alloc_bytes_total" else kind
                    self.assertEqual(ours.types.get(family), expected, family)
                for (series, labels), value in theirs.values.items():
                    if series.startswith(("traefik_config_reloads_total", counts, "go_info")):
                        self.assertEqual(ours.values.get((series, labels | {("program", "traefik")})), value, series)
                for program_name in ("gerbil", "traefik"):
                    self.assertEqual(len(list(ours.select("go_goroutines", program=program_name))), 1)
                self.assertEqual(
                    ours.value("pangolin_exporter_application_samples_rejected_total", reason="duplicate_series"), 0
                )

                process.kill()
                harness.wait_for("its end is seen", lambda: up("traefik") == 0)
                self.assertEqual(up("gerbil"), 1)

    def test_an_end_that_does_not_wait_for_name_servers(self):
        """One that takes questions and gives no answers; the library asks it again for 10 s and more."""
        servers = re.findall(r"^nameserver\s+(\S+\.\S+)", Path("/etc/resolv.conf").read_text(), re.MULTILINE)
        names = {"name": "slow", "url": "http://slow.example:3004/metrics", "netns": NAMESPACE, "interval": "1s"}
        address = {"name": "prometheus", "url": f"http://127.0.0.1:{PORT}/metrics", "netns": NAMESPACE, "interval": "1s"}
        metrics = {"application": {"otlp": {"enabled": False}, "scrape": [names, address]}}
        silent = (
            "import socket, sys, time\n"
            "made = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in sys.argv[1:]]\n"
            "for each, address in zip(made, sys.argv[1:]): each.bind((address, 53))\n"
            "print('ready', flush=True)\n"
            "time.sleep(60)"
        )
        with tempfile.TemporaryDirectory(prefix="pangolin_exporter-test-") as name, namespace(), contextlib.ExitStack() as stack:
            for server in servers:
                subprocess.run(["ip", "-n", NAMESPACE, "address", "replace", f"{server}/32", "dev", "lo"], check=True)
            listener = subprocess.Popen(
                ["ip", "netns", "exec", NAMESPACE, sys.executable, "-c", silent, *servers], stdout=subprocess.PIPE, text=True
            )
            stack.callback(listener.stdout.close)
            stack.callback(listener.wait)
            stack.callback(listener.kill)
            self.assertEqual(listener.stdout.readline(), "ready\n")
            stack.enter_context(prometheus(Path(name)))
            exporter = stack.enter_context(harness.Exporter(metrics))

            def up(source: str) -> float | None:
                return exporter.scrape().value("pangolin_exporter_source_up", source=f"scrape:{source}")

            harness.wait_for("the other one is scraped", lambda: up("prometheus") == 1, 60)
            harness.wait_for("the name is given up", lambda: up("slow") == 0, 60)
            time.sleep(0.5)  # it is looked up again
            begin = time.monotonic()
            exporter.stop()
            self.assertLess(time.monotonic() - begin, 2 * harness.SLOWNESS)

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
