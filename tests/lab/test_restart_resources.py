#!/usr/bin/env python3
"""Connections to targets and HTTP on them go on to be counted while the exporter is killed, stopped and upgraded.

The books are the client's, which dials as a proxy does, nginx's log and the echo's; each thing is counted once, and no
counter of any scrape falls.

PANGOLIN_EXPORTER_LAB_KILLS   times that it is killed under load (6)
"""

from __future__ import annotations

import collections
import contextlib
import os
import random
import socket
import threading
import time
from pathlib import Path

import harness
from harness import wait_for
from lab.backends import Nginx
from lab.resources import Place, Resource
from lab.web_client import Connection
from readings import NeverBackwards
from resource_world import exchange
from test_requests import DURATIONS, LABELS, MIX, REQUESTS
from test_resources import ACTIVE, BYTES, ERRORS, ResourceTest, grown, series
from test_restart import other_build
from test_targets import CONTAINER, DirectWorld

HTTP, CLOSED = 8080, 8099
KILLS = int(os.environ.get("PANGOLIN_EXPORTER_LAB_KILLS", "6"))


class KeptWorld(DirectWorld):
    """With a web behind the newt, and a port of the local site on which nobody listens."""

    def add_resources(self, newt: Place, local: Place) -> None:
        self.web = self.plan.http("Web", newt.target(HTTP))
        self.closed = self.plan.tcp("Closed", 15437, local.target(CLOSED, CONTAINER))
        self.nginx = Nginx(newt.site.namespace, "site", [f"127.0.0.1:{HTTP}"])


class Book:
    """What this program has done, as the exporter should count it."""

    def __init__(self) -> None:
        self.requests: collections.Counter = collections.Counter()
        self.errors: collections.Counter = collections.Counter()
        self.echoed = 0
        self.lock = threading.Lock()

    def answered(self, resource: Resource, method: str, status: int) -> None:
        with self.lock:
            self.requests[(resource.nice_id, method, str(status))] += 1

    def failed(self, resource: Resource, cause: str) -> None:
        with self.lock:
            self.errors[(resource.nice_id, cause)] += 1


