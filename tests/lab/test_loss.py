#!/usr/bin/env python3
"""HTTP through a tunnel that loses and reorders packets, against the backend's book: each exchange is counted once.

This program dials from the host as Traefik does, on connections that it keeps. The kernels of both ends say in their
own TCP statistics that segments were really sent again and came out of order.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter

import harness
import http_books
from connections import tcp_counter
from lab.namespace import Namespace
from lab.resources import Plan
from lab.world import World
from line import Faults, Line
from mix_client import Ask, MixConnection
from mix_world import MixServer
from newt import Newt, newt_program

MIX = 8080
ROUND_TRIP = 0.01
# Three in a hundred segments are sent again, and at this rate some more than once.
FAULTS = Faults(lose=30, reorder=80)
CONNECTIONS, ROUNDS = 6, 4
KIB = 1 << 10
LONG_FIELD = "X-Long: " + "x" * 4000  # a head in several segments

ASKS = (
    *(Ask(status=status, size=20) for status in (200, 204, 302, 304, 404, 500, 503)),
    *(Ask(method, 200, 300) for method in ("HEAD", "DELETE", "OPTIONS", "PURGE")),
    *(Ask(size=size, how=how) for size in (0, KIB, 200 * KIB) for how in ("length", "chunked", "interim")),
    *(Ask("PUT", 201, 30, send=size, send_how=how) for size in (1, 100 * KIB) for how in ("length", "chunked", "expect")),
    Ask("POST", 200, 100 * KIB, "chunked", send=100 * KIB, send_how="chunked"),
    Ask(size=5000, how="close"),
)


class LossWorld:
    """A newt and its backend at the other end of a bad line."""

    def __init__(self, tag: str) -> None:
        self.world = World(1, tag)
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> LossWorld:
        with self.stack:  # closes it again if anything below fails
            keep = self.stack.enter_context
            keep(self.world)
            (site,) = self.world.sites
            self.host: Namespace = self.world.host.namespace
            self.site: Namespace = site.namespace
            self.line = keep(contextlib.closing(Line(self.world, site, ROUND_TRIP, FAULTS)))
            self.world.wait_connected(60 * harness.SLOWNESS)
            self.plan = Plan(self.world)
            self.mix = self.plan.http("Mix", self.plan.newt(site).target(MIX))
            (target,) = self.mix.targets
            self.address = target.address
            self.server = keep(contextlib.closing(MixServer(self.site, [f"127.0.0.1:{MIX}"])))
            relay = ("tcp", target, ("127.0.0.1", MIX))
            keep(contextlib.closing(Newt(newt_program(self.world.state.folder), self.site, [relay])))
            self.stack = self.stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.__exit__(*error)

    def connect(self) -> MixConnection:
        return MixConnection(self.host, *self.address, "mix.lab.example", 120 * harness.SLOWNESS)

    def trouble(self) -> Counter:
        """What the two kernels have seen of the line."""
        seen = Counter()
        for name, namespace in (("host", self.host), ("site", self.site)):
            seen[f"segments sent again by the {name}"] = tcp_counter(namespace, "RetransSegs")
            seen[f"segments out of order at the {name}"] = tcp_counter(namespace, "TCPOFOQueue")
        return seen


class Loss(harness.LabTest):
    def test_each_exchange_counts_once(self) -> None:
        with LossWorld("loss") as stage:
            database = stage.world.state.folder / "pangolin/db.sqlite"
            stage.plan.write_database(database)
            settings = {
                "wireguard": {"netns": stage.host.name},
                "metadata": {"sqlite": str(database), "refresh": "1s"},
            }
            with harness.Exporter(settings, folder=database.parent) as exporter:
                exporter.wait_ready(60)
                time.sleep(3 * harness.SLOWNESS)  # for the targets to be known
                before = stage.trouble()
                asked = self.visit(stage)
                entries = self.ended(stage, asked)
                seen = stage.trouble() - before
                print(f"{stage.line}, {asked.total()} requests: {dict(seen)}", flush=True)
                for what in ("sent again by the host", "sent again by the site", "out of order at the host"):
                    self.assertGreater(seen[f"segments {what}"], 20, "the line was too good")
                self.check(stage, exporter, entries, asked)

    def visit(self, stage: LossWorld) -> Counter:
        failures: list[BaseException] = []

        def one() -> None:
            try:
                with contextlib.closing(stage.connect()) as connection:
                    for _ in range(ROUNDS):
                        for ask in ASKS:
                            connection.begin(ask, LONG_FIELD)
                            answered = connection.finish(ask)
                            self.assertEqual(answered.status, ask.status, ask)
                            self.assertEqual(answered.body, ask.size if ask.has_body else 0, ask)
            except BaseException as error:
                failures.append(error)
                raise

        threads = [threading.Thread(target=one) for _ in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        asked: Counter = Counter()
        for ask in ASKS:
            asked[(ask.method, ask.status)] += CONNECTIONS * ROUNDS
        return asked

    def ended(self, stage: LossWorld, asked: Counter) -> list[dict]:
        def whole() -> list[dict] | None:
            entries = stage.server.book(MIX)
            return entries if sum(each["ended"] for each in entries) == asked.total() else None

        return harness.wait_for("the backend has ended all exchanges", whole)

    def check(self, stage: LossWorld, exporter: harness.Exporter, entries: list[dict], asked: Counter) -> None:
        backend = http_books.of_backend(entries)
        self.assertEqual(backend.requests, asked, "the backend has what was asked")
        time.sleep(2.5 * harness.SLOWNESS)  # for the exporter to read it
        samples = exporter.scrape()
        lost = {
            (having["map"], having["reason"]): value
            for having, value in samples.select("pangolin_exporter_lost_updates_total")
            if having["map"].startswith("http") and value
        }
        self.assertEqual(lost, {})
        self.assertEqual(samples.total("pangolin_exporter_http_opaque_connections_total"), 0)
        found = http_books.of_exporter(exporter, stage.mix)
        self.assertEqual(found.requests, http_books.folded(backend.requests))
        self.assertEqual(found.response_bytes, backend.response_bytes, "answers, heads included")
        self.assertEqual(found.responses, asked.total())
        self.assertEqual(found.durations.count, asked.total())


if __name__ == "__main__":
    harness.main()
