#!/usr/bin/env python3
"""gerbil in a container of a real engine, Podman: it starts late, starts anew, stops, has company. The exporter, on the
host or in a container as README.md says, notices within two seconds, counts on to the byte, and nothing piles up.

PANGOLIN_EXPORTER_LAB_RESTARTS   how often gerbil is restarted for that (10)
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import time
import unittest
from collections.abc import Callable, Iterator
from pathlib import Path

import harness
import podman
import traffic
from accounts import Accounts, difference, exporter_book, host_end, site_end
from container_exporter import IMAGE, ContainerExporter
from container_world import GERBIL_IMAGE, ContainerWorld
from footprint import check_growth, footprint, held
from harness import Exporter, wait_for
from lab.commands import run
from lab.sites_file import WEB_PORT
from podman import Podman
from readings import NeverBackwards
from test_least_privilege import exchange
from test_lifecycle import wait_counting
from test_trouble import attached_to_interfaces

RESTARTS = int(os.environ.get("PANGOLIN_EXPORTER_LAB_RESTARTS", "10"))
NOTICED_WITHIN = 2
REQUESTS = 7
REQUEST = b"GET / HTTP/1.1\r\nHost: web1.lab.example\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GERBIL_PROGRAMS = ("/bin/sh", "wg", "wireguard-go", "sleep", "ip")
AUTO = {"netns": "auto", "interfaces": ["wg0"]}


class HostExporter(Exporter):
    """On the host, which is where Podman's folders are where they always are."""

    def __init__(self, engine: Podman, metrics: dict, folder: Path) -> None:
        super().__init__(metrics, (), folder)
        self.launcher = engine.launcher


class ContainerTest(harness.LabTest):
    engine: Podman

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        reason = podman.reason_to_skip()
        if reason and os.environ.get("CI") == "true":
            raise AssertionError(f"with CI=true nothing may be skipped, but this {reason}")
        if reason:
            raise unittest.SkipTest(reason)
        cls.engine = cls.enterClassContext(Podman("ctp"))
        script = Path(__file__).with_name("gerbil.sh")
        cls.engine.import_programs(GERBIL_IMAGE, GERBIL_PROGRAMS, [script])

    @contextlib.contextmanager
    def stage(
        self, exporter_class: type, wireguard: Callable[[ContainerWorld], dict], sites: int = 2
    ) -> Iterator[tuple[ContainerWorld, Exporter]]:
        """gerbil is stopped; the exporter has started and found nothing yet."""
        folder = Path(tempfile.mkdtemp(prefix="pangolin_exporter-test-"))
        with ContainerWorld(self.engine, sites, "ct") as world:
            world.state.add("paths", str(folder))
            world.write_database(folder / "db/db.sqlite")
            world.stop_gerbil()
            settings = {"wireguard": wireguard(world), "metadata": {"refresh": "1s"}}
            with exporter_class(self.engine, settings, folder) as exporter:
                exporter.wait_alive()
                yield world, exporter

    def notice(self, world: ContainerWorld, exporter: Exporter, happens: Callable[[], None]) -> float:
        """Until the exporter counts on the wg0 that `happens` makes; the time from before that."""
        line = f"counting on wg0 in network namespace container:{world.container.name} ("
        before, begin = exporter.log().count(line), time.monotonic()
        happens()
        wait_for("wg0 is noticed", lambda: exporter.log().count(line) > before, every=0.02)
        self.assertLess(time.monotonic() - world.container.started, NOTICED_WITHIN * harness.SLOWNESS)
        self.assertGreaterEqual(attached_to_interfaces(exporter), 2)
        return time.monotonic() - begin

    def check_exact(self, world: ContainerWorld, exporter: Exporter) -> None:
        world.wait_connected(30 * harness.SLOWNESS)
        with contextlib.closing(Accounts(world)) as accounts:
            wait_counting(exporter, world)
            with accounts.checked(exporter):
                exchange(world)

    def check_life(self, world: ContainerWorld, exporter: Exporter, *others: Callable[[], None]) -> None:
        """From gerbil's first start through others: exact each time, and no counter falls."""
        self.notice(world, exporter, world.start_gerbil)
        with NeverBackwards(exporter):
            self.check_exact(world, exporter)
            places = {self.place(world)}
            for happens in others:
                before = exporter_book(exporter.scrape())
                self.notice(world, exporter, happens)
                places.add(self.place(world))
                self.check_exact(world, exporter)
                for key, amount in before.items():
                    self.assertGreater(exporter_book(exporter.scrape())[key].bytes, amount.bytes, key)
        self.assertEqual(len(places), 1 + len(others), "these were no new namespaces")

    @staticmethod
    def place(world: ContainerWorld) -> tuple[int, int]:
        return os.stat(world.host.namespace.path).st_ino, world.container.pid

    def stop_and_start(self, world: ContainerWorld, exporter: Exporter) -> Callable[[], None]:
        def happens() -> None:
            world.stop_gerbil()
            wait_for("nothing is attached", lambda: attached_to_interfaces(exporter) == 0, timeout=5)
            total = exporter_book(exporter.scrape())
            time.sleep(1)
            self.assertEqual(difference(exporter_book(exporter.scrape()), total), {})
            self.assertFalse([each for each in held(Path(f"/proc/{exporter.pid}")) if each.startswith("net:[")])
            world.start_gerbil()

        return happens


