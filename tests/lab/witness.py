"""Runs lab_witness beside an interface, and asks the kernel itself where packets got lost."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from lab.commands import LabError
from lab.namespace import Namespace

REPOSITORY = Path(__file__).resolve().parents[2]
PROTOCOLS = ("tcp", "udp", "icmp", "other")


def witness_program(folder: Path) -> Path:
    """The program as built, or built here and now: it is one file and needs nothing but a compiler."""
    for candidate in (
        os.environ.get("PANGOLIN_EXPORTER_LAB_WITNESS"),
        REPOSITORY / "build/tests/lab/lab_witness",
    ):
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate)
    program = folder / "lab_witness"
    if not program.exists():
        subprocess.run(
            ["g++", "-std=c++23", "-O2", "-o", str(program), str(Path(__file__).with_name("witness.cc"))],
            check=True,
        )
    return program


@dataclass(frozen=True)
class Amount:
    packets: int = 0
    bytes: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.packets + other.packets, self.bytes + other.bytes)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.packets - other.packets, self.bytes - other.bytes)


class Report:
    """One report of a witness: amounts by group, direction and protocol, and its own doubts."""

    def __init__(self, content: dict) -> None:
        self.content = content

    def amount(self, group: str, direction: str, protocol: str, version: str | None = None) -> Amount:
        by_version = self.content["groups"][group][direction][protocol]
        return sum(
            (
                Amount(entry["packets"], entry["bytes"])
                for name, entry in by_version.items()
                if version in (None, name)
            ),
            Amount(),
        )

    def total(self, direction: str) -> Amount:
        return sum(
            (
                self.amount(group, direction, protocol)
                for group in self.content["groups"]
                for protocol in PROTOCOLS
            ),
            Amount(),
        )

    def doubts(self, since: Report | None = None) -> list[str]:
        """Reasons not to believe what it counted since the other report (or ever); empty for a good one."""
        grown = {
            name: self.content[name] - (since.content[name] if since else 0)
            for name in ("kernel_drops", "malformed", "length_mismatches")
        }
        return [f"{self.content['interface']}: {name} {value}" for name, value in grown.items() if value]


def virtual_headers_describe_udp() -> bool:
    """Before 6.2 the kernel has no virtual header for UDP super-packets and drops them for a socket that wants one."""
    return tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) >= (6, 2)


class Witness:
    def __init__(
        self,
        program: Path,
        namespace: Namespace,
        interface: str,
        groups: dict[str, list[str]],
        virtual_header: bool = False,
        by_local: bool = False,
    ) -> None:
        """Groups are of the far end, or of the near one; ADDRESS/LENGTH or ADDRESS/LENGTH#PORT."""
        self.interface = interface
        arguments = [str(program), "--interface", interface]
        for name, prefixes in groups.items():
            arguments += ["--group", f"{name}={','.join(prefixes)}"]
        if virtual_header:
            arguments.append("--virtual-header")
        if by_local:
            arguments.append("--by-local")
        self.process = namespace.start(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.state = namespace.state
        if self.process.stdout.readline() != "ready\n":
            raise LabError(f"the witness on {interface} did not start")

    def report(self) -> Report:
        self.process.stdin.write("report\n")
        self.process.stdin.flush()
        return Report(json.loads(self.process.stdout.readline()))

    def stop(self) -> Report:
        self.process.terminate()
        output, _ = self.process.communicate(timeout=20)
        self.state.stop_process(self.process.pid)
        return Report(json.loads(output.splitlines()[-1]))

    def close(self) -> None:
        """Ends it without a report, also when it has ended by itself (its interface went away)."""
        self.process.terminate()
        self.process.communicate(timeout=20)
        self.state.stop_process(self.process.pid)


def device_statistics(namespace: Namespace, interface: str) -> dict[str, dict[str, int]]:
    """{"rx": {"packets", "bytes", "dropped", ...}, "tx": ...} as the device counts."""
    return json.loads(namespace.ip("-statistics", "-json", "link", "show", "dev", interface))[0]["stats64"]


def losses(namespace: Namespace) -> dict[str, int]:
    """Every counter of this namespace that grows when a packet is lost on its way, by name."""
    found: dict[str, int] = {}
    for link in json.loads(namespace.ip("-statistics", "-json", "link", "show")):
        for direction in ("rx", "tx"):
            for name in ("dropped", "errors", "over_errors", "carrier_errors"):
                found[f"{link['ifname']} {direction} {name}"] = link["stats64"][direction].get(name, 0)
    found |= protocol_errors(namespace)
    for queue in json.loads(namespace.run(["tc", "-s", "-j", "qdisc", "show"]).stdout or "[]"):
        found[f"qdisc {queue['kind']} on {queue['dev']} drops"] = queue.get("drops", 0)
    return found


def protocol_errors(namespace: Namespace) -> dict[str, int]:
    found: dict[str, int] = {}
    lines = namespace.read_file("/proc/thread-self/net/snmp").splitlines()
    for names, values in zip(lines[::2], lines[1::2]):
        for name, value in zip(names.split()[1:], values.split()[1:]):
            if name in (
                "RcvbufErrors",
                "SndbufErrors",
                "InCsumErrors",
                "ReasmFails",
                "FragFails",
                "InDiscards",
                "OutDiscards",
            ):
                found[names.split(":")[0] + name] = int(value)
    for line in namespace.read_file("/proc/thread-self/net/snmp6").splitlines():
        name, value = line.split()
        if name.endswith(
            ("RcvbufErrors", "InCsumErrors", "ReasmFails", "FragFails", "InDiscards", "OutDiscards")
        ):
            found[name] = int(value)
    return found


def backlog_drops() -> int:
    """Packets that the processors' input queues had no room for; one number for the whole machine."""
    return sum(int(line.split()[1], 16) for line in Path("/proc/net/softnet_stat").read_text().splitlines())


def wait_until_quiet(
    namespaces_and_interfaces: list[tuple[Namespace, str]], quiet: float = 0.5, timeout: float = 30
) -> None:
    """Until no inner packet has passed any of the interfaces for a while (keepalives are not inner packets)."""

    def numbers() -> list[int]:
        return [
            device_statistics(namespace, interface)[direction]["packets"]
            for namespace, interface in namespaces_and_interfaces
            for direction in ("rx", "tx")
        ]

    deadline = time.monotonic() + timeout
    before, since = numbers(), time.monotonic()
    while time.monotonic() - since < quiet:
        if time.monotonic() > deadline:
            raise LabError("the tunnels do not become quiet")
        time.sleep(0.1)
        now = numbers()
        if now != before:
            before, since = now, time.monotonic()
