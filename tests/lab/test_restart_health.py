#!/usr/bin/env python3
"""TCP statistics and drops go on to be counted while the exporter is killed, stopped and upgraded.

The books are the caller's, the kernel's RetransSegs and nftables' counters; each thing is counted once, and no counter
of any scrape falls.

PANGOLIN_EXPORTER_LAB_KILLS   times that it is killed under load (8)
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import harness
import traffic
from accounts import host_end, site_end, stage
from connections import CLOSED_PORT, Caller, Firewall
from harness import wait_for
from lab import addresses
from lab.world import Site, World
from readings import NeverBackwards, Tally, feature_enabled
from test_health import CONNECTIONS, DROPS, RETRANSMITS, reason, sent_again
from test_restart import other_build

TAG = "tally"
KILLS = int(os.environ.get("PANGOLIN_EXPORTER_LAB_KILLS", "8"))
ROUND_TRIPS = "pangolin_tunnel_latency_seconds_count"
FORBIDDEN = 7777
PEER_INFO = "pangolin_wg_peer_info"
LOST = "pangolin_exporter_lost_updates_total"


class FirewallDrops(Tally):
    """Those of nftables: TCP itself drops a packet at times, which no book but the exporter's has."""

    def __init__(self, exporter: harness.Exporter) -> None:
        super().__init__(exporter, DROPS, "site_id", "direction", "reason")

    def found(self) -> dict:
        return {key: count for key, count in super().found().items() if reason("netfilter_drop") in key[2]}


class Stage:
    """Two sites; the host drops what these send to one port, inside the tunnel."""

    def __init__(self, world: World, exporter: harness.Exporter) -> None:
        self.world, self.exporter = world, exporter
        self.first, self.second = world.sites
        self.caller = Caller(world, self.first)
        self.walls = {
            site.nice_id: Firewall(
                world.host.namespace, f"ip saddr {site.address} udp dport {FORBIDDEN}", f"pgx_site{site.index}"
            )
            for site in world.sites
        }
        self.sent = 0
        self.connections = Tally(exporter, CONNECTIONS, "site_id", "result")
        self.drops = FirewallDrops(exporter)
        self.again = sent_again(world) - exporter.scrape().total(RETRANSMITS)
        # Shared by threads.
        self.lock = threading.Lock()

    def expect_connections(self, site: Site, result: str, count: int = 1) -> None:
        with self.lock:
            self.connections.expect(site.nice_id, result, count=count)

    def expect_drops(self, site: Site, name: str, count: int = 1) -> None:
        with self.lock:
            self.drops.expect(site.nice_id, "ingress", name, count=count)

    def established(self, site: Site, count: int = 1) -> None:
        for _ in range(count):
            traffic.tcp_bulk(host_end(self.world), site_end(site), 1000, 1000)
            self.expect_connections(site, "success")

    def refused(self, count: int = 1) -> None:
        """By blocking calls: who polls may take the error before the kernel has ended the attempt, which then seems
        to have been given up."""
        for _ in range(count):
            with host_end(self.world).socket(socket.SOCK_STREAM) as dialler:
                dialler.setblocking(True)
                with contextlib.suppress(ConnectionRefusedError):
                    dialler.connect((self.first.address, CLOSED_PORT))
                    raise AssertionError("nobody refused")
            self.expect_connections(self.first, "refused")

    def forbidden(self, site: Site, count: int = 1) -> None:
        """Each from another port, so that no two of them arrive as one super-packet, which nft counts once."""
        end = site_end(site)
        for _ in range(count):
            with end.socket(socket.SOCK_DGRAM) as outbox:
                outbox.sendto(bytes(100), (host_end(self.world).address, FORBIDDEN))
            with self.lock:
                self.sent += 1

    def under_the_tunnel(self, site: Site, count: int) -> None:
        """nft drops the site's encrypted packets."""
        address = addresses.underlay(site.index)[1].ip
        rule = f"ip saddr {address} udp dport {addresses.LISTEN_PORT}"
        with Firewall(self.world.host.namespace, rule) as wall:
            end = site_end(site)
            with end.socket(socket.SOCK_DGRAM) as outbox:
                for _ in range(count):
                    outbox.sendto(bytes(100), (host_end(self.world).address, 9))
            wait_for("nft drops them", lambda: wall.dropped() >= count, timeout=10)
            time.sleep(0.2)
            self.expect_drops(site, f"underlay_{reason('netfilter_drop')}", wall.dropped())

    def round_trips(self) -> float:
        return self.exporter.scrape().total(ROUND_TRIPS, site_id=self.first.nice_id)

    def check(self, what: str) -> None:
        """All books, at a quiet moment."""
        time.sleep(0.2)  # until what was sent last is there
        for site_id, wall in self.walls.items():
            self.drops.expected[site_id, "ingress", reason("netfilter_drop")] = wall.dropped()
        arrived = sum(wall.dropped() for wall in self.walls.values())
        assert self.sent * 0.95 <= arrived <= self.sent, f"{self.sent} sent, {arrived} arrived"
        self.connections.check(what)
        self.drops.check(what)

        def same() -> bool:
            expected = sent_again(self.world) - self.again
            found = {labels["site_id"]: value for labels, value in self.exporter.scrape().select(RETRANSMITS)}
            assert sum(found.values()) == expected, f"RetransSegs less TCPRetransFail says {expected}, counted {found}"
            return True

        wait_for(f"{what}: every segment sent again is counted", same, timeout=5)
        lost = [
            (labels, value)
            for labels, value in self.exporter.scrape().select(LOST)
            if value and labels["map"] in ("tcp_counts", "drop_counts")
        ]
        assert not lost, f"updates were lost: {lost}"

    def pins(self, programs: str) -> list[Path]:
        return list(Path(self.exporter.metrics["pin_dir"]).glob(f"*/*-{programs}/*"))


