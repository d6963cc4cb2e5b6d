#!/usr/bin/env python3
"""Requests by method and status as the exporter publishes them, against the visitor who made them, Traefik's own
metrics and nginx's log."""

from __future__ import annotations

import collections
import threading

import harness
from harness import wait_for
from lab.resources import Resource
from resource_world import TRAEFIK, WEB_PORT
from lab.web_client import Connection
from test_resources import ERRORS, ResourceTest, grown, series

REQUESTS = "pangolin_resource_requests_total"
DURATIONS = "pangolin_resource_request_duration_seconds_count"
SIZES = "pangolin_backend_response_size_bytes_sum"
LABELS = ("resource_id", "method", "status")

# Method, path, body, and how the backend answers.
MIX = (
    ("GET", "/small", None, 200),
    ("HEAD", "/small", None, 200),
    ("GET", "/large", None, 200),
    ("HEAD", "/large", None, 200),
    ("GET", "/missing", None, 404),
    ("PUT", "/upload/a", b"x" * 200_000, 201),
    ("PUT", "/upload/a", b"y", 204),
    ("DELETE", "/upload/a", None, 204),
    ("DELETE", "/upload/a", None, 404),
    ("POST", "/small", b"form", 405),
    ("PATCH", "/small", b"patch", 405),
    ("OPTIONS", "/small", None, 405),
)


class Requests(ResourceTest):
    tag = "requests"

    def ask_all(self, resource: Resource, times: int) -> collections.Counter:
        """The mix on one connection that is kept; returns what was answered."""
        answered: collections.Counter = collections.Counter()
        connection = Connection(self.stage.visitor, TRAEFIK, WEB_PORT, 60 * harness.SLOWNESS)
        try:
            for _ in range(times):
                for method, path, body, _ in MIX:
                    response = connection.ask(method, path, resource.full_domain, body)
                    response.read()
                    answered[(resource.nice_id, method, str(response.status))] += 1
        finally:
            connection.close()
        return answered

    def test_every_request_once(self) -> None:
        """Several visitors at once, over tunnels of both kinds and to a local site."""
        stage = self.stage
        resources = (stage.web_1, stage.web_2, stage.files)
        self.ask_all(stage.web_1, 1)
        wait_for("requests are published at all", lambda: self.exporter.scrape().total(REQUESTS) > 0, timeout=15)
        nginxes = ((stage.web_1, stage.nginx_1), (stage.web_2, stage.nginx_2), (stage.files, stage.nginx_3))
        logged = {resource.nice_id: len(nginx.exchanges()) for resource, nginx in nginxes}
        scraped = self.exporter.scrape()
        answered: collections.Counter = collections.Counter()
        lock = threading.Lock()

        def visit(resource: Resource) -> None:
            found = self.ask_all(resource, 5)
            with lock:
                answered.update(found)

        visitors = [threading.Thread(target=visit, args=(resource,)) for resource in resources for _ in range(3)]
        for visitor in visitors:
            visitor.start()
        for visitor in visitors:
            visitor.join()
        self.assertEqual(answered.total(), len(visitors) * 5 * len(MIX))
        self.expect_growth(REQUESTS, LABELS, scraped, {key: float(count) for key, count in answered.items()})
        by_method: collections.Counter = collections.Counter()
        for (resource_id, method, _), count in answered.items():
            by_method[(resource_id, method)] += count
        self.expect_growth(
            DURATIONS, ("resource_id", "method"), scraped, {key: float(count) for key, count in by_method.items()}
        )
        # What nginx says of itself: the same requests, and the bytes of its responses.
        sent = 0
        for resource, nginx in nginxes:
            begin = logged[resource.nice_id]
            exchanges = nginx.exchanges()[begin:]
            theirs = collections.Counter((each.method, str(each.status)) for each in exchanges)
            ours = {key[1:]: count for key, count in answered.items() if key[0] == resource.nice_id}
            self.assertEqual(dict(theirs), ours, f"{resource.name}: nginx's log")
            sent += sum(each.sent for each in exchanges)
        self.expect_growth(SIZES, (), scraped, {(): float(sent)})

    def test_equal_to_traefik(self) -> None:
        """Since Traefik's start: the exporter was there before its first request."""
        stage = self.stage
        before = [
            (resource, stage.traefik.service_counts(resource.service)) for resource in (stage.web_1, stage.files)
        ]
        scraped = self.exporter.scrape()
        for resource, _ in before:
            self.ask_all(resource, 3)
        expected = {}
        for resource, counts in before:
            now = stage.traefik.service_counts(resource.service)
            expected[(resource.nice_id,)] = now["requests"] - counts["requests"]
            self.assertEqual(expected[(resource.nice_id,)], 3 * len(MIX))
        self.expect_growth(REQUESTS, ("resource_id",), scraped, expected)

    def test_two_resources_at_one_address(self) -> None:
        """Told apart by the host that a visitor asks for, on connections that Traefik shares between them."""
        stage = self.stage
        scraped = self.exporter.scrape()
        answered: collections.Counter = collections.Counter()
        for resource in (stage.local_web, stage.local_again, stage.local_web, stage.local_again, stage.local_again):
            answered.update(self.ask_all(resource, 1))
        self.assertEqual(answered.total(), 5 * len(MIX))
        self.expect_growth(REQUESTS, LABELS, scraped, {key: float(count) for key, count in answered.items()})

    def test_nothing_is_lost(self) -> None:
        self.ask_all(self.stage.web_1, 2)
        lost = {
            (having["map"], having["reason"]): value
            for having, value in self.exporter.scrape().select("pangolin_exporter_lost_updates_total")
            if having["map"].startswith("http") and value
        }
        self.assertEqual(lost, {})

    def test_server_errors(self) -> None:
        """Traefik's own 502 for a dead target is no answer of a backend: only what backends say counts."""
        scraped = self.exporter.scrape()
        self.stage.fetch(self.stage.dead, "/")
        self.assertEqual(
            grown(
                series(self.exporter.scrape(), ERRORS, "error_type"),
                series(scraped, ERRORS, "error_type"),
            ).get(("http_5xx",), 0),
            0,
        )


if __name__ == "__main__":
    harness.main()
