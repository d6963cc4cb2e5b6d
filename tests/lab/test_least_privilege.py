#!/usr/bin/env python3
"""As the shipped unit starts it, the exporter does all of its work and can do little else."""

from __future__ import annotations

import unittest
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
        cls.enterClassContext(mock.patch.object(harness, "Exporter", service.Service))

    def check_confinement(self, exporter: service.Service) -> None:
        status = exporter.status()
        held = f"{sum(1 << NUMBERS[name] for name in service.capabilities('AmbientCapabilities')):016x}"
        for line, expected in {
            "Uid": "\t".join([str(service.USER)] * 4),
            "Groups": "",
            "CapEff": held,
            "CapPrm": held,
            "CapInh": "0" * 16,
            "CapAmb": "0" * 16,
            "NoNewPrivs": "1",
            "Seccomp": SECCOMP_FILTER,
        }.items():
            with self.subTest(line):
                self.assertEqual(status[line], expected)

    def test_follows_a_restart_of_gerbil(self) -> None:
        """Exact before and after, with another namespace and interface in between; found by its processes alone."""
        with stage(2, TAG, GERBILS) as (world, books, exporter), NeverBackwards(exporter):
            with books.checked(exporter):
                exchange(world)
            self.check_confinement(exporter)
            before = exporter_book(exporter.scrape())
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

    def test_counts_on_while_it_is_stopped(self) -> None:
        with stage(1, TAG, GERBILS) as (world, books, exporter):
            wait_counting(exporter, world)
            before, counted = books.read(), exporter_book(exporter.scrape())
            exporter.stop(detach=False)
            exchange(world)
            exporter.start()
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
                self.assertEqual(exporter.scrape().value("pangolin_exporter_source_up", source="acme"), 0)


class SeesPangolin(test_control_plane.ControlPlane):
    """The server is root's, in a namespace without a name."""

    @classmethod
    def setUpClass(cls) -> None:
        service.relay_wireguard(cls)
        cls.enterClassContext(mock.patch.object(harness, "Exporter", service.Service))
        super().setUpClass()
        cls.world.state.folder.chmod(0o755)


def load_tests(loader: unittest.TestLoader, *_: object) -> unittest.TestSuite:
    chosen = [SeesPangolin("test_requests_to_the_dashboard"), SeesPangolin("test_pangolin_is_started_anew")]
    return unittest.TestSuite([*loader.loadTestsFromTestCase(AsService), *chosen])


if __name__ == "__main__":
    harness.main()
