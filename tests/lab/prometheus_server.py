"""Debian's prometheus, with a scrape and evaluation interval of 1 s and its data in a folder of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import harness


class Refused(Exception):
    """What Prometheus says of a question that it cannot answer."""


class Prometheus:
    """Scrapes `targets`, each as host and port, as the job pangolin; without any it only answers questions."""

    def __init__(self, folder: Path, targets: Sequence[str] = (), rule_files: Sequence[Path] = ()) -> None:
        self.port = harness.free_port()
        configuration = folder / "prometheus.yml"
        configuration.write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
                    "rule_files": [str(path) for path in rule_files],
                    "scrape_configs": [
                        {"job_name": "pangolin", "static_configs": [{"targets": list(targets)}]}
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

    def __enter__(self) -> Prometheus:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def get(self, path: str, **parameters: str) -> Any:
        """The data of one of its API's answers."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?" + urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(json.load(error).get("error", str(error))) from None

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        return [
            (sample["metric"], float(sample["value"][1]))
            for sample in self.get("query", query=expression)["result"]
        ]

    def value(self, expression: str) -> float | None:
        result = self.query(expression)
        assert len(result) <= 1, f"{expression} is {len(result)} series"
        return result[0][1] if result else None

    def targets(self) -> list[dict]:
        return self.get("targets")["activeTargets"]

    def rules(self) -> list[dict]:
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def wait_ready(self) -> None:
        harness.wait_for("prometheus answers", lambda: self.value("vector(1)") == 1)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
