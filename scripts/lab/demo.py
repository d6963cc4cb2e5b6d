"""`scripts/lab demo`: a small Pangolin world with traffic, the exporter beside it, live numbers; all gone at the end."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from .commands import LabError
from .demo_table import Table
from .demo_traffic import DemoTraffic
from .world import World

REPOSITORY = Path(__file__).resolve().parents[2]
TABLE_EVERY = 5  # seconds

CONFIGURATION = """\
# Pangolin's own settings would stand here; the exporter reads the section below and Pangolin ignores it.
metrics:
  enabled: true
  port: {port}
  listen: 127.0.0.1
  wireguard:
    netns: auto            # the exporter finds wg0 by itself, in whatever namespace it is
  metadata:
    sqlite: db/db.sqlite   # as Pangolin lays it out, beside this file
    refresh: 5s
  state_dir: {state}
  pin_dir: ''            # nothing of this demonstration outlives it
"""

GREETING = """
A small Pangolin host, made of network namespaces on this machine:

    {host}   {interface} 100.89.128.1, where gerbil and Traefik would be ({implementation} WireGuard)
{sites}
Web requests, a TCP stream, UDP (over IPv6) and pings go through the tunnels, both ways, all the time.
The exporter runs outside of these namespaces and reads {folder}/config.yml.

    curl -s localhost:{port}/metrics | grep pangolin_site_     what it counts
    http://localhost:{port}/                                   its status page
    ip netns exec {host} wg show        what WireGuard says
    {log}     what the exporter says

Stop with Ctrl-C; everything is removed then.
"""


class Stopped(Exception):
    """Ctrl-C, SIGTERM, SIGHUP or the end of --duration."""


def stop(*_: object) -> None:
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)  # once is enough: do not disturb the tidying up
    raise Stopped


def run_demo(options: argparse.Namespace) -> int:
    program = Path(options.exporter or REPOSITORY / "build/pangolin_exporter").resolve()
    if not os.access(program, os.X_OK):
        raise LabError(f"there is no exporter at {program}. HINT: sudo ./scripts/run --demo builds it first.")
    world = World(
        options.sites,
        options.tag,
        region=options.region,
        host_implementation=options.host_implementation,
        site_implementation=options.site_implementation,
    )
    world.clear_leftovers()  # an exporter of a crashed demo would still have the port
    refuse_taken_port(options.port)
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, stop)
    print("building the demo ...", flush=True)
    status = 0
    try:
        with world:
            world.wait_connected()
            with DemoTraffic(world):
                status = watch(world, program, options)
    except Stopped:
        pass
    print("\nremoved." if status == 0 else "\nthe exporter has ended; the demo is removed.", flush=True)
    return status


def refuse_taken_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise LabError(f"port {port} is taken ({error.strerror}). HINT: Choose another one with --port.") from error


def watch(world: World, program: Path, options: argparse.Namespace) -> int:
    """Runs the exporter and prints the table until something ends it; answers the exit status."""
    folder = Path(tempfile.mkdtemp(prefix="pangolin_exporter-demo-"))
    world.state.add("paths", str(folder))
    world.write_database(folder / "db/db.sqlite")
    (folder / "config.yml").write_text(CONFIGURATION.format(port=options.port, state=folder / "state"))
    log = folder / "exporter.log"
    with open(log, "wb") as output:
        exporter = subprocess.Popen(
            [str(program), f"--config.file={folder}/config.yml", *options.exporter_arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    world.state.add_process(exporter.pid, "pangolin_exporter")
    try:
        if wait_for_exporter(exporter, options.port):
            greet(world, folder, log, options.port)
            print_tables(world, exporter, options)
    except (Stopped, KeyboardInterrupt):
        return end_exporter(world, exporter, log)
    print(
        f"the exporter ended with status {exporter.wait()}; it said:\n{log.read_text(errors='replace')[-3000:]}",
        file=sys.stderr,
    )
    return 1


def wait_for_exporter(exporter: subprocess.Popen, port: int, patience: float = 30) -> bool:
    """Until it is ready or takes too long (the table then shows what there is); false when it has ended."""
    deadline = time.monotonic() + patience
    while exporter.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, urllib.error.URLError):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return True
        time.sleep(0.2)
    return exporter.poll() is None


def greet(world: World, folder: Path, log: Path, port: int) -> None:
    sites = "".join(
        f"    {site.namespace.name}  {site.interface.name} {site.address}, the site {site.nice_id}\n"
        for site in world.sites
    )
    interface = world.host.interface
    print(
        GREETING.format(
            host=world.host.namespace.name,
            interface=interface.name,
            sites=sites,
            folder=folder,
            port=port,
            log=log,
            implementation="the kernel's" if interface.process is None else "userspace",
        ),
        flush=True,
    )


def print_tables(world: World, exporter: subprocess.Popen, options: argparse.Namespace) -> None:
    table = Table(options.port, [site.nice_id for site in world.sites])
    end = time.monotonic() + options.duration if options.duration else float("inf")
    while exporter.poll() is None:
        try:
            print(f"{time.strftime('%H:%M:%S')}\n{table.text()}\n", flush=True)
        except (OSError, urllib.error.URLError, ValueError) as error:
            print(f"{time.strftime('%H:%M:%S')}  no answer from the exporter: {error}\n", flush=True)
        pause = min(TABLE_EVERY, end - time.monotonic())
        if pause <= 0:
            raise Stopped
        with contextlib.suppress(subprocess.TimeoutExpired):
            exporter.wait(timeout=pause)


def end_exporter(world: World, exporter: subprocess.Popen, log: Path) -> int:
    exporter.terminate()
    try:
        status = exporter.wait(timeout=15)
    except subprocess.TimeoutExpired:
        exporter.kill()
        status = exporter.wait()
    world.state.stop_process(exporter.pid)
    if status != 0:
        print(
            f"the exporter ended with status {status}; it said:\n{log.read_text(errors='replace')[-3000:]}",
            file=sys.stderr,
        )
    return 0 if status == 0 else 1
