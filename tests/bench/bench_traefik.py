#!/usr/bin/env python3
"""What the exporter costs the requests that go through Traefik: wrk's throughput and latency, and the machine's CPU time
for a request, with the exporter and without it in turns. All of it in namespaces; three minutes.

    bench_traefik.py [--exporter PATH] [--turns N] [--seconds N]

One line a target: medians over the turns, and the ratio of what was measured with the exporter to what was without. CPU
time is that of wrk, Traefik, newt, nginx and the exporter, a request: it depends least on who else is on the machine. Of it
`programs_us` is what all BPF programs ran, by the kernel's own statistics, whose 20 ns a run are in it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests/lab"))

import harness  # noqa: E402
from lab.resources import Resource  # noqa: E402
from mix_world import MixWorld  # noqa: E402

CONNECTIONS, THREADS = 32, 2


@dataclass(frozen=True)
class Turn:
    requests_per_second: float
    p99_ms: float
    cpu_us: float


class World(MixWorld):
    traefik_settings = None

    def measure(self, target: Resource, seconds: int, exporter: harness.Exporter) -> Turn:
        processes = [self.traefik.process, self.nginxes[target.identity].process, exporter.process]
        processes += [newt.process for newt in self.newts]
        ids = [process.pid for process in processes if process is not None]
        before = cpu_seconds(ids)
        load = self.wrk(target, threads=THREADS, connections=CONNECTIONS, seconds=seconds)
        used = cpu_seconds(ids) - before
        if load.errors:
            raise RuntimeError(f"wrk had {load.errors} errors")
        return Turn(load.requests / load.seconds, 1e3 * load.p99, 1e6 * used / load.requests)

    def measure_programs(self, target: Resource, seconds: int) -> float:
        """Microseconds that all BPF programs of this kernel ran, a request."""
        with programs_are_measured():
            before = program_ns()
            load = self.wrk(target, threads=THREADS, connections=CONNECTIONS, seconds=seconds)
            return 1e-3 * (program_ns() - before) / load.requests


def cpu_seconds(processes: list[int]) -> float:
    """CPU time of these processes and of children that have ended, like wrk; what the network does in their context is in
    it."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = ended.ru_utime + ended.ru_stime
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def program_ns() -> int:
    shown = subprocess.run(["bpftool", "--json", "prog", "show"], capture_output=True, check=True, text=True)
    return sum(program.get("run_time_ns", 0) for program in json.loads(shown.stdout))


@contextlib.contextmanager
def programs_are_measured() -> Iterator[None]:
    switch = Path("/proc/sys/kernel/bpf_stats_enabled")
    before = switch.read_text()
    switch.write_text("1")
    try:
        yield
    finally:
        switch.write_text(before)


def line(target: str, without: list[Turn], having: list[Turn], programs_us: float) -> str:
    parts = [f"bench=traefik target={target} turns={len(having)}"]
    for name in ("requests_per_second", "p99_ms", "cpu_us"):
        base = statistics.median(getattr(turn, name) for turn in without)
        now = statistics.median(getattr(turn, name) for turn in having)
        parts.append(f"{name}_without={base:.1f} {name}_with={now:.1f} {name}_ratio={now / base:.3f}")
    return " ".join([*parts, f"programs_us={programs_us:.2f}"])


def start(exporter: harness.Exporter, stage: World, targets: list[Resource]) -> None:
    exporter.start()
    exporter.wait_ready(60)

    def counted() -> bool:
        for target in targets:
            stage.fetch(target, "/small")
        samples = exporter.scrape()
        return all(samples.total("pangolin_resource_requests_total", resource_id=each.nice_id) for each in targets)

    harness.wait_for("requests are counted", counted)


def run(turns: int, seconds: int) -> None:
    with World("bench") as stage, contextlib.ExitStack() as stack:
        database = stage.world.state.folder / "pangolin/db.sqlite"
        stage.plan.write_database(database)
        metrics = {
            "wireguard": {"netns": stage.world.host.namespace.name},
            "metadata": {"sqlite": str(database), "refresh": "1s"},
        }
        exporter = harness.Exporter(metrics, folder=stage.world.state.folder / "pangolin")
        stack.callback(exporter.stop, strict=False)
        targets = {"local": stage.local_fast, "tunnel": stage.tunnel_fast}
        found: dict[tuple[str, bool], list[Turn]] = {(name, on): [] for name in targets for on in (False, True)}
        programs: dict[str, float] = {}
        for target in targets.values():
            stage.measure(target, 2, exporter)
        # Without, with, with, without: whatever changes with time alone falls on both.
        for turn in range(turns):
            for on in (False, True) if turn % 2 == 0 else (True, False):
                if on:
                    start(exporter, stage, list(targets.values()))
                for name, target in targets.items():
                    time.sleep(0.5)
                    found[name, on].append(stage.measure(target, seconds, exporter))
                    if on and turn == turns - 1:
                        programs[name] = stage.measure_programs(target, seconds)
                if on:
                    exporter.stop()
        for name in targets:
            print(line(name, found[name, False], found[name, True], programs[name]), flush=True)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--exporter", type=Path, default=harness.exporter_path)
    options.add_argument("--turns", type=int, default=8)
    options.add_argument("--seconds", type=int, default=4)
    given = options.parse_args()
    harness.exporter_path = given.exporter.resolve()
    harness.mount_bpf_filesystem()
    run(given.turns, given.seconds)
