"""The books of resources: what passed the tunnels for each target, by witnesses that know addresses and ports.

A witness at the host's interface sorts by the far end, one at each site by its own end; they must agree. What the
witnesses saw as TCP and UDP payload must be what newt, nginx and the echoes say of themselves, so that four programs
which know nothing of each other vouch for a number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import harness
from lab.namespace import Namespace
from lab.resources import Target
from resource_world import ResourceWorld
from traffic import TrafficLost
from witness import Amount, Report, Witness, backlog_drops, losses, wait_until_quiet, witness_program

LARGEST_SUPER_PACKET = 65535
PAYLOAD_NAMES = {"ingress": "bytes_to_client", "egress": "bytes_from_client"}


@dataclass(frozen=True)
class Passed:
    """What went by for one target in one direction."""

    amount: Amount = Amount()
    payload: int = 0

    def __sub__(self, other: Passed) -> Passed:
        return Passed(self.amount - other.amount, self.payload - other.payload)


class Book(dict[tuple[int, str], Passed]):
    """By target (its identity) and direction. TCP segments that were sent again are in it twice."""

    sent_again: int = 0

    def check_payload(self, target: Target, direction: str, amount: int, of: str) -> None:
        """This much payload, as `of` says; a busy machine sends segments again now and then."""
        seen = self.get((target.identity, direction), Passed()).payload
        most = amount + self.sent_again * LARGEST_SUPER_PACKET
        assert amount <= seen <= most, (
            f"target {target.identity} ({target.backend}) {direction}: the witnesses saw {seen} bytes of payload, "
            f"{of} counted {amount}; {self.sent_again} segments were sent again"
        )


def passed(report: Report, group: str, way: str) -> Passed:
    amount, payload = Amount(), 0
    for protocol in ("tcp", "udp"):
        for entry in report.content["groups"][group][way][protocol].values():
            amount += Amount(entry["packets"], entry["bytes"])
            payload += entry["payload"]
    return Passed(amount, payload)


@dataclass
class Reading:
    host: Report
    sites: dict[str, Report]
    newts: dict[int, dict]  # by target
    lost: dict[str, int]
    sent_again: int


class ResourceAccounts:
    """Of the targets behind tunnels; a local site's have no tunnel, and their books are nginx's and the echo's."""

    def __init__(self, stage: ResourceWorld) -> None:
        self.stage = stage
        world = stage.world
        self.targets: dict[int, Target] = {
            target.identity: target for _, target in stage.plan.pairs() if target.place.site is not None
        }
        program = witness_program(world.state.folder)
        self.host = Witness(
            program,
            world.host.namespace,
            world.host.interface.name,
            {str(identity): [group(target)] for identity, target in self.targets.items()},
            virtual_header=True,
        )
        self.sites = {
            site.nice_id: Witness(
                program,
                site.namespace,
                site.interface.name,
                {
                    str(identity): [group(target)]
                    for identity, target in self.targets.items()
                    if target.place.site is site
                },
                by_local=True,
            )
            for site in world.sites
        }

    def read(self) -> Reading:
        """At a quiet moment."""
        sites = self.stage.world.sites
        wait_until_quiet(
            [(site.namespace, site.interface.name) for site in sites], timeout=30 * harness.SLOWNESS
        )
        lost = {"packets dropped at a processor's input queue": backlog_drops()}
        namespaces = [self.stage.world.host.namespace, *(site.namespace for site in sites)]
        for namespace in namespaces:
            lost |= {f"{namespace.name}: {name}": value for name, value in losses(namespace).items()}
        return Reading(
            self.host.report(),
            {name: witness.report() for name, witness in self.sites.items()},
            {
                identity: self.stage.newt_of(target).counts(target)
                for identity, target in self.targets.items()
                if target.place.type == "newt"
            },
            lost,
            sum(map(segments_sent_again, namespaces)),
        )

    def book(self, before: Reading, after: Reading) -> Book:
        """What passed between two readings, once the witnesses and newt agree."""
        self._no_losses(before, after)
        book = Book()
        book.sent_again = after.sent_again - before.sent_again
        for identity, target in self.targets.items():
            site, name = target.place.nice_id, str(identity)
            for direction, at_host, at_site in (
                ("ingress", "incoming", "outgoing"),
                ("egress", "outgoing", "incoming"),
            ):
                seen = passed(after.host, name, at_host) - passed(before.host, name, at_host)
                there = passed(after.sites[site], name, at_site) - passed(before.sites[site], name, at_site)
                assert seen == there, (
                    f"the witnesses disagree on target {identity} ({target.backend}) {direction}: "
                    f"{seen} at the host, {there} at the site"
                )
                if seen != Passed():
                    book[identity, direction] = seen
                if target.place.type == "newt":
                    field = PAYLOAD_NAMES[direction]
                    amount = after.newts[identity][field] - before.newts[identity][field]
                    book.check_payload(target, direction, amount, "newt")
        return book

    @staticmethod
    def _no_losses(before: Reading, after: Reading) -> None:
        grown = {
            name: value - before.lost.get(name, 0)
            for name, value in after.lost.items()
            if value > before.lost.get(name, 0)
        }
        if grown:
            raise TrafficLost(f"packets were lost on the way, so this run proves nothing: {grown}")
        doubts = after.host.doubts(before.host)
        for site, report in after.sites.items():
            doubts += report.doubts(before.sites[site])
        assert not doubts, f"the witness cannot be believed: {doubts}"

    def close(self) -> None:
        for witness in (self.host, *self.sites.values()):
            witness.close()


def group(target: Target) -> str:
    address, port = target.address
    return f"{address}/32#{port}"


def segments_sent_again(namespace: Namespace) -> int:
    names, values = (
        line.split()[1:]
        for line in namespace.read_file("/proc/thread-self/net/snmp").splitlines()
        if line.startswith("Tcp:")
    )
    return int(values[names.index("RetransSegs")])


def host_sockets(stage: ResourceWorld, target: Target) -> dict[str, int]:
    """The host's TCP sockets to this target, by state, as the kernel lists them."""
    states = {1: "established", 2: "syn_sent", 4: "fin_wait1", 5: "fin_wait2", 6: "time_wait", 8: "close_wait"}
    address, port = target.address
    wanted = "".join(f"{int(part):02X}" for part in reversed(address.split("."))) + f":{port:04X}"
    found: dict[str, int] = {}
    namespace = stage.world.host.namespace
    for table in ("tcp", "tcp6"):
        for line in namespace.read_file(f"/proc/thread-self/net/{table}").splitlines()[1:]:
            fields = line.split()
            if re.search(wanted + "$", fields[2]):
                state = states.get(int(fields[3], 16), "other")
                found[state] = found.get(state, 0) + 1
    return found
