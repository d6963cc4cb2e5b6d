#!/usr/bin/env python3
"""As the shipped unit starts it, the exporter does all of its work and can do little else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
import unittest
from pathlib import Path
from unittest import mock

import harness
import service
import test_control_plane
import traffic
from accounts import exporter_book, stage
from harness import Exporter, wait_for
from lab.world import World
from readings import NeverBackwards
from test_lifecycle import pairs, wait_counting

TAG = "least"
# linux/capability.h
NUMBERS = {"net_admin": 12, "sys_ptrace": 19, "sys_admin": 21, "perfmon": 38, "bpf": 39}
SECCOMP_FILTER = "2"
# Of the log; a namespace without a name is called after one of its processes, which only a look at it tells.
COUNTING = rf"counting on wg{TAG}0 in network namespace pid:[0-9]+ \([^)]+\)"
LOOKING = "looking into processes through the broker"
WARNING = f"the process broker at {service.Broker.asked} does not answer"
SOURCE_UP = "pangolin_exporter_source_up"
# All namespaces are looked into, those of the sites as well.
GERBILS = {"interfaces": [f"wg{TAG}0"]}


def exchange(world: World) -> None:
    traffic.together(
        [
            lambda pair=pair: (traffic.tcp_bulk(*pair, 300_000, 300_000), traffic.echo(*pair, (1, 3000)))
            for pair in pairs(world)
        ]
    )


class AsService(harness.LabTest):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        service.relay_wireguard(cls)
        service.serve_processes(cls)
        cls.enterClassContext(mock.patch.object(harness, "Exporter", service.Service))

    def check_confinement(self, exporter: service.Service) -> None:
        self.assertNotIn("sys_ptrace", service.capabilities("CapabilityBoundingSet"))
        self.check_status(exporter.status(), service.USER, service.UNIT)
        self.check_status(
            service.status_of(exporter.broker.process.pid), service.BROKER_USER, service.BROKER_UNIT
        )

    def check_status(self, status: dict[str, str], user: int, unit: Path) -> None:
        names = service.capabilities("AmbientCapabilities", unit)
        held = f"{sum(1 << NUMBERS[name] for name in names):016x}"
        # Of a program that starts none.
        inherited = status["CapInh"] if unit == service.BROKER_UNIT else "0" * 16
        for line, expected in {
            "Uid": "\t".join([str(user)] * 4),
            "Groups": "",
            "CapEff": held,
            "CapPrm": held,
            "CapInh": inherited,
            "CapBnd": held,
            "CapAmb": "0" * 16,
            "NoNewPrivs": "1",
            "Seccomp": SECCOMP_FILTER,
        }.items():
            with self.subTest(line, unit=unit.name):
                self.assertEqual(status[line], expected)

    def test_follows_a_restart_of_gerbil(self) -> None:
        """Exact before and after, with another namespace and interface and no broker in between; found by its processes
        alone."""
        with stage(2, TAG, GERBILS) as (world, books, exporter), NeverBackwards(exporter):
            with books.checked(exporter):
                exchange(world)
            self.check_confinement(exporter)
            before = exporter_book(exporter.scrape())
            exporter.broker.kill()
            starts = exporter.broker.starts
            books.host_witness.close()
            world.renew_host()
            books.host_witness = books.make_host_witness()
            world.wait_connected(60 * harness.SLOWNESS)
            wait_counting(exporter, world)
            with books.checked(exporter):
                exchange(world)
            after = exporter_book(exporter.scrape())
            for key, amount in before.items():
                self.assertGreater(after[key].bytes, amount.bytes, key)
            self.check_confinement(exporter)
            self.assertEqual(exporter.broker.starts, starts + 1)
            log = exporter.log()
            self.assertEqual(len(re.findall(COUNTING, log)), 2, log)

    def test_goes_on_without_its_broker(self) -> None:
        """What is known is counted on, exactly, and the log says what is missing; with the next broker all is well."""
        with stage(1, TAG, GERBILS) as (world, books, exporter), NeverBackwards(exporter):
            wait_counting(exporter, world)
            broker = exporter.broker
            broker.permitted.clear()
            broker.kill()
            wait_for("it says so", lambda: WARNING in exporter.log())
            with books.checked(exporter):
                exchange(world)
            time.sleep(3)
            said = re.findall(rf'msg="(.*{WARNING}: Connection timed out \(HINT: systemctl restart.*)"', exporter.log())
            self.assertIn(WARNING, said[0][: len(WARNING)])
            # Each part of the exporter that misses it says so once.
            self.assertEqual(len(said), len(set(said)), said)
            said = exporter.log().count(LOOKING)
            broker.permitted.set()
            wait_for("it looks again", lambda: exporter.log().count(LOOKING) > said)
            with books.checked(exporter):
                exchange(world)
            self.assertEqual(len(re.findall(COUNTING, exporter.log())), 1)

    def test_looks_into_no_process(self) -> None:
        """Its user with its capabilities and mounts; what root reads of a root's process is closed to it."""
        process = subprocess.Popen(["sleep", "60"])
        try:
            service_runs = service.Service({})
            Path(service_runs.metrics["pin_dir"]).mkdir(mode=0o700)
            for name in ("environ", "maps", "cwd/.", "root/.", "ns/net", "comm"):
                path = f"/proc/{process.pid}/{name}"
                with self.subTest(name):
                    read = ["stat", "--dereference", path] if "/" in name else ["head", "--bytes=1", path]
                    subprocess.run(read, check=True, capture_output=True)
                    refused = subprocess.run([*service_runs.launcher, *read], capture_output=True, text=True)
                    self.assertNotEqual(refused.returncode, 0)
                    self.assertIn(path, refused.stderr)
                    self.assertIn("No such file or directory", refused.stderr)
        finally:
            process.kill()
            process.wait()
            os.rmdir(service_runs.metrics["pin_dir"])
            shutil.rmtree(service_runs.folder)

    def test_counts_on_while_it_is_stopped(self) -> None:
        with stage(1, TAG, GERBILS) as (world, books, exporter):
            wait_counting(exporter, world)
            before, counted = books.read(), exporter_book(exporter.scrape())
            exporter.stop(detach=False)
            exchange(world)
            exporter.start()
            exporter.wait_ready(60)
            books.compare(exporter, counted, books.settle(before, books.read()))

    def test_starts_before_its_broker(self) -> None:
        """What another process left is not gone because nobody can look: it counts on, and is taken over later."""
        with stage(1, TAG, GERBILS) as (world, books, exporter):
            wait_counting(exporter, world)
            before, counted = books.read(), exporter_book(exporter.scrape())
            exporter.stop(detach=False)
            broker = exporter.broker
            broker.permitted.clear()
            self.addCleanup(broker.permitted.set)
            broker.kill()
            exchange(world)
            exporter.start()
            exporter.wait_alive()
            processes = {"source": "processes"}
            wait_for("it cannot look", lambda: exporter.scrape().value(SOURCE_UP, **processes) == 0)
            exchange(world)
            broker.permitted.set()
            wait_for("it looks", lambda: exporter.scrape().value(SOURCE_UP, **processes) == 1, timeout=30)
            exporter.wait_ready(60)
            books.compare(exporter, counted, books.settle(before, books.read()))

    def test_reads_no_shadow(self) -> None:
        """Told to read it, it is refused; by root, it is read and found to be no acme.json."""
        settings = {
            "wireguard": {"interfaces": ["none-such"]},
            "traefik": {"acme": "/etc/shadow"},
        }
        for exporter_class, refused in ((service.Service, True), (Exporter, False)):
            with self.subTest(exporter_class.__name__), exporter_class(settings) as exporter:
                exporter.wait_alive()
                wait_for("it has tried", lambda: "/etc/shadow" in exporter.log())
                self.assertEqual("cannot read /etc/shadow: Permission denied" in exporter.log(), refused)
                self.assertEqual(exporter.scrape().value(SOURCE_UP, source="acme"), 0)


class SeesPangolin(test_control_plane.ControlPlane):
    """The server is root's, in a namespace without a name."""

    @classmethod
    def setUpClass(cls) -> None:
        service.relay_wireguard(cls)
        service.serve_processes(cls)
        cls.enterClassContext(mock.patch.object(harness, "Exporter", service.Service))
        super().setUpClass()
        cls.world.state.folder.chmod(0o755)


def load_tests(loader: unittest.TestLoader, *_: object) -> unittest.TestSuite:
    chosen = [SeesPangolin("test_requests_to_the_dashboard"), SeesPangolin("test_pangolin_is_started_anew")]
    return unittest.TestSuite([*loader.loadTestsFromTestCase(AsService), *chosen])


if __name__ == "__main__":
    harness.main()
