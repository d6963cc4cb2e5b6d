#!/usr/bin/env python3
"""Traefik polls a server of Pangolin's shape for its configuration: what the exporter says of it, what Traefik says of
itself, and what the server has in its log."""

from __future__ import annotations

import harness
from all_metrics_world import PangolinProvider
from harness import wait_for
from lab.traefik import API_PORT, Traefik
from lab.web_client import samples
from pangolin_world import PangolinTest

POLLS = "/api/v1/traefik-config"


def configuration(name: str) -> dict:
    return {
        "http": {
            "routers": {"1-shop-router": {"rule": f"Host(`{name}.example.com`)", "service": "1-shop-service"}},
            "services": {"1-shop-service": {"loadBalancer": {"servers": [{"url": "http://127.0.0.1:9"}]}}},
        }
    }


class Provider(PangolinTest):
    tag = "provider"

    def polls(self) -> list[dict]:
        return [each for each in self.server.log()["exchanges"] if each["path"] == POLLS]

    def answered(self, status: int) -> int:
        return sum(each["status"] == status for each in self.polls())

    def reloads(self) -> float:
        """Of Traefik, by itself."""
        page = self.traefik.get(API_PORT, "/metrics").body.decode()
        return sum(value for _, value in samples(page, "traefik_config_reloads_total"))

    def rule(self) -> str:
        return self.traefik.api("/api/rawdata")["routers"].get("1-shop-router@http", {}).get("rule", "")

    def apply(self, name: str) -> None:
        self.traefik.provider.configuration = configuration(name)
        wait_for("Traefik goes by it", lambda: name in self.rule())

    def test_polls_and_changes(self) -> None:
        exporter = self.start_exporter()
        self.traefik = Traefik(self.host, poll="300ms", provider=PangolinProvider(self.server))
        self.stack.callback(self.traefik.stop)
        self.traefik.provider.configuration = configuration("aaa")
        self.traefik.start()
        wait_for("Traefik goes by it", lambda: "aaa" in self.rule())
        before = self.reloads()
        # The second one is as long as the first.
        for name in ("bbb", "longer", "aaa"):
            self.apply(name)
        changes = self.reloads() - before
        self.assertEqual(changes, 3)

        self.server.answer_traefik(500)
        wait_for("Traefik is refused", lambda: self.answered(500) >= 2)
        self.server.answer_traefik(0)
        wait_for("Traefik is left waiting", lambda: self.server.log()["unanswered"] >= 1, timeout=60)
        self.server.answer_traefik(200)
        good = self.answered(200)
        wait_for("Traefik has its answers again", lambda: self.answered(200) > good + 2, timeout=60)
        self.traefik.stop()

        count = self.answered(200)
        wait_for(
            "each poll is counted",
            lambda: exporter.scrape().value("pangolin_traefik_provider_sync_seconds_count") == count,
            timeout=10,
        )
        found = exporter.scrape()
        self.assertEqual(found.value("pangolin_config_reloads_total", result="success"), changes)
        failures = {"http_5xx": self.answered(500), "timeout": self.server.log()["unanswered"]}
        for kind, number in failures.items():
            self.assertEqual(found.value("pangolin_traefik_provider_errors_total", error_type=kind), number, kind)
        self.assertEqual(
            found.value("pangolin_background_jobs_total", job_type="provider_sync", status="failure"),
            sum(failures.values()),
        )
        self.assertEqual(
            found.value("pangolin_background_jobs_total", job_type="provider_sync", status="success"), count
        )
        seconds = sum(each["seconds"] for each in self.polls() if each["status"] == 200)
        self.assertAlmostEqual(
            found.value("pangolin_traefik_provider_sync_seconds_sum"), seconds, delta=0.01 * count * harness.SLOWNESS
        )
        # What Traefik's own log says of polls that failed.
        self.assertGreaterEqual(self.traefik.log().count("Provider error"), 1)


if __name__ == "__main__":
    harness.main()
