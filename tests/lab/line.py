"""A line with a known round-trip time, and known faults, between one site and the host."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab import addresses
from lab.commands import LabError, run
from lab.world import Site, World

REPOSITORY = Path(__file__).resolve().parents[2]
RELAY_PORT = 51821


def line_program(folder: Path) -> Path:
    """The program as built, or built here and now: it is one file and needs nothing but a compiler."""
    for candidate in (
        os.environ.get("PANGOLIN_EXPORTER_LAB_LINE"),
        REPOSITORY / "build/tests/lab/lab_line",
    ):
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate)
    program = folder / "lab_line"
    if not program.exists():
        source = Path(__file__).with_name("line.cc")
        subprocess.run(["g++", "-std=c++23", "-O2", "-o", str(program), str(source)], check=True)
    return program


@dataclass(frozen=True)
class Faults:
    """Of a thousand packets, in each direction: never arrive; overtake those before them."""

    lose: int = 0
    reorder: int = 0


class Line:
    """Adds `round_trip` seconds to the way from the host to the site and back, and faults.

    Where the kernel has netem, all of a faultless line's delay lies on the way from the site to the host; else, and
    with faults, one half each way, by netem or by a relay in the site's namespace. The site dials anew through it.
    """

    def __init__(self, world: World, site: Site, round_trip: float, faults: Faults | None = None) -> None:
        self.site = site
        self.relay: subprocess.Popen | None = None
        self.by_netem = self._add_netem(world, round_trip, faults)
        if not self.by_netem:
            self._start_relay(world, round_trip / 2, faults or Faults())
            site.endpoint = f"127.0.0.1:{RELAY_PORT}"
        world.dial(site)

    def __str__(self) -> str:
        return "netem" if self.by_netem else "a relay"

    def _add_netem(self, world: World, round_trip: float, faults: Faults | None) -> bool:
        ends = [(self.site.namespace, "uplink")]
        settings = ["delay", f"{round(round_trip * 1e6)}us"]
        if faults:
            ends.append((world.host.namespace, f"cable{self.site.index}"))
            settings = ["delay", f"{round(round_trip / 2 * 1e6)}us", "loss", f"{faults.lose / 10}%"]
            settings += ["reorder", f"{faults.reorder / 10}%"]
        added = [
            run(namespace.command(["tc", "qdisc", "add", "dev", device, "root", "netem", *settings]), check=False)
            for namespace, device in ends
        ]
        return all(each.returncode == 0 for each in added)

    def _start_relay(self, world: World, seconds: float, faults: Faults) -> None:
        host_end, site_end = addresses.underlay(self.site.index)
        command = [
            str(line_program(world.state.folder)),
            "--listen",
            f"127.0.0.1:{RELAY_PORT}",
            "--from",
            str(site_end.ip),
            "--to",
            f"{host_end.ip}:{addresses.LISTEN_PORT}",
            "--delay",
            str(round(seconds * 1_000_000)),
            "--lose",
            str(faults.lose),
            "--reorder",
            str(faults.reorder),
        ]
        self.relay = self.site.namespace.start(command, stdout=subprocess.PIPE, text=True)
        if self.relay.stdout.readline() != "ready\n":
            raise LabError(f"{command[0]} did not start")

    def close(self) -> dict:
        """Ends it; says what a relay has seen: {"relayed", "dropped", "overtook", "lost", "latest_us"}."""
        if self.relay is None:
            return {"relayed": 0, "dropped": 0, "overtook": 0, "lost": 0, "latest_us": 0}
        self.relay.terminate()
        output, _ = self.relay.communicate(timeout=20)
        self.site.namespace.state.stop_process(self.relay.pid)
        return json.loads(output.splitlines()[-1])


def smoothed_round_trip(connected: socket.socket) -> float:
    """What TCP itself thinks, in seconds: tcpi_rtt of struct tcp_info (include/uapi/linux/tcp.h)."""
    information = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int.from_bytes(information[68:72], "little") / 1_000_000
