#!/usr/bin/env python3
"""What goes wrong with tunnels, and whether the metrics say so: in time, once, with the right reason and number."""

import contextlib
import os
import re
import signal
import socket
import threading
import time
from pathlib import Path

import harness
from accounts import difference, exporter_book, host_end, site_end, stage
from connections import Caller, Firewall, tcp_counter
from harness import wait_for
from lab import addresses
from lab.wireguard import Implementation
from lab.world import Site, World
from readings import WIREGUARD, NeverBackwards, Tally, feature_enabled
from traffic import Drizzle
from witness import device_statistics

TAG = "ill"
RECONNECTS, FALLS = "pangolin_tunnel_reconnects_total", "pangolin_site_connection_drops_total"
DROPS, CONNECTIONS = "pangolin_site_packet_drops_total", "pangolin_tcp_connections_total"
RETRANSMITS, UP = "pangolin_tcp_retransmits_total", "pangolin_tunnel_up"

# Definition of pangolin_tunnel_up: seconds since the last handshake, and since the last packet.
HANDSHAKE_LASTS, PACKET_LASTS = 180, 25
NOTICED_WITHIN = 5
NO_PEER = str(addresses.site_address(60))


def names_of_reasons() -> bool:
    """Since 5.17 the kernel says why it drops a packet."""
    return tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) >= (5, 17)


def reason(name: str) -> str:
    return name if names_of_reasons() else "not_specified"


def sent_again(world: World) -> int:
    """Without those that the host could not send, of which the kernel tells nobody before Linux 6.16."""
    namespace = world.host.namespace
    return tcp_counter(namespace, "RetransSegs") - tcp_counter(namespace, "TCPRetransFail")


class Timeline:
    """When each site's tunnel went up or down as /metrics had it, in wall-clock time."""

    def __init__(self, exporter: harness.Exporter) -> None:
        self.exporter = exporter
        self.changes: dict[str, list[tuple[float, float]]] = {}
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name="timeline")

    def _run(self) -> None:
        while not self.stopping.wait(0.25):
            with contextlib.suppress(AssertionError, OSError):
                samples = self.exporter.scrape()
                for labels, value in samples.select(UP, **WIREGUARD):
                    seen = self.changes.setdefault(labels["site_id"], [])
                    if not seen or seen[-1][1] != value:
                        seen.append((time.time(), value))

    def __enter__(self) -> "Timeline":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.thread.join()


def drops(exporter: harness.Exporter, site_id: str, direction: str, name: str) -> float:
    return exporter.scrape().value(DROPS, site_id=site_id, direction=direction, reason=name) or 0


def is_up(exporter: harness.Exporter, site: Site) -> float | None:
    return exporter.scrape().value(UP, site_id=site.nice_id, **WIREGUARD)


def standing_still(process: int) -> bool:
    """A stopped process goes on until each of its threads has seen the signal."""
    states = [
        path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{process}/task").glob("*/stat")
    ]
    return set(states) == {"T"}


def send_datagrams(world: World, address: str, count: int) -> None:
    with world.host.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as outbox:
        outbox.bind((host_end(world).address, 0))
        for number in range(count):
            with contextlib.suppress(OSError):  # WireGuard says "no key available" to the sender
                outbox.sendto(bytes(100 + number % 100), (address, 9))