class RestartOfResources(ResourceTest):
    tag = "keep"
    make_world = KeptWorld
    stage: KeptWorld

    def setUp(self) -> None:
        seed = int(os.environ.get("PANGOLIN_EXPORTER_LAB_SEED", time.time_ns() % 1_000_000))
        print(f"PANGOLIN_EXPORTER_LAB_SEED={seed}", flush=True)
        self.random = random.Random(seed)
        self.before = self.exporter.scrape()
        self.logged = len(self.stage.nginx.exchanges())
        self.book = Book()

    # ---- what a proxy does

    def connect(self) -> Connection:
        return Connection(self.stage.world.host.namespace, *self.stage.web.targets[0].address, 60 * harness.SLOWNESS)

    def ask(self, connection: Connection, method: str, path: str, body: bytes | None) -> None:
        response = connection.ask(method, path, self.stage.web.full_domain, body)
        response.read()
        self.book.answered(self.stage.web, method, response.status)

    def ask_all(self, connection: Connection, times: int = 1) -> None:
        for _ in range(times):
            for method, path, body, _ in MIX:
                self.ask(connection, method, path, body)

    def fail_to_connect(self, times: int) -> None:
        """To connect: refused, no route, and closed before a byte by a newt without a target."""
        stage = self.stage
        for _ in range(times):
            for resource, cause in ((stage.closed, "connect_refused"), (stage.rejected, "unreachable")):
                with self.assertRaises(OSError, msg=cause):
                    stage.dial(resource).close()
                self.book.failed(resource, cause)
            with stage.dial(stage.dead) as made:
                self.assertEqual(made.recv(1), b"")
            self.book.failed(stage.dead, "early_close")

    def echo(self, made: socket.socket, amount: int) -> None:
        exchange(made, bytes(amount))
        with self.book.lock:
            self.book.echoed += amount

    # ---- the exporter

    def settled(self, name: str, labels: tuple[str, ...], expected: dict) -> None:
        self.expect_growth(name, labels, self.before, {key: float(value) for key, value in expected.items() if value})

    def nginx_log(self) -> collections.Counter:
        return collections.Counter(
            (self.stage.web.nice_id, each.method, str(each.status))
            for each in self.stage.nginx.exchanges()[self.logged :]
        )

    def check(self) -> None:
        """All books, at a quiet moment."""
        # nginx logs a request when it has answered it.
        wait_for("nginx's log has the same requests", lambda: self.nginx_log() == self.book.requests, timeout=5)
        self.settled(REQUESTS, LABELS, self.book.requests)
        by_method: collections.Counter = collections.Counter()
        for (resource_id, method, _), count in self.book.requests.items():
            by_method[(resource_id, method)] += count
        self.settled(DURATIONS, ("resource_id", "method"), by_method)
        self.settled(ERRORS, ("resource_id", "error_type"), self.book.errors)
        found = grown(
            series(self.exporter.scrape(), BYTES, "resource_id", "direction"),
            series(self.before, BYTES, "resource_id", "direction"),
        )
        for direction in ("ingress", "egress"):
            self.assertEqual(found.get((self.stage.local.nice_id, direction), 0), self.book.echoed)
        lost = [
            (labels, value)
            for labels, value in self.exporter.scrape().select("pangolin_exporter_lost_updates_total")
            if value and labels["map"].startswith(("http", "socket"))
        ]
        self.assertEqual(lost, [])

    def test_counted_while_it_is_away(self) -> None:
        stage = self.stage
        with NeverBackwards(self.exporter, restarts=True), contextlib.ExitStack() as opened:
            for end in (self.exporter.kill, lambda: self.exporter.stop(detach=False)):
                kept, slow = (opened.enter_context(contextlib.closing(self.connect())) for _ in range(2))
                self.ask_all(kept)
                slow.request("GET", "/slow/page", headers={"Host": stage.web.full_domain})
                echo = opened.enter_context(stage.dial(stage.local))
                self.echo(echo, 50_000)
                time.sleep(0.5)
                end()
                self.ask_all(kept, 2)
                with contextlib.closing(self.connect()) as another:
                    self.ask_all(another)
                self.fail_to_connect(3)
                self.echo(echo, 70_000)
                stream = opened.enter_context(stage.dial(stage.stream))
                exchange(stream, b"one that stays")
                self.exporter.start()
                answer = slow.getresponse()
                self.assertEqual(len(answer.read()), 60_000)
                self.book.answered(stage.web, "GET", answer.status)
                self.exporter.wait_ready(60)
                self.ask_all(kept)
                self.check()
                self.assertEqual(self.active(stage.web, "http"), 0)
            self.assertEqual(self.active(stage.stream, "tcp"), 2)
        wait_for("the streams are closed", lambda: self.active(stage.stream, "tcp") == 0, timeout=10)

    def test_killed_under_load(self) -> None:
        over = threading.Event()
        troubles: list[BaseException] = []

        def work(act) -> None:
            try:
                while not over.is_set():
                    act()
            except BaseException as trouble:
                troubles.append(trouble)

        kept = self.connect()

        def ask_on_new() -> None:
            with contextlib.closing(self.connect()) as another:
                self.ask_all(another)

        def echo_and_fail() -> None:
            with self.stage.dial(self.stage.local) as made:
                self.echo(made, 5_000)
            self.fail_to_connect(1)

        workers = [
            threading.Thread(target=work, args=(act,))
            for act in (lambda: self.ask_all(kept), ask_on_new, echo_and_fail)
        ]
        with NeverBackwards(self.exporter, restarts=True):
            for worker in workers:
                worker.start()
            try:
                for _ in range(KILLS):
                    time.sleep(self.random.random() * 1.5)
                    self.exporter.kill()
                    time.sleep(self.random.random() * 0.5)
                    self.exporter.start()
                    # Some are killed before, some while and some after they take over.
                    if self.random.random() < 0.5:
                        self.exporter.wait_ready(60)
                    else:
                        time.sleep(self.random.random() * 3 * harness.SLOWNESS)
            finally:
                over.set()
                for worker in workers:
                    worker.join()
                kept.close()
            self.assertEqual(troubles, [])
            self.exporter.wait_ready(60)
            self.check()

    def test_upgraded(self) -> None:
        """Another layout: new maps, and what was open is found, so that only whole exchanges are promised."""
        builds = [other_build(self.exporter.folder), harness.exporter_path]
        with NeverBackwards(self.exporter, restarts=True), contextlib.closing(self.connect()) as kept:
            self.ask_all(kept)
            with self.stage.dial(self.stage.stream) as stream:
                for program in builds:
                    self.exporter.stop(detach=False)
                    self.ask_all(kept)
                    self.fail_to_connect(1)
                    self.exporter.program = program
                    self.exporter.start()
                    self.exporter.wait_ready(60)
                    self.ask_all(kept)
                    self.check()
                exchange(stream, b"still there")
                wait_for("the stream is in use", lambda: self.active(self.stage.stream, "tcp") == 1, timeout=10)

    def test_switched_off(self) -> None:
        """What was counted meanwhile is credited by an exporter that does not read HTTP any more."""
        with contextlib.closing(self.connect()) as kept:
            self.ask_all(kept)
            self.exporter.kill()
            self.ask_all(kept)
            self.exporter.metrics["http"] = {"enabled": False}
            try:
                self.exporter.start()
                self.exporter.wait_ready(60)
                self.settled(REQUESTS, LABELS, self.book.requests)
                self.ask_all(kept)
                time.sleep(2)
                self.assertEqual(list(Path(self.exporter.metrics["pin_dir"]).glob("*/http")), [])
            finally:
                del self.exporter.metrics["http"]
                self.exporter.stop(detach=False)
                self.exporter.start()
                self.exporter.wait_ready(60)


if __name__ == "__main__":
    harness.main()
