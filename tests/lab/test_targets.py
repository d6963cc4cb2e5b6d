#!/usr/bin/env python3
"""Targets, clients and relayed traffic without a Traefik: this program dials from the host as a proxy does.

Short, where test_resources.py is thorough: bytes, connections, every cause of an error, and who is charged for what.
"""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import time

import harness
import traffic
from accounts import host_end, site_end
from lab.backends import Echo
from lab.namespace import Namespace
from lab.outside import CONTAINER_LINK, add_container
from lab.resources import Place, Plan, Resource, Target
from lab.world import World
from newt import Newt, newt_program
from resource_world import exchange, nft, rule
from test_resources import ACTIVE, BACKEND_ERRORS, BYTES, ERRORS, HEALTH, ResourceTest

ECHO, DATAGRAMS, NOTHING = 9000, 9001, 8099
CONTAINER = str(CONTAINER_LINK[1].ip)
RELAY = 45678
REJECTED = 41999
DIAL_TIMEOUT = 2.5  # seconds: the first SYN is sent again after one


class DirectWorld:
    """Site 1 is a newt, site 2 a client; a local site's target is in a container. What ResourceTest wants of a stage."""

    def __init__(self, tag: str) -> None:
        self.world = World(2, tag)
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> DirectWorld:
        with self.stack:  # closes it again if anything below fails
            self.stack.enter_context(self.world)
            self.world.wait_connected(30 * harness.SLOWNESS)
            self.container: Namespace = add_container(self.world)
            site = self.world.sites[0]
            plan = self.plan = Plan(self.world)
            newt, local = plan.newt(site), plan.local()
            plan.client(self.world.sites[1])
            self.stream = plan.tcp("Stream", 15432, newt.target(ECHO))
            self.datagrams = plan.udp("Game", 15433, newt.target(DATAGRAMS))
            self.dead = plan.tcp("Dead", 15434, newt.target(NOTHING))
            self.rejected = plan.tcp("Rejected", 15435, newt.target(REJECTED))
            self.local = plan.tcp("Local", 15436, local.target(ECHO, CONTAINER))
            self.add_resources(newt, local)
            self._keep(Echo(site.namespace, tcp=[f"127.0.0.1:{ECHO}"], udp=[f"127.0.0.1:{DATAGRAMS}"]))
            self.local_echo = self._keep(Echo(self.container, tcp=[f"{CONTAINER}:{ECHO}"]))
            relays = [
                ("udp" if resource.mode == "udp" else "tcp", target, (target.ip, target.port))
                for resource, target in plan.pairs()
                if target.place is newt
            ]
            self.newt = self._keep(Newt(newt_program(self.world.state.folder), site.namespace, relays))
            # The kernel says "no route to host" only so often to the same address; errors here are counted one by one.
            site.namespace.set_switch("net/ipv4/icmp_ratelimit", 0)
            port = self.rejected.targets[0].address[1]
            nft(site.namespace, f"tcp dport {port} reject with icmp type host-unreachable")
            self.stack = self.stack.pop_all()
        return self

    def add_resources(self, newt: Place, local: Place) -> None:
        """Those of a derived world, with what is behind them."""

    def _keep(self, closes):
        return self.stack.enter_context(contextlib.closing(closes))

    def __exit__(self, *error: object) -> None:
        self.stack.__exit__(*error)

    def newt_of(self, _target: Target) -> Newt:
        return self.newt

    # ---- what a proxy does

    def socket(self, kind: int) -> socket.socket:
        made = self.world.host.namespace.socket(socket.AF_INET, kind)
        made.settimeout(20 * harness.SLOWNESS)
        return made

    def dial(self, resource: Resource, timeout: float | None = None) -> socket.socket:
        """Without a timeout the kernel hands out the error: a program that polls may take it before the state changes."""
        made = self.socket(socket.SOCK_STREAM)
        try:
            made.settimeout(timeout)
            made.connect(resource.targets[0].address)
            made.settimeout(20 * harness.SLOWNESS)
        except BaseException:
            made.close()
            raise
        return made


