#!/usr/bin/env python3
"""5,000 connections a second for 20 seconds, to a local target and through a tunnel: each of them is counted.

As many as were made, and as the server accepted. What the exporter took of the processors is printed.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator

import harness
from exposition import Samples
from lab.commands import LabError
from lab.namespace import Namespace
from lab.resources import Resource
from test_resources import BACKEND_ERRORS, BYTES, ERRORS, ResourceTest, grown, series
from test_targets import CONTAINER, DirectWorld

RATE, SECONDS = 5000, 20
SERVED = 9100
CONNECTIONS = "pangolin_tcp_connections_total"
LOST = "pangolin_exporter_lost_updates_total"
CPU = "process_cpu_seconds_total"


def load_program() -> str:
    program = os.environ.get("PANGOLIN_EXPORTER_LAB_LOAD", harness.REPOSITORY / "build/tests/lab/lab_load")
    if not os.access(program, os.X_OK):
        raise LabError(f"no {program}. HINT: Build the target lab_load, or set PANGOLIN_EXPORTER_LAB_LOAD.")
    return str(program)


@contextlib.contextmanager
def server(namespace: Namespace, address: str, port: int) -> Iterator[dict]:
    """What it counted is in the dictionary afterwards."""
    process = namespace.start(
        [load_program(), "serve", address, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    counted: dict = {}
    try:
        assert process.stdout.readline() == "ready\n", "lab_load does not listen"
        yield counted
        process.stdin.close()
        counted |= json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


class LoadWorld(DirectWorld):
    def __enter__(self) -> LoadWorld:
        super().__enter__()
        newt = next(place for place in self.plan.places if place.type == "newt")
        local = next(place for place in self.plan.places if place.type == "local")
        self.behind = self.plan.tcp("Behind a tunnel", 15440, newt.target(SERVED))
        self.beside = self.plan.tcp("Beside", 15441, local.target(SERVED, CONTAINER))
        return self


class Load(ResourceTest):
    tag = "load"
    make_world = LoadWorld
    stage: LoadWorld

    def dial(self, resource: Resource) -> dict:
        address, port = resource.targets[0].address
        arguments = [load_program(), "dial", address, str(port), str(RATE), str(SECONDS)]
        return json.loads(self.stage.world.host.namespace.run(arguments, timeout=SECONDS * 3).stdout)

    def run_load(self, resource: Resource, namespace: Namespace) -> tuple[dict, Samples]:
        before = self.exporter.scrape()
        with server(namespace, *resource.targets[0].address) as counted:
            made = self.dial(resource)
        self.assertEqual(made["bad"], 0, made)
        self.assertEqual(counted["accepted"], made["good"], "as many as the server saw")
        used = self.exporter.scrape().total(CPU) - before.total(CPU)
        print(
            f"load: {resource.name}: {made['good']} connections, {made['good'] / made['seconds']:.0f} a second; "
            f"the exporter used {used:.2f} s of CPU in {made['seconds']:.1f} s",
            flush=True,
        )
        return made, before

    def expect_no_errors(self, before: Samples) -> None:
        after = self.exporter.scrape()
        for name, labels in ((ERRORS, ("error_type",)), (BACKEND_ERRORS, ("error_type",)), (LOST, ("map", "reason"))):
            self.assertEqual(grown(series(after, name, *labels), series(before, name, *labels)), {}, name)

    def test_local_target(self) -> None:
        resource = self.stage.beside
        made, before = self.run_load(resource, self.stage.container)
        labels = (resource.targets[0].place.nice_id, resource.nice_id)
        expected = {(*labels, direction): made["good"] for direction in ("ingress", "egress")}
        self.expect_growth(BYTES, ("site_id", "resource_id", "direction"), before, expected)
        self.expect_no_errors(before)

    def test_through_a_tunnel(self) -> None:
        resource, site = self.stage.behind, self.stage.world.sites[0]
        made, before = self.run_load(resource, site.namespace)
        self.expect_growth(
            CONNECTIONS, ("site_id", "result"), before, {(site.nice_id, "success"): made["good"]}, timeout=20
        )
        self.expect_no_errors(before)


if __name__ == "__main__":
    harness.main()
