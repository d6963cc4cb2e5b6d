#!/usr/bin/env python3
"""Resources and backends as the exporter publishes them, against everything else that saw the same traffic: witnesses
at both ends of each tunnel, Traefik, lab_newt, nginx and the echoes.

Definitions that are tested here: bytes of targets behind tunnels are inner IP bytes; those of a local site's targets
are TCP payload of Traefik's sockets, as for pangolin_site_bandwidth_bytes_total. A target that two resources share is
known by its address and port only: its bytes are counted once, for whichever of the two. (Its requests are told
apart: test_requests.py.)
"""

from __future__ import annotations

import contextlib
import time

import harness
import traffic
from accounts import host_end, site_end
from exposition import Samples
from harness import wait_for
from lab.backends import FILES
from lab.resources import Resource
from resource_accounts import Book, ResourceAccounts, host_sockets
from resource_errors import CASES, forget_idle
from resource_world import ResourceWorld, exchange

TAG = "resources"
BYTES = "pangolin_resource_bandwidth_bytes_total"
ACTIVE = "pangolin_resource_active_connections"
ERRORS = "pangolin_resource_errors_total"
BACKEND_ERRORS = "pangolin_backend_connection_errors_total"
HEALTH = "pangolin_backend_health_status"

Series = dict[tuple[str, ...], float]


def series(samples: Samples, name: str, *labels: str) -> Series:
    """The family's values by these of its labels."""
    found: Series = {}
    for having, value in samples.select(name):
        key = tuple(having.get(label, "") for label in labels)
        found[key] = found.get(key, 0) + value
    return found


def grown(after: Series, before: Series) -> Series:
    changed = {key: after.get(key, 0) - before.get(key, 0) for key in after.keys() | before.keys()}
    return {key: value for key, value in changed.items() if value}


def describe(expected: Series, found: Series) -> str:
    lines = [
        f"{' '.join(key)}: expected {expected.get(key, 0):g}, the exporter has {found.get(key, 0):g}"
        for key in sorted(expected.keys() | found.keys())
        if expected.get(key, 0) != found.get(key, 0)
    ]
    return "the exporter disagrees:\n  " + "\n  ".join(lines)


class ResourceTest(harness.LabTest):
    """The world of resources, the books of it, and the exporter."""

    tag = TAG
    make_world = ResourceWorld
    stage: ResourceWorld
    exporter: harness.Exporter

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        stage = cls.stage = cls.enterClassContext(cls.make_world(cls.tag))
        cls.accounts = cls.enterClassContext(contextlib.closing(ResourceAccounts(stage)))
        cls.database = stage.world.state.folder / "pangolin/db.sqlite"
        stage.plan.write_database(cls.database)
        cls.exporter = cls.enterClassContext(
            harness.Exporter(
                {
                    "wireguard": {"netns": stage.world.host.namespace.name},
                    "metadata": {"sqlite": str(cls.database), "refresh": "1s"},
                },
                folder=stage.world.state.folder / "pangolin",
            )
        )
        cls.exporter.wait_ready(60)

    def expect_growth(
        self, name: str, labels: tuple[str, ...], before: Samples, expected: Series, timeout: float = 15
    ) -> None:
        """The family must grow by exactly this, and by nothing else, and stay there."""
        start = series(before, name, *labels)
        deadline = time.monotonic() + timeout * harness.SLOWNESS
        while True:
            found = grown(series(self.exporter.scrape(), name, *labels), start)
            if found == expected or time.monotonic() > deadline:
                break
            time.sleep(0.3)
        self.assertEqual(found, expected, f"{name}: {describe(expected, found)}")
        time.sleep(1)
        found = grown(series(self.exporter.scrape(), name, *labels), start)
        self.assertEqual(found, expected, f"{name}: first right, then not: {describe(expected, found)}")

    def by_resource(self, book: Book) -> Series:
        """The witnesses' bytes as the exporter should publish them."""
        found: Series = {}
        for resource, target in self.stage.plan.pairs():
            for direction in ("ingress", "egress"):
                seen = book.get((target.identity, direction))
                if seen is not None:
                    key = (target.place.nice_id, resource.nice_id, direction)
                    found[key] = found.get(key, 0) + seen.amount.bytes
        return found

    def wait_published(self, what: str, condition) -> None:
        wait_for(what, lambda: condition(self.exporter.scrape()), timeout=15, every=0.3)

    def active(self, resource: Resource, protocol: str) -> float:
        return self.exporter.scrape().total(ACTIVE, resource_id=resource.nice_id, protocol=protocol)