class OnTheHost(ContainerTest):
    def test_gerbil_by_its_containers_name(self) -> None:
        with self.stage(HostExporter, lambda world: {"netns": f"container:{world.container.name}"}) as (
            world,
            exporter,
        ):
            wait_for("it says why", lambda: f"container '{world.container.name}' is not running" in exporter.log())
            self.check_life(world, exporter, self.stop_and_start(world, exporter))

    def test_a_second_gerbil(self) -> None:
        """It comes, is noticed and named, and goes; the first one's counts are its own."""
        with self.stage(HostExporter, lambda world: AUTO, sites=1) as (world, exporter):
            self.notice(world, exporter, world.start_gerbil)
            alone = attached_to_interfaces(exporter)
            with ContainerWorld(self.engine, 1, "ctb") as other:
                self.notice(other, exporter, other.restart_gerbil)
                self.check_exact(world, exporter)
            wait_for("one is left", lambda: attached_to_interfaces(exporter) == alone, NOTICED_WITHIN, 0.05)
            self.check_exact(world, exporter)

    def test_nothing_piles_up(self) -> None:
        with self.stage(HostExporter, lambda world: AUTO, sites=1) as (world, exporter):
            seen, noticed = [], []
            world.start_gerbil()
            for _ in range(RESTARTS):
                noticed.append(self.notice(world, exporter, world.restart_gerbil))
                seen.append(footprint(exporter))
            print(f"noticed within {max(noticed):.2f} s of the restart's begin")
            check_growth(self, seen, RESTARTS // 4, most_kib=8 if RESTARTS >= 100 else 200)
            self.check_exact(world, exporter)


class InAContainer(ContainerTest):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        script = harness.REPOSITORY / "scripts/container"
        run([str(script), "--engine", str(cls.engine.program), "--exporter", str(harness.exporter_path)])

    def test_as_the_readme_says(self) -> None:
        with self.stage(ContainerExporter, lambda world: AUTO) as (world, exporter):
            self.check_life(world, exporter, world.restart_gerbil, self.stop_and_start(world, exporter))
            answer = exporter.ask("check", "--config.file=/opt/pangolin/config/config.yml")
            self.assertIn(f"wg0 in network namespace container:{world.container.name}: 2 peers", answer)
            self.assertIn("missing  privileges  missing CAP_SYSLOG (to tell WireGuard's own drops from others) (", answer)
            self.assertIn("ok       cgroup      /sys/fs/cgroup", answer)
            self.assertIn("missing  cgroup", self.engine("run", "--rm", IMAGE, "check", check=False))
            self.check_requests(world, exporter)
            self.check_replacement(world, exporter)

    def check_requests(self, world: ContainerWorld, exporter: Exporter) -> None:
        """Of a process that is in none of the exporter's own groups."""
        site = world.sites[0]
        address = (site.address, WEB_PORT)
        with site_end(site).socket(socket.SOCK_STREAM) as listener, host_end(world).socket(socket.SOCK_STREAM) as client:
            listener.bind(address)
            listener.listen()
            client.connect(address)
            server, _ = listener.accept()
            with server:
                for _ in range(REQUESTS):
                    client.sendall(REQUEST)
                    traffic.receive_exactly(server, len(REQUEST))
                    server.sendall(ANSWER)
                    traffic.receive_exactly(client, len(ANSWER))
        asked = {"site_id": site.nice_id, "method": "GET", "status": "200"}
        wait_for(
            "the requests are counted",
            lambda: exporter.scrape().total("pangolin_resource_requests_total", **asked) == REQUESTS,
            timeout=5,
        )

    @staticmethod
    def check_replacement(world: ContainerWorld, exporter: Exporter) -> None:
        """It is counted on while one container of the exporter is gone and the next has not come."""
        with contextlib.closing(Accounts(world)) as accounts:
            before, counted = accounts.read(), exporter_book(exporter.scrape())
            exporter.stop(detach=False)
            exchange(world)
            exporter.start()
            exporter.wait_ready(60)
            accounts.compare(exporter, counted, accounts.settle(before, accounts.read()))


if __name__ == "__main__":
    harness.main()
