#!/usr/bin/env python3
"""Targets that are names, as local sites have them: resolved as Traefik does, inside its network namespace.

What is called Traefik here is a program that sleeps; it has files of its own for /etc/hosts and /etc/resolv.conf, as
in a container, and a name server that only its network namespace reaches. This program dials in its stead.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import struct
import threading
from collections import Counter
from pathlib import Path

import harness
from lab.backends import Echo
from lab.namespace import Namespace
from lab.outside import CONTAINER_LINK, add_container
from lab.resources import Plan, Resource
from lab.world import World
from resource_world import exchange

ECHO, OTHER = 9000, 9002
FIRST = str(CONTAINER_LINK[1].ip)
SECOND = str(CONTAINER_LINK[1].ip + 1)
NAME_SERVER = "127.0.0.11"  # Docker's
BYTES = "pangolin_resource_bandwidth_bytes_total"


class NameServer:
    """DNS (RFC 1035) over UDP: `addresses` of IPv4; None where it is to say nothing."""

    def __init__(self, namespace: Namespace, addresses: dict[str, list[str] | None]) -> None:
        self.addresses = addresses
        self.asked: Counter[str] = Counter()
        self.socket = namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((NAME_SERVER, 53))
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                query, sender = self.socket.recvfrom(512)
            except OSError:
                return
            if not query:  # closed
                return
            if answer := self._answer(query):
                self.socket.sendto(answer, sender)

    def _answer(self, query: bytes) -> bytes | None:
        labels, at = [], 12
        while size := query[at]:
            labels.append(query[at + 1 : at + 1 + size].decode().lower())
            at += 1 + size
        (kind,) = struct.unpack_from("!H", query, at + 1)
        question = query[12 : at + 5]
        name = ".".join(labels)
        self.asked[name] += 1
        known = self.addresses.get(name, [])
        if known is None:
            return None
        records = [
            b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 600, 4) + socket.inet_aton(each)
            for each in (known if kind == 1 else [])
        ]
        refusal = 0 if name in self.addresses else 3
        head = query[:2] + struct.pack("!HHHHH", 0x8580 | refusal, 1, len(records), 0, 0)
        return head + question + b"".join(records)

    def close(self) -> None:
        # A thread that reads is not woken by close().
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join(5)


class NamesWorld:
    """A local site with a target that the name server knows, one from /etc/hosts, and one that nobody knows."""

    def __init__(self, tag: str) -> None:
        self.world = World(1, tag)
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> NamesWorld:
        with self.stack:  # closes it again if anything below fails
            self.stack.enter_context(self.world)
            self.host: Namespace = self.world.host.namespace
            self.folder: Path = self.world.state.folder
            container = add_container(self.world)
            container.ip("address", "add", f"{SECOND}/24", "dev", "eth0")
            self.plan = Plan(self.world)
            local = self.plan.local()
            self.served = self.plan.tcp("Served", 15432, local.target(ECHO, "echo"))
            self.listed = self.plan.tcp("Listed", 15433, local.target(OTHER, "host.docker.internal"))
            self.unknown = self.plan.tcp("Unknown", 15434, local.target(ECHO, "nobody"))
            listens = ([f"{FIRST}:{ECHO}"], [f"{SECOND}:{ECHO}", f"{SECOND}:{OTHER}"])
            self.echoes = [self._keep(Echo(container, tcp=each)) for each in listens]
            self.names = self._keep(NameServer(self.host, {"echo": [FIRST]}))
            self._start_traefik()
            self.stack = self.stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.__exit__(*error)

    def _keep(self, closes):
        return self.stack.enter_context(contextlib.closing(closes))

    def _start_traefik(self) -> None:
        program = self.folder / "traefik"
        shutil.copy(shutil.which("sleep"), program)
        (self.folder / "resolv.conf").write_text(f"nameserver {NAME_SERVER}\noptions ndots:0\n")
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost\n{SECOND} other Host.Docker.Internal # extra_hosts\n")
        mounts = " && ".join(f"mount --bind {self.folder}/{file} /etc/{file}" for file in ("resolv.conf", "hosts"))
        process = self.host.start(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", f"{mounts} && exec {program} 600"]
        )
        self.stack.callback(self.host.state.stop_process, process.pid)

    def dial(self, address: tuple[str, int], size: int) -> None:
        """The echo's answer has the same size."""
        with self.host.socket(socket.AF_INET, socket.SOCK_STREAM) as made:
            made.settimeout(20 * harness.SLOWNESS)
            made.connect(address)
            exchange(made, bytes(size))

    def echoed(self, port: int) -> int:
        reports = [echo.report() for echo in self.echoes]
        return sum(report[port]["bytes_sent"] for report in reports if port in report)


