"""Keeps the accounts of a stretch of traffic: the witnesses' books against the exporter's, to the byte and packet."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import harness
from exposition import Samples
from lab import addresses
from lab.namespace import Namespace
from lab.wireguard import Implementation
from lab.world import Site, World, nice_id
from traffic import End, TrafficLost
from witness import (
    PROTOCOLS,
    Amount,
    Report,
    Witness,
    backlog_drops,
    device_statistics,
    losses,
    wait_until_quiet,
    witness_program,
)

BYTES, PACKETS = "pangolin_site_bandwidth_bytes_total", "pangolin_site_packets_total"
HOST_ADDRESSES = [str(addresses.HOST_TUNNEL.ip), str(addresses.HOST_TUNNEL_6.ip)]
# ingress: from the site to the host. Seen from the site's interface that is outgoing.
AT_SITE = {"ingress": "outgoing", "egress": "incoming"}
AT_HOST = {"ingress": "incoming", "egress": "outgoing"}

Key = tuple[str, str, str]  # site_id, direction, protocol
Book = dict[Key, Amount]


def host_end(world: World, ipv6: bool = False) -> End:
    return End(world.host.namespace, HOST_ADDRESSES[ipv6])


def site_end(site: Site, ipv6: bool = False) -> End:
    return End(site.namespace, site.address_6 if ipv6 else site.address)


def exporter_book(samples: Samples) -> Book:
    """The exporter's view; what it does not list is zero."""
    book: Book = {}
    for name in (BYTES, PACKETS):
        for labels, value in samples.select(name):
            key = (labels["site_id"], labels["direction"], labels["protocol"])
            book[key] = book.get(key, Amount()) + (
                Amount(bytes=value) if name == BYTES else Amount(packets=value)
            )
    return book


def difference(after: Book, before: Book) -> Book:
    changed = {
        key: after.get(key, Amount()) - before.get(key, Amount()) for key in after.keys() | before.keys()
    }
    return {key: amount for key, amount in changed.items() if amount != Amount()}


def describe(expected: Book, found: Book) -> str:
    lines = [
        f"{' '.join(key)}: witness {expected.get(key, Amount())}, exporter {found.get(key, Amount())}, "
        f"off by {found.get(key, Amount()) - expected.get(key, Amount())}"
        for key in sorted(expected.keys() | found.keys())
        if expected.get(key) != found.get(key)
    ]
    return "the exporter and the witness disagree:\n  " + "\n  ".join(lines)


@dataclass
class Books:
    """Everything read at one quiet moment."""

    sites: dict[str, Report]
    host: Report
    devices: dict[str, dict]
    lost: dict[str, int]


