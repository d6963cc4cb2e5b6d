#!/usr/bin/env python3
"""Requests to backends that speak TLS, from the access log of a real Traefik, against nginx's log and Traefik's metrics:
each once, whatever rotates the log, and none of what the kernel reads a second time."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import Counter

import harness
import http_books
from lab.backends import Nginx
from lab.resources import Plan, Resource
from lab.web_client import Connection
from mix_world import MixWorld
from newt import Newt, newt_program
from resource_world import CONTAINER, TRAEFIK, WEB_PORT

SECURE, PLAIN = 8443, 8080
REQUESTS = (
    ("GET", "/small", None),
    ("HEAD", "/page", None),
    ("GET", "/empty", None),
    ("GET", "/large", None),
    ("GET", "/missing", None),
    ("PUT", "/upload/a", b"x" * 100_000),
    ("DELETE", "/upload/a", None),
    ("POST", "/small", b"form"),
)


class SecureWorld(MixWorld):
    """One nginx behind a newt and one beside Traefik, each with and without TLS; and one that is called by a name."""

    def _plan(self) -> None:
        plan = self.plan = Plan(self.world)
        newt, local = plan.newt(self.world.sites[0]), plan.local()
        self.tunnel = plan.http("Tunnel", newt.target(SECURE, method="https"))
        self.tunnel_plain = plan.http("Tunnel plain", newt.target(PLAIN))
        self.local = plan.http("Local", local.target(SECURE, CONTAINER, method="https"))
        self.local_plain = plan.http("Local plain", local.target(PLAIN, CONTAINER))

    def _start_backends(self) -> None:
        self.servers = {}
        self.nginxes = {}
        site = self.world.sites[0].namespace
        for namespace, address, resources in (
            (site, "127.0.0.1", (self.tunnel, self.tunnel_plain)),
            (self.container, CONTAINER, (self.local, self.local_plain)),
        ):
            self.nginxes[resources[0].identity] = Nginx(
                namespace, resources[0].nice_id, [], secure=[f"{address}:{SECURE}"]
            )
            self.nginxes[resources[1].identity] = Nginx(namespace, resources[1].nice_id, [f"{address}:{PLAIN}"])

    def _start_newts(self) -> None:
        self.newts = []
        site = self.world.sites[0]
        self._start_newt(Newt(newt_program(self.world.state.folder), site.namespace, self.relays(site)))


class AccessLog(harness.LabTest):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        stage = cls.stage = cls.enterClassContext(SecureWorld("access"))
        # What Traefik did before the exporter's start is not counted.
        stage.fetch(stage.local, "/small")
        database = stage.world.state.folder / "pangolin/db.sqlite"
        stage.plan.write_database(database)
        cls.exporter = cls.enterClassContext(
            harness.Exporter(
                {
                    "wireguard": {"netns": stage.world.host.namespace.name},
                    "metadata": {"sqlite": str(database), "refresh": "1s"},
                    "traefik": {"access_log": str(stage.traefik.access_log)},
                },
                folder=stage.world.state.folder / "pangolin",
            )
        )
        cls.exporter.wait_ready(60)

    def setUp(self) -> None:
        self.resources = (self.stage.tunnel, self.stage.local, self.stage.tunnel_plain, self.stage.local_plain)
        self.before = {resource.identity: self.read(resource) for resource in self.resources}

    def read(self, resource: Resource) -> http_books.Books:
        return http_books.read(self.stage, self.exporter, resource, durations=False)

    def visit(self, resource: Resource, times: int) -> None:
        connection = Connection(self.stage.visitor, TRAEFIK, WEB_PORT, 60 * harness.SLOWNESS)
        try:
            for _ in range(times):
                for method, path, body in REQUESTS:
                    connection.ask(method, path, resource.full_domain, body).read()
        finally:
            connection.close()

    def visit_all(self, times: int) -> list[threading.Thread]:
        threads = [
            threading.Thread(target=self.visit, args=(resource, times)) for resource in self.resources for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        return threads

    def check(self, times: int) -> None:
        for resource in self.resources:
            with self.subTest(resource.name):
                wanted = times * len(REQUESTS)

                def books(resource: Resource = resource) -> http_books.Books:
                    return self.read(resource) - self.before[resource.identity]

                harness.wait_for(
                    f"{wanted} requests of {resource.name} are published",
                    lambda: books().exporter.requests.total() >= wanted,  # noqa: B023
                )
                time.sleep(1)
                found = books()
                self.assertEqual(found.backend.requests.total(), wanted)
                self.assertEqual(found.exporter.requests, http_books.folded(found.backend.requests))
                self.assertEqual(
                    Counter(http_books.as_traefik_counts(found.backend.requests)), found.traefik.requests
                )
                self.assertEqual(found.exporter.durations.count, wanted)
                is_opaque = resource.targets[0].method == "https"
                self.assertEqual(
                    found.exporter.response_bytes,
                    found.traefik.response_bytes if is_opaque else found.backend.response_bytes,
                    "bodies where Traefik's log is all there is, else heads as well",
                )

    def test_each_request_once(self) -> None:
        logged = {each.identity: http_books.durations_of_traefik(self.stage, each) for each in self.resources[:2]}
        for thread in self.visit_all(5):
            thread.join()
        self.check(10)
        for resource in self.resources[:2]:
            ours = (self.read(resource) - self.before[resource.identity]).exporter.durations
            theirs = http_books.durations_of_traefik(self.stage, resource)[len(logged[resource.identity]) :]
            self.assertEqual(len(theirs), ours.count)
            self.assertAlmostEqual(ours.sum, sum(theirs), delta=1e-6 * len(theirs))
        opaque = self.exporter.scrape().value("pangolin_exporter_http_opaque_connections_total", kind="tls")
        self.assertGreater(opaque, 0)

    def test_rotation_by_renaming(self) -> None:
        """As logrotate does it with `create`, while requests come in; Traefik is told a moment later."""
        threads = self.visit_all(20)
        log = self.stage.traefik.access_log
        for number in range(4):
            time.sleep(0.3)
            os.rename(log, f"{log}.{number}")
            log.touch()
            time.sleep(0.1)
            self.stage.traefik.reopen_access_log()
        for thread in threads:
            thread.join()
        self.check(40)

    def test_rotation_by_truncating(self) -> None:
        """As logrotate does it with `copytruncate`, at moments without requests: what comes in between is lost."""
        log = self.stage.traefik.access_log
        for number in range(3):
            for thread in self.visit_all(1):
                thread.join()
            time.sleep(0.8)
            shutil.copy(log, f"{log}.copy{number}")
            os.truncate(log, 0)
        self.check(6)

    def test_garbage(self) -> None:
        with open(self.stage.traefik.access_log, "a") as log:
            log.write("no JSON at all\n{\"half\": \n" + "x" * 100_000 + "\n")
        for thread in self.visit_all(1):
            thread.join()
        self.check(2)
        lost = {
            having["reason"]: value
            for having, value in self.exporter.scrape().select(
                "pangolin_exporter_lost_updates_total", map="access_log"
            )
        }
        self.assertEqual(lost, {"malformed": 2, "too_long": 1, "unattributed": 0})

    def test_a_backend_that_is_gone(self) -> None:
        """Traefik's own 502 is no answer of a backend."""
        nginx = self.stage.nginxes[self.stage.local.identity]
        nginx.stop()
        try:
            self.assertEqual(self.stage.fetch(self.stage.local, "/small").status, 502)
        finally:
            nginx.start()
        harness.wait_for(
            "the request is published",
            lambda: (self.read(self.stage.local) - self.before[self.stage.local.identity]).exporter.requests
            == Counter({("GET", "none"): 1}),
        )
        self.assertEqual(
            self.exporter.scrape().total(
                "pangolin_resource_errors_total", resource_id=self.stage.local.nice_id, error_type="http_5xx"
            ),
            0,
        )


if __name__ == "__main__":
    harness.main()
