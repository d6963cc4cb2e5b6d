"""A link with a known round-trip time between one site and the host."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

from lab import addresses
from lab.commands import LabError, run
from lab.world import Site, World

REPOSITORY = Path(__file__).resolve().parents[2]
RELAY_PORT = 51821


def delay_program(folder: Path) -> Path:
    """The program as built, or built here and now: it is one file and needs nothing but a compiler."""
    for candidate in (
        os.environ.get("PANGOLIN_EXPORTER_LAB_DELAY"),
        REPOSITORY / "build/tests/lab/lab_delay",
    ):
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate)
    program = folder / "lab_delay"
    if not program.exists():
        source = Path(__file__).with_name("delay.cc")
        subprocess.run(["g++", "-std=c++23", "-O2", "-o", str(program), str(source)], check=True)
    return program


class Delay:
    """Adds `round_trip` seconds to the way from the host to the site and back.

    Where the kernel has netem, all of it lies on the way from the site to the host; else a relay in the site's
    namespace adds one half to each direction. The site dials anew through it.
    """

    def __init__(self, world: World, site: Site, round_trip: float) -> None:
        self.site = site
        self.relay: subprocess.Popen | None = None
        self.by_netem = self._add_netem(round_trip)
        if not self.by_netem:
            self._start_relay(world, round_trip / 2)
            site.endpoint = f"127.0.0.1:{RELAY_PORT}"
        world.dial(site)

    def __str__(self) -> str:
        return "netem from the site to the host" if self.by_netem else "a relay, one half each way"

    def _add_netem(self, seconds: float) -> bool:
        delay = f"{round(seconds * 1_000_000)}us"
        command = ["tc", "qdisc", "add", "dev", "uplink", "root", "netem", "delay", delay]
        return run(self.site.namespace.command(command), check=False).returncode == 0

    def _start_relay(self, world: World, seconds: float) -> None:
        host_end, site_end = addresses.underlay(self.site.index)
        command = [
            str(delay_program(world.state.folder)),
            "--listen",
            f"127.0.0.1:{RELAY_PORT}",
            "--from",
            str(site_end.ip),
            "--to",
            f"{host_end.ip}:{addresses.LISTEN_PORT}",
            "--delay",
            str(round(seconds * 1_000_000)),
        ]
        self.relay = self.site.namespace.start(command, stdout=subprocess.PIPE, text=True)
        if self.relay.stdout.readline() != "ready\n":
            raise LabError(f"{command[0]} did not start")

    def close(self) -> dict:
        """Ends it; says what a relay has seen: {"relayed", "lost", "latest_us"}."""
        if self.relay is None:
            return {"relayed": 0, "lost": 0, "latest_us": 0}
        self.relay.terminate()
        output, _ = self.relay.communicate(timeout=20)
        self.site.namespace.state.stop_process(self.relay.pid)
        return json.loads(output.splitlines()[-1])


def smoothed_round_trip(connected: socket.socket) -> float:
    """What TCP itself thinks, in seconds: tcpi_rtt of struct tcp_info (include/uapi/linux/tcp.h)."""
    information = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int.from_bytes(information[68:72], "little") / 1_000_000