class Resources(ResourceTest):
    # ---- bytes

    def test_bytes_equal_the_witnesses(self) -> None:
        """All kinds of resources at once, both directions, every byte at its own resource."""
        stage = self.stage
        before, scraped = self.accounts.read(), self.exporter.scrape()
        for resource in (stage.web_1, stage.web_2, stage.shared, stage.files):
            for name in FILES:
                for _ in range(4):
                    self.assertEqual(len(stage.fetch(resource, f"/{name}").body), FILES[name])
            stage.fetch(resource, "/upload/bytes", method="PUT", body=bytes(700_000))
        for resource in (stage.stream, stage.queue):
            stage.echo(resource, bytes(300_000))
        stage.echo_datagrams(stage.datagrams, [1, 100, 1200] * 20)
        expected = self.by_resource(self.accounts.book(before, self.accounts.read()))
        self.assertEqual(len(expected), 2 * 8, f"traffic of seven resources, one of them with two sites: {expected}")
        self.expect_growth(BYTES, ("site_id", "resource_id", "direction"), scraped, expected)

    def test_udp_fragments_belong_to_their_resource(self) -> None:
        """Only a datagram's first part says its port."""
        before, scraped = self.accounts.read(), self.exporter.scrape()
        self.stage.echo_datagrams(self.stage.datagrams, [1300, 4000, 8000, 8])
        expected = self.by_resource(self.accounts.book(before, self.accounts.read()))
        self.expect_growth(BYTES, ("site_id", "resource_id", "direction"), scraped, expected)

    def test_local_site(self) -> None:
        """TCP payload as nginx and the echo count it; for the site, and for the resources together."""
        stage = self.stage
        nginx, echo = stage.nginx_local, stage.echo_local
        resources = (stage.local_web, stage.local_again, stage.local_stream)
        site = stage.local_web.targets[0].place.nice_id
        served, echoed = len(nginx.exchanges()), echo.report()[9000]
        scraped = self.exporter.scrape()
        for resource in resources[:2]:
            for name in FILES:
                self.assertEqual(len(stage.fetch(resource, f"/{name}").body), FILES[name])
        stage.echo(stage.local_stream, bytes(250_000))
        times = 2 * len(FILES)
        wait_for("nginx has logged all", lambda: len(nginx.exchanges()) == served + times, timeout=5)
        exchanges, now = nginx.exchanges()[served:], echo.report()[9000]
        stream = now["bytes_sent"] - echoed["bytes_sent"]
        expected = {
            "ingress": sum(exchange.sent for exchange in exchanges) + stream,
            "egress": sum(exchange.received for exchange in exchanges) + stream,
        }
        of_site = {(site, direction): float(amount) for direction, amount in expected.items()}
        self.expect_growth(BYTES, ("site_id", "direction"), scraped, of_site)
        self.expect_growth(
            "pangolin_site_bandwidth_bytes_total",
            ("site_id", "direction", "protocol"),
            scraped,
            {(*key, "tcp"): amount for key, amount in of_site.items()},
        )
        alone = grown(
            series(self.exporter.scrape(), BYTES, "resource_id", "direction"),
            series(scraped, BYTES, "resource_id", "direction"),
        )
        self.assertEqual(
            alone.get((stage.local_stream.nice_id, "ingress")), stream, "the target that nobody shares: its own bytes"
        )

    def test_what_is_not_a_resource_is_charged_to_none(self) -> None:
        """Pings, ports of a site that no target has, and other peers' addresses."""
        world, site = self.stage.world, self.stage.world.sites[0]
        self.stage.fetch(self.stage.web_1, "/small")
        wait_for("bytes are published at all", lambda: self.exporter.scrape().total(BYTES) > 0, timeout=15)
        self.accounts.read()  # waits until the tunnels are quiet
        time.sleep(2 * harness.SLOWNESS)
        scraped = self.exporter.scrape()
        traffic.echo(host_end(world), site_end(site), [56] * 10)
        traffic.tcp_bulk(host_end(world), site_end(site), 100_000, 100_000)
        traffic.udp_datagrams(host_end(world), site_end(site), [1200] * 50)
        self.expect_growth(BYTES, ("site_id", "resource_id", "direction"), scraped, {})

    # ---- connections

    def test_established_tcp(self) -> None:
        for resource, count in ((self.stage.stream, 7), (self.stage.queue, 3), (self.stage.local_stream, 4)):
            with self.subTest(resource.name), contextlib.ExitStack() as stack:
                for _ in range(count):
                    exchange(stack.enter_context(self.stage.dial(resource)), b"in use")
                self.assertEqual(host_sockets(self.stage, resource.targets[0]).get("established"), count)
                self.wait_published(
                    f"{count} connections of {resource.name}",
                    lambda samples: samples.total(ACTIVE, resource_id=resource.nice_id, protocol="tcp") == count,
                )
                stack.close()
                wait_for(f"no connection of {resource.name}", lambda: self.active(resource, "tcp") == 0, timeout=15)

    def test_udp_flows(self) -> None:
        """Flows of the last minute. A visitor's socket is a flow of its own at the target."""
        before = self.active(self.stage.datagrams, "udp")
        for _ in range(3):
            self.stage.echo_datagrams(self.stage.datagrams, [100, 100])
        wait_for(
            "three more flows", lambda: self.active(self.stage.datagrams, "udp") == before + 3, timeout=15
        )

    def test_connections_made(self) -> None:
        """As many as newt accepted."""
        name, stage = "pangolin_tcp_connections_total", self.stage
        site = stage.stream.targets[0].place.nice_id
        scraped = self.exporter.scrape()
        (target,) = stage.stream.targets
        before = stage.newt_of(target).counts(target)["accepted"]
        for _ in range(40):
            stage.echo(stage.stream, b"x")
        accepted = stage.newt_of(target).counts(target)["accepted"] - before
        self.assertEqual(accepted, 40)
        self.expect_growth(name, ("site_id", "result"), scraped, {(site, "success"): 40})

    # ---- errors

    def test_each_error_is_counted_exactly(self) -> None:
        for case in CASES:
            with self.subTest(case.name, error_type=case.error_type):
                resource, target = case.of(self.stage)
                scraped = self.exporter.scrape()
                case.provoke(self.stage)
                site, backend = target.place.nice_id, target.backend
                self.expect_growth(
                    ERRORS,
                    ("site_id", "resource_id", "backend", "error_type"),
                    scraped,
                    {(site, resource.nice_id, backend, case.error_type): case.times},
                )
                self.expect_growth(
                    BACKEND_ERRORS,
                    ("backend", "site_id", "error_type"),
                    scraped,
                    {(backend, site, case.error_type): case.times},
                )

    def test_ordinary_ends_are_no_errors(self) -> None:
        """Visitors that leave without a word or lose patience, backends that close what rests, Traefik that goes and
        comes back."""
        stage = self.stage
        stage.fetch(stage.dead, "/small")
        wait_for("errors are published at all", lambda: self.exporter.scrape().total(ERRORS) > 0, timeout=15)
        scraped = self.exporter.scrape()
        (target,) = stage.web_2.targets
        forget_idle(stage, target)
        stage.newt_of(target).set_mode(target, "silent")
        try:
            for _ in range(3):
                with self.assertRaises(TimeoutError):
                    stage.fetch(stage.web_2, "/small", timeout=1)
        finally:
            stage.newt_of(target).set_mode(target, "relay")
        for _ in range(5):
            stage.dial(stage.stream).close()
            stage.echo(stage.stream, b"complete")
        self.assertEqual(stage.fetch(stage.web_1, "/small").status, 200)
        forget_idle(stage, stage.web_1.targets[0])
        self.assertEqual(stage.fetch(stage.files, "/small").status, 200)
        stage.traefik.stop()
        stage.traefik.start()
        self.assertEqual(stage.fetch(stage.web_1, "/small").status, 200)
        for name in (ERRORS, BACKEND_ERRORS):
            self.expect_growth(name, ("resource_id", "backend", "error_type"), scraped, {})

    # ---- who is who

    def test_described(self) -> None:
        samples = self.exporter.scrape()
        for resource, target in self.stage.plan.pairs():
            found = list(samples.select("pangolin_resource_info", resource_id=resource.nice_id))
            self.assertEqual([value for _, value in found], [1], resource.name)
            self.assertEqual(found[0][0].get("name"), resource.name)
            found = list(
                samples.select(
                    "pangolin_backend_info", backend=target.backend, site_id=target.place.nice_id
                )
            )
            self.assertTrue(found, f"pangolin_backend_info of {target.backend}")
            self.assertTrue(all(value == 1 for _, value in found))

    def health(self, resource: Resource) -> float | None:
        (target,) = resource.targets
        return self.exporter.scrape().value(HEALTH, backend=target.backend, site_id=target.place.nice_id)

    def test_health(self) -> None:
        """Pangolin's check where there is one, else what the last connections showed."""
        stage = self.stage
        self.assertEqual(stage.fetch(stage.web_2, "/small").status, 200)
        for _ in range(3):
            stage.fetch(stage.dead, "/small")
        wait_for("a target that answers is healthy", lambda: self.health(stage.web_2) == 1, timeout=15)
        wait_for("a target that is down is not", lambda: self.health(stage.dead) == 0, timeout=15)
        (target,) = stage.queue.targets
        try:
            for health, value in (("unhealthy", 0), ("healthy", 1)):
                target.health = health
                stage.plan.write_database(self.database)
                wait_for(
                    f"Pangolin says {health}", lambda value=value: self.health(stage.queue) == value, timeout=20
                )
        finally:
            target.health = None
            stage.plan.write_database(self.database)

    def test_sites_file_instead_of_the_database(self) -> None:
        """The same numbers with the same names from sites.yml."""
        stage = self.stage
        path = self.database.with_name("sites.yml")
        path.write_text(stage.plan.sites_yaml())
        settings = {
            "wireguard": {"netns": stage.world.host.namespace.name},
            "metadata": {"sites_file": str(path), "refresh": "1s"},
        }
        with harness.Exporter(settings) as other:
            other.wait_ready(60)
            before, scraped = self.accounts.read(), other.scrape()
            self.assertEqual(stage.fetch(stage.web_1, "/page").status, 200)
            stage.echo(stage.queue, bytes(10_000))
            expected = self.by_resource(self.accounts.book(before, self.accounts.read()))
            labels = ("site_id", "resource_id", "direction")
            wait_for(
                "the bytes are published",
                lambda: grown(series(other.scrape(), BYTES, *labels), series(scraped, BYTES, *labels)) == expected,
                timeout=15,
            )


if __name__ == "__main__":
    harness.main()