class Accounts:
    """Witnesses at every site of a world and, with the kernel's word on super-packets, at the host's interface."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.program = witness_program(world.state.folder)
        self.site_witnesses: dict[str, Witness] = {}
        for site in world.sites:
            self.add_site(site)
        self.host_witness = self.make_host_witness()

    def make_host_witness(self) -> Witness:
        """Knows the sites that there are, and those that there may be one day."""
        groups = {site.nice_id: [site.prefix, site.prefix_6] for site in self.world.sites}
        known = {site.index for site in self.world.sites}
        groups |= {
            nice_id(index): [str(addresses.site_prefix(index)), str(addresses.site_prefix_6(index))]
            for index in range(1, 9)
            if index not in known
        }
        return Witness(
            self.program,
            self.world.host.namespace,
            self.world.host.interface.name,
            groups,
            virtual_header=True,
        )

    def add_site(self, site: Site) -> None:
        self.site_witnesses[site.nice_id] = Witness(
            self.program, site.namespace, site.interface.name, {"host": HOST_ADDRESSES}
        )

    def remove_site(self, site: Site) -> None:
        """Before the site itself goes."""
        self.site_witnesses.pop(site.nice_id).close()

    def interfaces(self) -> list[tuple[Namespace, str]]:
        return [(site.namespace, site.interface.name) for site in self.world.sites]

    def read(self) -> Books:
        wait_until_quiet(self.interfaces(), timeout=30 * harness.SLOWNESS)
        lost: dict[str, int] = {"packets dropped at a processor's input queue": backlog_drops()}
        for namespace in (self.world.host.namespace, *(site.namespace for site in self.world.sites)):
            lost |= {f"{namespace.name}: {name}": value for name, value in losses(namespace).items()}
        return Books(
            {site.nice_id: self.site_witnesses[site.nice_id].report() for site in self.world.sites},
            self.host_witness.report(),
            {
                site.nice_id: device_statistics(site.namespace, site.interface.name)
                for site in self.world.sites
            },
            lost,
        )

    def settle(self, before: Books, after: Books, host_can_see: bool = True) -> Book:
        """What passed between two readings, once all books that are not the exporter's agree."""
        self.no_losses(before, after, host_can_see)
        book: Book = {}
        for site in self.world.sites:
            for direction in ("ingress", "egress"):
                for protocol in PROTOCOLS:
                    at_site, at_host = self.passed(before, after, site, direction, protocol)
                    assert at_site == at_host or not host_can_see, (
                        f"the witnesses disagree on {site.nice_id} {direction} {protocol}: "
                        f"{at_site} at the site, {at_host} at the host"
                    )
                    book[site.nice_id, direction, protocol] = at_site
            self.compare_device(before, after, site)
        return {key: amount for key, amount in book.items() if amount != Amount()}

    @staticmethod
    def passed(
        before: Books, after: Books, site: Site, direction: str, protocol: str
    ) -> tuple[Amount, Amount]:
        """What went by between two readings: as seen at the site, as seen at the host."""

        def at_site(books: Books) -> Amount:
            return books.sites[site.nice_id].amount("host", AT_SITE[direction], protocol)

        def at_host(books: Books) -> Amount:
            return books.host.amount(site.nice_id, AT_HOST[direction], protocol)

        return at_site(after) - at_site(before), at_host(after) - at_host(before)

    def compare_device(self, before: Books, after: Books, site: Site) -> None:
        """A device without offloads counts every packet by itself: a third opinion."""
        if site.interface.implementation is not Implementation.PLAIN:
            return
        for way, side in (("incoming", "rx"), ("outgoing", "tx")):
            seen = after.sites[site.nice_id].total(way) - before.sites[site.nice_id].total(way)
            device = Amount(
                *(
                    after.devices[site.nice_id][side][name] - before.devices[site.nice_id][side][name]
                    for name in ("packets", "bytes")
                )
            )
            assert seen == device, f"{site.interface.name} {way}: witness {seen}, device {device}"

    @staticmethod
    def no_losses(before: Books, after: Books, host_can_see: bool) -> None:
        lost = {
            name: value - before.lost.get(name, 0)
            for name, value in after.lost.items()
            if value > before.lost.get(name, 0)
        }
        if lost:
            raise TrafficLost(f"packets were lost on the way, so this run proves nothing: {lost}")
        doubts = after.host.doubts(before.host) if host_can_see else []
        for site, report in after.sites.items():
            doubts += report.doubts(before.sites[site])
        assert not doubts, f"the witness cannot be believed: {doubts}"

    @contextlib.contextmanager
    def checked(self, exporter: harness.Exporter, host_can_see: bool = True) -> Iterator[None]:
        """Around traffic: afterwards the exporter must have counted exactly what the witnesses saw, and stay there.
        Without `host_can_see` the witness at the host is not heard: this kernel cannot show it the traffic."""
        before, counted_before = self.read(), exporter_book(exporter.scrape())
        yield
        expected = self.settle(before, self.read(), host_can_see)
        assert expected, "no traffic at all was seen"
        self.compare(exporter, counted_before, expected)

    @staticmethod
    def compare(
        exporter: harness.Exporter, counted_before: Book, expected: Book, timeout: float = 10
    ) -> None:
        deadline = time.monotonic() + timeout * harness.SLOWNESS
        found = difference(exporter_book(exporter.scrape()), counted_before)
        while found != expected and time.monotonic() < deadline:
            time.sleep(0.3)
            found = difference(exporter_book(exporter.scrape()), counted_before)
        assert found == expected, describe(expected, found)
        time.sleep(0.5)
        found = difference(exporter_book(exporter.scrape()), counted_before)
        assert found == expected, "first right, then not: " + describe(expected, found)

    def at_host(self) -> Report:
        """The host's witness at a quiet moment; for tests in which packets die between it and the sites."""
        wait_until_quiet(
            [(self.world.host.namespace, self.world.host.interface.name)], timeout=30 * harness.SLOWNESS
        )
        report = self.host_witness.report()
        assert not report.doubts(), f"the witness cannot be believed: {report.doubts()}"
        return report

    @staticmethod
    def host_book(before: Report, after: Report) -> Book:
        """What passed the host's interface between two reports; what is nobody's is `unassigned`."""
        book = {
            ("unassigned" if group == "elsewhere" else group, direction, protocol): after.amount(
                group, AT_HOST[direction], protocol
            )
            - before.amount(group, AT_HOST[direction], protocol)
            for group in after.content["groups"]
            for direction in AT_HOST
            for protocol in PROTOCOLS
        }
        return {key: amount for key, amount in book.items() if amount != Amount()}

    def close(self) -> None:
        for witness in (*self.site_witnesses.values(), self.host_witness):
            witness.close()


def wait_for_wireguard_bytes(world: World, exporter: harness.Exporter) -> None:
    """Until pangolin_tunnel_bytes_total is what WireGuard says of all sites. Keepalives go on: a look counts only when
    none came meanwhile."""
    interface = world.host.interface

    def same() -> bool:
        before = interface.transfer()
        samples = exporter.scrape()
        if interface.transfer() != before:
            return False
        for site in world.sites:
            found = tuple(
                samples.value(
                    "pangolin_tunnel_bytes_total",
                    site_id=site.nice_id,
                    transport="wireguard",
                    direction=direction,
                )
                for direction in ("ingress", "egress")
            )
            assert found == before[site.keys.public], (
                f"{site.nice_id}: wg {before[site.keys.public]}, exporter {found}"
            )
        return True

    harness.wait_for("pangolin_tunnel_bytes_total equals `wg show transfer`", same)


@contextlib.contextmanager
def stage(
    sites: int, tag: str, wireguard: dict | None = None, metrics: dict | None = None
) -> Iterator[tuple]:
    """World, accounts and a ready exporter that reads the world's database: what most tests start from."""
    folder = Path(tempfile.mkdtemp(prefix="pangolin_exporter-test-"))
    with World(sites, tag) as world:
        world.state.add("paths", str(folder))
        world.wait_connected(30 * harness.SLOWNESS)
        world.write_database(folder / "db.sqlite")
        settings = {
            "wireguard": {"netns": world.host.namespace.name} | (wireguard or {}),
            "metadata": {"sqlite": str(folder / "db.sqlite"), "refresh": "1s"},
        } | (metrics or {})
        with (
            contextlib.closing(Accounts(world)) as accounts,
            harness.Exporter(settings, folder=folder) as exporter,
        ):
            exporter.wait_ready(60)
            yield world, accounts, exporter