class Names(harness.LabTest):
    def test_targets_that_are_names(self) -> None:
        with NamesWorld("names") as stage:
            database = stage.folder / "pangolin/db.sqlite"
            stage.plan.write_database(database)
            settings = {
                "wireguard": {"netns": stage.host.name},
                "metadata": {"sqlite": str(database), "refresh": "1s"},
            }
            with harness.Exporter(settings, folder=database.parent) as exporter:
                exporter.wait_ready(60)
                self.counted(exporter, stage, stage.served, (FIRST, ECHO), 10_000)
                served = self.bytes(exporter, stage.served)
                self.counted(exporter, stage, stage.listed, (SECOND, OTHER), 20_000)
                self.assertEqual(self.bytes(exporter, stage.served), served, "by the other resource's traffic")
                self.assertNotIn("host.docker.internal", stage.names.asked, "/etc/hosts goes first")
                samples = exporter.scrape()
                self.assertIsNotNone(samples.value("pangolin_backend_health_status", backend=f"echo:{ECHO}"))
                self.assertIn("nobody has no address", exporter.log())

                # The container was made anew: both addresses are counted, each once.
                stage.names.addresses["echo"] = [SECOND]
                self.counted(exporter, stage, stage.served, (SECOND, ECHO), 30_000)

                # The name server does not answer: the last address holds.
                stage.names.addresses["echo"] = None
                asked = stage.names.asked["echo"]
                harness.wait_for("the name is asked for in vain", lambda: stage.names.asked["echo"] > asked + 8)
                self.counted(exporter, stage, stage.served, (SECOND, ECHO), 40_000)

    def bytes(self, exporter: harness.Exporter, resource: Resource) -> float:
        """The direction of the connection's answers."""
        return exporter.scrape().total(BYTES, resource_id=resource.nice_id, direction="ingress")

    def counted(
        self, exporter: harness.Exporter, stage: NamesWorld, resource: Resource, address: tuple[str, int], size: int
    ) -> None:
        """Connections of so many bytes to and fro. The first ones may come before the name is known."""
        harness.wait_for(f"{address} is {resource.name}'s", lambda: self.known(exporter, stage, resource, address))
        before, sent = self.bytes(exporter, resource), stage.echoed(address[1])
        stage.dial(address, size)
        harness.wait_for("the echo's own number", lambda: stage.echoed(address[1]) - sent >= size, timeout=10)
        self.assertEqual(stage.echoed(address[1]) - sent, size)
        harness.wait_for(
            f"{size} bytes of {resource.name}", lambda: self.bytes(exporter, resource) - before >= size, timeout=10
        )
        self.assertEqual(self.bytes(exporter, resource) - before, size)

    def known(self, exporter: harness.Exporter, stage: NamesWorld, resource: Resource, address: tuple[str, int]) -> bool:
        before = self.bytes(exporter, resource)
        with contextlib.suppress(AssertionError):
            stage.dial(address, 1)
            harness.wait_for("a byte", lambda: self.bytes(exporter, resource) == before + 1, timeout=2.5)
            return True
        return False


if __name__ == "__main__":
    harness.main()
