#!/usr/bin/env python3
"""The tools of the resource tests against each other, without the exporter: what Traefik, lab_newt, nginx, the echoes
and the witnesses say of the same traffic must be the same, and each failure must be what it is meant to be."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import harness
from harness import wait_for
from lab.backends import FILES, Exchange, Nginx
from lab.resources import Plan, Resource, Target
from lab.web_client import Connection
from lab.world import World
from newt import Newt, newt_program
from resource_accounts import ResourceAccounts, host_sockets
from resource_errors import CASES
from resource_world import HTTP, ResourceWorld

TAG = "traefik"


class NewtModes(harness.LabTest):
    """lab_newt by itself, dialled from the host through the tunnel."""

    def test_every_mode(self) -> None:
        with World(1, TAG) as world:
            world.wait_connected(30 * harness.SLOWNESS)
            site, plan = world.sites[0], Plan(world)
            place = plan.newt(site)
            web, dead = place.target(HTTP), place.target(8099)
            Nginx(site.namespace, "newt", [f"127.0.0.1:{HTTP}"])
            relays = [("tcp", target, (target.ip, target.port)) for target in (web, dead)]
            with contextlib.ExitStack() as stack:
                newt = stack.enter_context(
                    contextlib.closing(Newt(newt_program(world.state.folder), site.namespace, relays))
                )

                def dial(target: Target) -> Connection:
                    made = Connection(world.host.namespace, *target.address, timeout=10)
                    return stack.enter_context(contextlib.closing(made))

                response = dial(web).ask("GET", "/large")
                self.assertEqual(len(response.read()), FILES["large"])

                with self.assertRaises(ConnectionError):
                    dial(dead).ask("GET", "/small")
                self.assertEqual(newt.counts(dead)["closed_undialled"], 1)

                newt.set_mode(web, "reset", 70_000)
                raw = dial(web)
                raw.connect()
                raw.sock.sendall(b"GET /large HTTP/1.0\r\n\r\n")
                got = 0
                with self.assertRaises(ConnectionResetError):
                    while part := raw.sock.recv(65536):
                        got += len(part)
                self.assertEqual(got, 70_000)

                newt.set_mode(web, "silent")
                raw = dial(web)
                raw.timeout = 1
                with self.assertRaises(TimeoutError):
                    raw.ask("GET", "/small")
                raw.close()
                newt.set_mode(web, "close")
                with self.assertRaises(OSError):
                    dial(web).ask("GET", "/small")
                newt.set_mode(web, "absent")
                with self.assertRaises(ConnectionRefusedError):
                    dial(web).connect()
                newt.set_mode(web, "relay")
                self.assertEqual(dial(web).ask("GET", "/small").status, 200)

                counts = newt.counts(web)
                self.assertEqual(counts["accepted"], 5, counts)
                self.assertEqual(counts["reset_by_mode"], 1, counts)
                self.assertEqual(counts["closed_by_mode"], 1, counts)


class Tools(harness.LabTest):
    stage: ResourceWorld

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.stage = cls.enterClassContext(ResourceWorld(TAG))
        cls.accounts = cls.enterClassContext(contextlib.closing(ResourceAccounts(cls.stage)))

    def test_http(self) -> None:
        """Files of all sizes and an upload, through Traefik, to a newt site, a WireGuard site and the local site."""
        stage = self.stage
        for resource, nginx in (
            (stage.web_1, stage.nginx_1),
            (stage.files, stage.nginx_3),
            (stage.local_web, stage.nginx_local),
        ):
            with self.subTest(resource.name):
                before, by_traefik = self.accounts.read(), stage.traefik.service_counts(resource.service)
                served = len(nginx.exchanges())
                bodies = sum(
                    len(stage.fetch(resource, f"/{name}").body) for name in FILES for _ in range(3)
                )
                self.assertEqual(bodies, 3 * sum(FILES.values()))
                upload = bytes(500_000)
                self.assertEqual(
                    stage.fetch(resource, "/upload/one", method="PUT", body=upload).status // 100, 2
                )
                times = 3 * len(FILES) + 1
                exchanges = self.exchanges(nginx, served, times)
                self.assertTrue(all(exchange.host == resource.full_domain for exchange in exchanges))
                self.assertEqual(sum(exchange.body for exchange in exchanges), bodies)
                now = stage.traefik.service_counts(resource.service)
                self.assertEqual(now["requests"] - by_traefik["requests"], times)
                self.check_payload(resource, before, exchanges)

    def exchanges(self, nginx: Nginx, since: int, times: int) -> list[Exchange]:
        wait_for(
            f"nginx has logged {times} exchanges", lambda: len(nginx.exchanges()) >= since + times, timeout=5
        )
        found = nginx.exchanges()[since:]
        self.assertEqual(len(found), times)
        return found

    def check_payload(self, resource: Resource, before, exchanges: list[Exchange]) -> None:
        """The witnesses' TCP payload is what nginx received and sent, heads and bodies."""
        book = self.accounts.book(before, self.accounts.read())
        (target,) = resource.targets
        if target.place.type == "local":
            self.assertFalse(book, "a local site's traffic went through a tunnel")
            return
        self.assertEqual({identity for identity, _ in book}, {target.identity}, "traffic for other targets")
        for direction, amount in (
            ("ingress", sum(exchange.sent for exchange in exchanges)),
            ("egress", sum(exchange.received for exchange in exchanges)),
        ):
            book.check_payload(target, direction, amount, "nginx")
            self.assertGreater(book[target.identity, direction].amount.bytes, amount)

    def test_two_sites_share_a_resource(self) -> None:
        stage = self.stage
        before = [stage.newt_of(target).counts(target) for target in stage.shared.targets]
        for _ in range(10):
            self.assertEqual(stage.fetch(stage.shared, "/small").status, 200)
        after = [stage.newt_of(target).counts(target) for target in stage.shared.targets]
        grown = [new["bytes_to_client"] - old["bytes_to_client"] for old, new in zip(before, after)]
        self.assertEqual(grown[0], grown[1], "Traefik takes them in turn")
        self.assertGreater(grown[0], 5 * FILES["small"])

    def test_raw_tcp(self) -> None:
        stage = self.stage
        for resource, echo, port in (
            (stage.stream, stage.echo_1, 9000),
            (stage.queue, stage.echo_3, 9000),
            (stage.local_stream, stage.echo_local, 9000),
        ):
            with self.subTest(resource.name):
                before, echoed = self.accounts.read(), echo.report()[port]
                for size in (1, 1000, 200_000):
                    stage.echo(resource, bytes(range(256)) * (size // 256) + bytes(size % 256))
                wait_for("the echo's connections have ended", lambda: echo.report()[port]["active"] == 0)
                now = echo.report()[port]
                self.assertEqual(now["connections"] - echoed["connections"], 3)
                self.assertEqual(now["bytes_sent"] - echoed["bytes_sent"], 201_001)
                book = self.accounts.book(before, self.accounts.read())
                (target,) = resource.targets
                if target.place.type == "local":
                    self.assertFalse(book, "a local site's traffic went through a tunnel")
                else:
                    for direction in ("ingress", "egress"):
                        book.check_payload(target, direction, 201_001, "the echo")

    def test_udp_with_fragments(self) -> None:
        """Datagrams larger than the tunnel's MTU travel in parts, and all parts are the resource's."""
        stage = self.stage
        sizes = [1, 500, 1200, 1252, 1253, 4000, 8000]  # Traefik reads no larger ones than 8 KiB
        before, echoed = self.accounts.read(), stage.echo_1.report()[9001]
        stage.echo_datagrams(stage.datagrams, sizes)
        now = stage.echo_1.report()[9001]
        self.assertEqual(now["datagrams"] - echoed["datagrams"], len(sizes))
        book = self.accounts.book(before, self.accounts.read())
        (target,) = stage.datagrams.targets
        for direction in ("ingress", "egress"):
            self.assertEqual(book[target.identity, direction].payload, sum(sizes), direction)
            self.assertGreater(book[target.identity, direction].amount.packets, len(sizes))
        self.assertEqual({identity for identity, _ in book}, {target.identity})

    def test_connections_are_seen_alike(self) -> None:
        stage = self.stage
        (target,) = stage.stream.targets
        with contextlib.ExitStack() as stack:
            for _ in range(7):
                stack.enter_context(stage.dial(stage.stream))
            wait_for("newt has 7", lambda: stage.newt_of(target).counts(target)["active"] == 7)
            self.assertEqual(host_sockets(stage, target), {"established": 7})
            wait_for("the echo has 7", lambda: stage.echo_1.report()[9000]["active"] == 7)
            self.assertEqual(stage.traefik.open_connections("tcp-15432"), 7)
        wait_for("newt has none", lambda: stage.newt_of(target).counts(target)["active"] == 0)

    def test_every_failure_is_what_it_is_meant_to_be(self) -> None:
        """By what visitors see (Case itself checks that), and by what the host's kernel counts of its attempts."""
        stage = self.stage
        for case in CASES:
            with self.subTest(case.name):
                before = tcp_counters(stage)
                case.provoke(stage)
                after = tcp_counters(stage)
                failed = after["AttemptFails"] - before["AttemptFails"]
                # Where there is no route the kernel gives up before it calls it an attempt.
                never_sent = case.name == "route missing"
                attempted = {"connect_refused", "unreachable"}
                if case.error_type in attempted and not never_sent:
                    self.assertGreaterEqual(failed, case.times)
                if never_sent or case.error_type in ("reset", "early_close"):
                    self.assertEqual(failed, 0)

    def test_everything_is_described(self) -> None:
        """Pangolin's names in Traefik, the database in every schema, sites.yml."""
        stage = self.stage
        raw = stage.traefik.api("/api/rawdata")
        self.assertIn("2-Shop-more-service@http", raw["services"])
        self.assertIn("2-Shop-more-router@http", raw["routers"])
        self.assertIn("4-Database-service@http", raw["tcpServices"])
        self.assertIn("5-Game-service@http", raw["udpServices"])
        folder = Path(stage.world.state.folder)
        for schema in ("1.9.0", "1.17.0", "1.19.0", "1.22.0"):
            path = folder / f"described-{schema}.sqlite"
            stage.plan.write_database(path, schema)
            stage.plan.write_database(path, schema)
            with contextlib.closing(sqlite3.connect(path)) as database:
                ((targets,),) = database.execute("SELECT count(*) FROM targets")
                self.assertEqual(targets, stage.plan.targets)
                kinds = dict(database.execute('SELECT "niceId", "type" FROM "sites"'))
                self.assertEqual(sorted(kinds.values()), ["local", "newt", "newt", "wireguard"])
        self.assertIn("type: wireguard", stage.plan.sites_yaml())

    def test_clients_are_no_sites(self) -> None:
        plan = Plan(self.stage.world)
        plan.http("Web", plan.newt(self.stage.world.sites[0]).target(HTTP))
        client = self.stage.world.sites[1]
        plan.client(client)
        path = self.stage.world.state.folder / "clients.sqlite"
        plan.write_database(path)
        with contextlib.closing(sqlite3.connect(path)) as database:
            self.assertEqual(
                list(database.execute('SELECT "niceId", "pubKey", "exitNodeSubnet" FROM "clients"')),
                [(client.nice_id, client.keys.public, client.prefix)],
            )
            self.assertFalse(
                list(database.execute('SELECT 1 FROM "sites" WHERE "pubKey" = ?', (client.keys.public,)))
            )


def tcp_counters(stage: ResourceWorld) -> dict[str, int]:
    """The Tcp line of /proc/net/snmp in the host's namespace."""
    lines = stage.world.host.namespace.read_file("/proc/thread-self/net/snmp").splitlines()
    names, values = (line.split()[1:] for line in lines if line.startswith("Tcp:"))
    return dict(zip(names, map(int, values)))


if __name__ == "__main__":
    harness.main()