class Health(harness.LabTest):
    def check_drops(
        self, exporter: harness.Exporter, key: tuple[str, str, str], expected: float, timeout: float = 20
    ) -> None:
        def counted() -> bool:
            found = drops(exporter, *key)
            assert found == expected, (
                f"{key}: {found} counted, {expected} dropped; all: {self.all_drops(exporter)}"
            )
            return True

        wait_for(f"{expected} drops {key}", counted, timeout)

    @staticmethod
    def all_drops(exporter: harness.Exporter) -> dict:
        return {
            (labels["site_id"], labels["direction"], labels["reason"]): value
            for labels, value in exporter.scrape().select(DROPS)
        }

    # ---- tunnels that die, change and come back

    def test_tunnels(self) -> None:
        """Sites that die need three minutes to be dead; everything else happens meanwhile, on other sites."""
        with (
            stage(5, TAG) as (world, accounts, exporter),
            NeverBackwards(exporter),
            Timeline(exporter) as timeline,
        ):
            killed, silenced, rekeyed, moved, caller = world.sites
            samples = exporter.scrape()
            for feature in ("tcp", "drops"):
                self.assertTrue(feature_enabled(samples, feature), f"{feature} is not observed")
            for site in world.sites:
                wait_for(f"{site.nice_id} is up", lambda site=site: is_up(exporter, site) == 1)
            time.sleep(3)
            reconnects = Tally(exporter, RECONNECTS, "site_id", "reason")
            falls = Tally(exporter, FALLS, "site_id")

            killed.listen_port = int(killed.run(["wg", "show", killed.interface.name, "listen-port"]).stdout)
            world.stop_site(killed)
            accounts.remove_site(killed)
            died = {killed.nice_id: time.time(), silenced.nice_id: time.time()}
            site_address = addresses.underlay(silenced.index)[1].ip
            wall = Firewall(
                world.host.namespace, f"ip saddr {site_address} udp dport {addresses.LISTEN_PORT}"
            )

            self.new_key(world, accounts, exporter, rekeyed, reconnects)
            self.new_endpoint(world, exporter, moved, reconnects)
            self.connections(world, exporter, caller)
            self.nobodys_packets(world, exporter)
            # A poll may have found the new key before it had its first handshake: down for that moment.
            falls.expected[(rekeyed.nice_id,)] = min(1, falls.found().get((rekeyed.nice_id,), 0))
            self.assertFalse(falls.difference(), "a tunnel went down that did not")

            self.deaths(world, exporter, timeline, died)
            for site in (killed, silenced):
                falls.expect(site.nice_id)
            falls.check("two tunnels went down")
            self.control_plane_alone(exporter, silenced, wall)

            wall.remove()
            world.start_site(killed)
            for site in (killed, silenced):
                wait_for(
                    f"{site.nice_id} is up again", lambda site=site: is_up(exporter, site) == 1, timeout=40
                )
                reconnects.expect(site.nice_id, "timeout")
            reconnects.check("both came back after a timeout")
            reconnects.check_stays("at the end", 3)
            falls.check("at the end")

    def new_key(
        self, world: World, accounts, exporter: harness.Exporter, site: Site, reconnects: Tally
    ) -> None:
        """newt was restarted: another key, the same site, and not a byte lost or counted twice."""
        with self.subTest("a new key"):
            before, counted = accounts.at_host(), exporter_book(exporter.scrape())
            with Drizzle([(host_end(world, ipv6), site_end(site, ipv6)) for ipv6 in (False, True)]):
                time.sleep(2)
                world.rekey_site(site)
                world.write_database(exporter.folder / "db.sqlite")
                wait_for(
                    "a handshake with the new key",
                    lambda: world.host.interface.latest_handshakes().get(site.keys.public),
                )
                time.sleep(3)
            expected = {
                key: value
                for key, value in accounts.host_book(before, accounts.at_host()).items()
                if key[0] == site.nice_id
            }
            self.assertTrue(expected, "no traffic")

            def same() -> bool:
                found = difference(exporter_book(exporter.scrape()), counted)
                found = {key: value for key, value in found.items() if key[0] == site.nice_id}
                assert found == expected, f"witness {expected}, exporter {found}"
                return True

            wait_for("the site has every byte from before and after", same, timeout=15)
            reconnects.expect(site.nice_id, "key_change")
            reconnects.check("a new key is a reconnect")

    def new_endpoint(self, world: World, exporter: harness.Exporter, site: Site, reconnects: Tally) -> None:
        """The site's router gave it another port: the tunnel goes on without a handshake."""
        with self.subTest("a new endpoint"):
            before = world.host.interface.show("endpoints")[site.keys.public]
            site.interface.set("listen-port", str(40000 + site.index))
            wait_for(
                "the host knows the new endpoint",
                lambda: world.host.interface.show("endpoints")[site.keys.public] != before,
                timeout=20,
            )
            reconnects.expect(site.nice_id, "endpoint_change")
            reconnects.check("a new endpoint is a reconnect")
            self.assertEqual(is_up(exporter, site), 1)

    def connections(self, world: World, exporter: harness.Exporter, site: Site) -> None:
        """Only this site has TCP, so that the host's own counters are its."""
        caller = Caller(world, site)
        with self.subTest("TCP connections"):
            before = exporter.scrape().total(RETRANSMITS)
            sent_before = sent_again(world)
            tally = Tally(exporter, CONNECTIONS, "site_id", "result")
            for result, count, happen in (
                ("success", 5, lambda: caller.established(5)),
                ("success", 2, lambda: caller.established(2, ipv6=True)),
                ("success", 3, lambda: caller.established(3, by_site=True)),
                ("refused", 4, lambda: caller.refused(4)),
                ("success", 0, lambda: caller.refused_by_host(2)),
                ("unreachable", 3, lambda: caller.told_unreachable(3)),
                ("aborted", 2, lambda: caller.given_up(2)),
                ("timeout", 3, lambda: caller.timed_out(3)),
            ):
                happen()
                if count:
                    tally.expect(site.nice_id, result, count=count)
                tally.check(f"{count} times {result}")
            again = caller.with_losses()
            tally.expect(site.nice_id, "success")
            tally.check("a connection with losses")
            self.assertGreater(again, 2, "the test lost nothing")

            def same() -> bool:
                expected = sent_again(world) - sent_before
                found = {
                    (labels["site_id"],): value for labels, value in exporter.scrape().select(RETRANSMITS)
                }
                total = sum(found.values()) - before
                assert total == expected, (
                    f"{expected} segments sent again (RetransSegs less TCPRetransFail), {total} counted: {found}"
                )
                return True

            wait_for("every segment sent again is counted", same, timeout=10)
            self.assertEqual(
                exporter.scrape().value(RETRANSMITS, site_id=site.nice_id),
                exporter.scrape().total(RETRANSMITS),
            )

    def nobodys_packets(self, world: World, exporter: harness.Exporter) -> None:
        with self.subTest("packets to an address without a peer"):
            key = ("unassigned", "egress", "wireguard_no_peer")
            before = drops(exporter, *key)
            send_datagrams(world, NO_PEER, 17)
            self.check_drops(exporter, key, before + 17)

    def deaths(
        self, world: World, exporter: harness.Exporter, timeline: Timeline, died: dict[str, float]
    ) -> None:
        handshakes = world.host.interface.latest_handshakes()
        dead = {
            site.nice_id: max(
                handshakes[site.keys.public] + HANDSHAKE_LASTS, died[site.nice_id] + PACKET_LASTS
            )
            for site in world.sites
            if site.nice_id in died
        }
        time.sleep(max(0, max(dead.values()) + NOTICED_WITHIN + 1 - time.time()))
        for site_id, moment in dead.items():
            with self.subTest("a tunnel goes down", site=site_id):
                changes = timeline.changes[site_id]
                self.assertEqual([value for _, value in changes], [1, 0], f"up and down: {changes}")
                late = changes[1][0] - moment
                # `wg show` has whole seconds, cut off.
                self.assertGreater(late, -1, f"down {-late:.1f} s before it was dead")
                self.assertLess(late, NOTICED_WITHIN + 1, f"down only {late:.1f} s after it was dead")

    def control_plane_alone(self, exporter: harness.Exporter, site: Site, wall: Firewall) -> None:
        """Pangolin says online, and nothing gets through: the difference is what operators need to see."""
        with self.subTest("blackholed tunnel"):
            samples = exporter.scrape()
            online = {
                transport: samples.value("pangolin_site_online", site_id=site.nice_id, transport=transport)
                for transport in ("websocket", "wireguard")
            }
            self.assertEqual(online, {"websocket": 1, "wireguard": 0})
            self.assertEqual(is_up(exporter, site), 0)
            key = (site.nice_id, "ingress", f"underlay_{reason('netfilter_drop')}")

            def same() -> bool:
                dropped = wall.dropped()
                found = drops(exporter, *key)
                assert found == dropped > 0, (
                    f"nft dropped {dropped}, {key} says {found}; all: {self.all_drops(exporter)}"
                )
                return True

            wait_for("every packet that nft drops is counted", same, timeout=15)

    # ---- packets that WireGuard itself drops

    def test_full_queues(self) -> None:
        with stage(1, TAG) as (world, _accounts, exporter), NeverBackwards(exporter):
            self.assertTrue(feature_enabled(exporter.scrape(), "drops"), "drops are not observed")
            site = world.sites[0]
            if world.host.interface.implementation is Implementation.KERNEL:
                self.no_endpoint(world, exporter, site)
                self.waiting_for_a_handshake(world, exporter, site)
            else:
                self.device_queue(world, exporter, site)
            time.sleep(3)  # for whoever watches the counters

    def statistics(self, world: World) -> dict[str, int]:
        return device_statistics(world.host.namespace, world.host.interface.name)["tx"]

    def no_endpoint(self, world: World, exporter: harness.Exporter, site: Site) -> None:
        """A peer that has never called: nowhere to send."""
        with self.subTest("no endpoint"):
            key = (site.nice_id, "egress", "wireguard_no_endpoint")
            world.hush_site(site)
            world.renew_peer(site)
            time.sleep(3)
            errors, before = self.statistics(world)["errors"], drops(exporter, *key)
            send_datagrams(world, site.address, 11)
            self.assertEqual(self.statistics(world)["errors"] - errors, 11)
            self.check_drops(exporter, key, before + 11)

    def waiting_for_a_handshake(self, world: World, exporter: harness.Exporter, site: Site) -> None:
        """128 packets and the next one wait for a handshake, then the oldest make room (MAX_STAGED_PACKETS)."""
        with self.subTest("full queue"):
            key = (site.nice_id, "egress", "wireguard_queue_full")
            world.renew_peer(site, f"{addresses.underlay(site.index)[1].ip}:9")
            time.sleep(3)
            dropped, before = self.statistics(world)["dropped"], drops(exporter, *key)
            send_datagrams(world, site.address, 300)
            dropped = self.statistics(world)["dropped"] - dropped
            self.assertEqual(dropped, 300 - 129)
            self.check_drops(exporter, key, before + dropped)

    def device_queue(self, world: World, exporter: harness.Exporter, site: Site) -> None:
        """A wireguard-go that gets no time: its device's queue is full."""
        with self.subTest("full queue"):
            interface = world.host.interface
            key = (site.nice_id, "egress", reason("full_ring"))
            world.host.namespace.ip("link", "set", interface.name, "txqueuelen", "64")
            dropped, before = self.statistics(world)["dropped"], drops(exporter, *key)
            os.kill(interface.process.pid, signal.SIGSTOP)
            try:
                wait_for("every thread stands still", lambda: standing_still(interface.process.pid), timeout=10)
                send_datagrams(world, site.address, 500)
                grown = self.statistics(world)["dropped"] - dropped
            finally:
                os.kill(interface.process.pid, signal.SIGCONT)
            self.assertEqual(grown, 500 - 64, "the queue did not overflow as it should")
            self.check_drops(exporter, key, before + grown)


if __name__ == "__main__":
    harness.main()