class Targets(ResourceTest):
    tag = "targets"
    make_world = DirectWorld
    stage: DirectWorld

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        with contextlib.closing(sqlite3.connect(cls.database)) as database, database:
            database.execute('UPDATE "sites" SET "listenPort" = ? WHERE "siteId" = 1', (RELAY,))
        time.sleep(3 * harness.SLOWNESS)  # for the exporter to read it

    def test_bytes(self) -> None:
        stage = self.stage
        before, scraped = self.accounts.read(), self.exporter.scrape()
        echoed = stage.local_echo.report()[ECHO]
        for resource in (stage.stream, stage.local):
            with stage.dial(resource) as made:
                exchange(made, bytes(400_000))
        with stage.socket(socket.SOCK_DGRAM) as made:
            made.connect(stage.datagrams.targets[0].address)
            for size in (1, 1200, 4000):  # the last in fragments
                made.send(bytes(size))
                self.assertEqual(len(made.recv(65536)), size)
        expected = self.by_resource(self.accounts.book(before, self.accounts.read()))
        self.assertEqual(len(expected), 4)
        now = stage.local_echo.report()[ECHO]
        local = (stage.local.targets[0].place.nice_id, stage.local.nice_id)
        expected[(*local, "egress")] = now["bytes_received"] - echoed["bytes_received"]
        expected[(*local, "ingress")] = now["bytes_sent"] - echoed["bytes_sent"]
        self.assertEqual(expected[(*local, "egress")], 400_000)
        self.expect_growth(BYTES, ("site_id", "resource_id", "direction"), scraped, expected)

    def test_connections_in_use(self) -> None:
        stage = self.stage
        with contextlib.ExitStack() as stack:
            for resource, count in ((stage.stream, 6), (stage.local, 3)):
                for _ in range(count):
                    exchange(stack.enter_context(stage.dial(resource)), b"in use")
                self.wait_published(
                    f"{count} connections of {resource.name}",
                    lambda samples, resource=resource, count=count: samples.total(
                        ACTIVE, resource_id=resource.nice_id, protocol="tcp"
                    )
                    == count,
                )
        for resource in (stage.stream, stage.local):
            self.wait_published(
                f"none of {resource.name}",
                lambda samples, resource=resource: samples.value(
                    ACTIVE,
                    site_id=resource.targets[0].place.nice_id,
                    resource_id=resource.nice_id,
                    protocol="tcp",
                )
                == 0,
            )

    # ---- errors

    def fails(self, resource: Resource, error: type[OSError], timeout: float | None = None) -> None:
        with self.assertRaises(error):
            self.stage.dial(resource, timeout)

    def ends(self, resource: Resource, send: int = 0) -> None:
        with self.stage.dial(resource) as made:
            with contextlib.suppress(OSError):
                made.sendall(bytes(send))
                while made.recv(65536):
                    pass

    def expect_errors(self, resource: Resource, error_type: str, times: int, provoke) -> None:
        with self.subTest(resource.name, error_type=error_type):
            (target,) = resource.targets
            scraped = self.exporter.scrape()
            for _ in range(times):
                provoke()
            self.expect_growth(
                ERRORS,
                ("site_id", "resource_id", "backend", "error_type"),
                scraped,
                {(target.place.nice_id, resource.nice_id, target.backend, error_type): times},
            )
            self.expect_growth(
                BACKEND_ERRORS,
                ("backend", "site_id", "error_type"),
                scraped,
                {(target.backend, target.place.nice_id, error_type): times},
            )

    @contextlib.contextmanager
    def newt_mode(self, mode: str, *after: int):
        (target,) = self.stage.stream.targets
        self.stage.newt.set_mode(target, mode, *after)
        try:
            yield
        finally:
            self.stage.newt.set_mode(target, "relay")

    def health(self, resource: Resource) -> float | None:
        (target,) = resource.targets
        return self.exporter.scrape().value(HEALTH, backend=target.backend, site_id=target.place.nice_id)

    def test_each_error_is_counted_exactly(self) -> None:
        stage = self.stage
        stream = stage.stream
        self.expect_errors(stage.dead, "early_close", 5, lambda: self.ends(stage.dead))
        self.assertEqual(self.health(stage.dead), 0)
        with self.newt_mode("absent"):
            self.expect_errors(stream, "connect_refused", 6, lambda: self.fails(stream, ConnectionRefusedError))
        self.assertEqual(self.health(stream), 0)
        with self.newt_mode("reset", 5000):
            self.expect_errors(stream, "reset", 4, lambda: self.ends(stream, 20_000))
        port = stream.targets[0].address[1]
        with rule(stage.world.sites[0].namespace, f"tcp dport {port} drop"):
            self.expect_errors(
                stream, "connect_timeout", 2, lambda: self.fails(stream, TimeoutError, DIAL_TIMEOUT)
            )
        self.expect_errors(stage.rejected, "unreachable", 3, lambda: self.fails(stage.rejected, OSError))
        with rule(stage.container, f"tcp dport {ECHO} reject with tcp reset"):
            self.expect_errors(
                stage.local, "connect_refused", 3, lambda: self.fails(stage.local, ConnectionRefusedError)
            )
        scraped = self.exporter.scrape()
        for resource in (stream, stage.local):
            stage.dial(resource).close()
            with stage.dial(resource) as made:
                exchange(made, b"complete")
        self.expect_growth(ERRORS, ("resource_id", "error_type"), scraped, {})
        self.assertEqual(self.health(stream), 1)

    # ---- who else uses the tunnel

    def test_clients_and_relayed_traffic_are_no_resources(self) -> None:
        world, client = self.stage.world, self.stage.world.sites[1]
        self.accounts.read()  # waits until the tunnels are quiet
        time.sleep(2 * harness.SLOWNESS)
        scraped = self.exporter.scrape()
        traffic.echo(host_end(world), site_end(client), [56] * 10)
        self.expect_growth(
            "pangolin_client_bandwidth_bytes_total",
            ("client_id", "direction", "protocol"),
            scraped,
            {(client.nice_id, direction, "icmp"): 840 for direction in ("ingress", "egress")},
        )
        self.expect_growth("pangolin_site_bandwidth_bytes_total", ("site_id", "direction", "protocol"), scraped, {})
        site = world.sites[0]
        with (
            site.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as olm,
            self.stage.socket(socket.SOCK_DGRAM) as gerbil,
        ):
            olm.bind((site.address, RELAY))
            olm.settimeout(20)
            for _ in range(20):
                gerbil.sendto(bytes(100), (site.address, RELAY))
                _, sender = olm.recvfrom(65536)
                olm.sendto(bytes(50), sender)
                gerbil.recv(65536)
        relayed = {"egress": 20 * 128, "ingress": 20 * 78}
        self.expect_growth(
            "pangolin_relay_bytes_total",
            ("site_id", "direction"),
            scraped,
            {(site.nice_id, direction): amount for direction, amount in relayed.items()},
        )
        self.expect_growth(
            "pangolin_site_bandwidth_bytes_total",
            ("site_id", "direction", "protocol"),
            scraped,
            {(site.nice_id, direction, "udp"): amount for direction, amount in relayed.items()},
        )
        self.expect_growth(BYTES, ("site_id", "resource_id", "direction"), scraped, {})


if __name__ == "__main__":
    harness.main()