@contextlib.contextmanager
def health_stage(sites: int = 2) -> Iterator[Stage]:
    # Without what takes longest to load, so that most of the time there is somebody to kill.
    with stage(sites, TAG, metrics={"http": {"enabled": False}}) as (world, _accounts, exporter):
        samples = exporter.scrape()
        for feature in ("tcp", "drops"):
            assert feature_enabled(samples, feature), f"{feature} is not observed"
        yield Stage(world, exporter)


class RestartOfHealth(harness.LabTest):
    def setUp(self) -> None:
        seed = int(os.environ.get("PANGOLIN_EXPORTER_LAB_SEED", time.time_ns() % 1_000_000))
        print(f"PANGOLIN_EXPORTER_LAB_SEED={seed}", flush=True)
        self.random = random.Random(seed)

    def test_counted_while_it_is_away(self) -> None:
        with health_stage() as steps, NeverBackwards(steps.exporter, restarts=True):
            exporter = steps.exporter
            for end in (exporter.kill, lambda: exporter.stop(detach=False)):
                self.everything_while_away(steps, end)
            builds = [other_build(exporter.folder), harness.exporter_path]
            for program in builds:
                self.upgraded(steps, program)
            # New maps of the same layout, as there is not room enough in these.
            exporter.metrics["limits"] = {"max_peers": 20000}
            self.upgraded(steps, harness.exporter_path)
            for programs in ("tcp", "drops"):
                self.assertEqual(len(steps.pins(programs)), 1, f"{programs}: {steps.pins(programs)}")
            self.interface_made_anew(steps)
            self.detached(steps)

    def everything_while_away(self, steps: Stage, end: Callable[[], None]) -> None:
        steps.established(steps.first)
        steps.refused()
        steps.forbidden(steps.second)
        idle = traffic.tcp_connection(host_end(steps.world), site_end(steps.first))
        steps.expect_connections(steps.first, "success")
        time.sleep(2.5)
        steps.connections.check("before it ends")
        round_trips = steps.round_trips()
        end()
        steps.established(steps.first, 4)
        steps.established(steps.second, 2)
        steps.refused(3)
        steps.caller.timed_out(2)
        steps.expect_connections(steps.first, "timeout", 2)
        steps.caller.with_losses()
        steps.expect_connections(steps.first, "success")
        steps.forbidden(steps.first, 10)
        steps.forbidden(steps.second, 7)
        steps.under_the_tunnel(steps.second, 12)
        opened = traffic.tcp_connection(host_end(steps.world), site_end(steps.first))
        steps.expect_connections(steps.first, "success")
        steps.exporter.start()
        steps.exporter.wait_ready(60)
        steps.check("what happened while it was away")
        # Each connection that ended, and the first sampling's word on the one that is new and open; the idle
        # one was sampled before.
        self.assertEqual(steps.round_trips() - round_trips, 4 + 1 + 1)
        for made in (*idle, *opened):
            made.close()
        time.sleep(1.5)
        steps.check("afterwards")
        self.assertEqual(steps.round_trips() - round_trips, 6 + 2)

    def upgraded(self, steps: Stage, program: Path) -> None:
        """Another layout: new maps, and the old ones' counts are credited."""
        steps.exporter.stop(detach=False)
        steps.established(steps.first, 2)
        steps.refused(2)
        steps.forbidden(steps.second, 5)
        steps.exporter.program = program
        steps.exporter.start()
        steps.exporter.wait_ready(60)
        steps.established(steps.second)
        steps.forbidden(steps.first)
        steps.check("after an upgrade")

    def interface_made_anew(self, steps: Stage) -> None:
        """What was counted to its end is credited, also by a process that did not see it; nothing piles up."""
        world, exporter = steps.world, steps.exporter
        for away in (True, False):
            if away:
                exporter.kill()
            steps.established(steps.first)
            steps.refused(2)
            steps.forbidden(steps.first, 3)
            time.sleep(0.3)  # until they are there
            world.delete_host_interface()
            if away:
                exporter.start()
                exporter.wait_alive()
                steps.check("of an interface that went while it was away")
            world.create_host_interface()
            world.wait_connected(60 * harness.SLOWNESS)
            exporter.wait_ready(60)
            wait_for("it is counted on again", lambda: feature_enabled(exporter.scrape(), "tcp"))
            time.sleep(1)
            steps.established(steps.first)
            steps.refused()
            steps.forbidden(steps.second, 4)
            steps.check("of a new interface")
            for programs in ("tcp", "drops"):
                self.assertEqual(len(steps.pins(programs)), 1, f"{programs}: {steps.pins(programs)}")

    def detached(self, steps: Stage) -> None:
        exporter = steps.exporter
        configuration = exporter.folder / "config.yml"
        shown = subprocess.run(
            [str(exporter.program), "check", f"--config.file={configuration}"], capture_output=True, text=True
        ).stdout
        for programs in ("tcp", "drops"):
            lines = [line for line in shown.splitlines() if f": {programs} of interface" in line]
            self.assertEqual(len(lines), 1, shown)
            self.assertTrue(lines[0].endswith(", attached"), lines[0])
        exporter.stop(detach=False)
        self.assertTrue(steps.pins("tcp") and steps.pins("drops"), "nothing is left to count on")
        exporter.detach()
        self.assertFalse(Path(exporter.metrics["pin_dir"]).exists())
        for wall in steps.walls.values():
            wall.remove()
        exporter.start()
        exporter.wait_ready(60)

    def test_killed_under_load(self) -> None:
        """Connections and drops all the time; the second site makes new keys, so that slots change hands."""
        with health_stage() as steps, NeverBackwards(steps.exporter, restarts=True):
            over = threading.Event()
            troubles: list[BaseException] = []

            def work(act: Callable[[], None], pause: float) -> None:
                try:
                    while not over.wait(pause):
                        act()
                except BaseException as trouble:
                    troubles.append(trouble)

            workers = [
                threading.Thread(target=work, args=(act, pause))
                for act, pause in (
                    (lambda: steps.established(steps.first), 0.002),
                    (steps.refused, 0.002),
                    (lambda: steps.forbidden(steps.first, 2), 0.002),
                )
            ]
            for worker in workers:
                worker.start()
            try:
                for number in range(KILLS):
                    self.kill_once(steps, rekey=number % 2 == 1)
            finally:
                over.set()
                for worker in workers:
                    worker.join()
            self.assertEqual(troubles, [])
            steps.exporter.wait_ready(60)
            steps.check(f"{KILLS} kills")
            print(f"    {dict(steps.connections.expected)} {dict(steps.drops.expected)}", flush=True)

    def kill_once(self, steps: Stage, rekey: bool) -> None:
        exporter, world = steps.exporter, steps.world
        steps.established(steps.second)
        steps.forbidden(steps.second, 2)
        if rekey:
            world.rekey_site(steps.second)
            world.write_database(exporter.folder / "db.sqlite")
        time.sleep(self.random.random() * 1.5)
        exporter.kill()
        if not rekey:
            # Of a peer that the exporter has not seen nothing is counted.
            steps.established(steps.second, 2)
            steps.forbidden(steps.second, 3)
        time.sleep(self.random.random() * 0.3)
        exporter.start()
        # Some are killed before, some while and some after they take over.
        if rekey or self.random.random() < 0.5:
            exporter.wait_ready(60)
            wait_for("the second site's peer is known", lambda: self.is_known(steps.second, exporter))
        else:
            time.sleep(self.random.random() * 2 * harness.SLOWNESS)

    @staticmethod
    def is_known(site: Site, exporter: harness.Exporter) -> bool:
        key = site.keys.public
        return exporter.scrape().value(PEER_INFO, public_key=key, site_id=site.nice_id) is not None


if __name__ == "__main__":
    harness.main()
