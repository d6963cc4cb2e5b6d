"""What an exporter holds: descriptors, maps, links, memory, pins. With each restart of gerbil the same."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from pathlib import Path
from unittest import TestCase

import harness


def held(process: Path) -> list[str]:
    """What its descriptors refer to; the fewest of some looks, since some are open for a moment only."""

    def look() -> list[str]:
        found = []
        for link in (process / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append(os.readlink(link))
        time.sleep(0.02)
        return found

    return min((look() for _ in range(5)), key=len)


def footprint(exporter: harness.Exporter) -> dict[str, float]:
    process = Path(f"/proc/{exporter.pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line)
    pins = Path(exporter.metrics["pin_dir"])
    descriptors = held(process)
    return {
        "descriptors": len(descriptors),
        "maps": descriptors.count("anon_inode:bpf-map"),
        "links": sum("bpf_link" in each or "bpf-link" in each for each in descriptors),
        "resident KiB": float(status["VmRSS"].split()[0]),
        "pinned generations": len(list(pins.rglob("counters"))),
        "pinned folders": len([path for path in pins.rglob("*") if path.is_dir()]),
    }


def slope(values: list[float]) -> float:
    """Growth with each recreation, by least squares."""
    return statistics.linear_regression(range(len(values)), values).slope


def check_growth(test: TestCase, seen: list[dict[str, float]], warm_up: int, most_kib: float = 8) -> None:
    """Of footprints, one a recreation. What the first ones allocate stays: pools of the heap, libbpf's, the kernel's."""
    settled = seen[warm_up:]
    slopes = {name: slope([each[name] for each in settled]) for name in seen[0]}
    print(f"growth with each recreation {slopes}; last {seen[-1]}")
    test.assertEqual({each["pinned generations"] for each in seen}, {1})
    test.assertEqual({each["pinned folders"] for each in settled}, {settled[0]["pinned folders"]})
    for name in ("descriptors", "links", "maps"):
        test.assertLess(abs(slopes[name]), 0.05, f"{name} grow: {[each[name] for each in seen]}")
    test.assertLess(slopes["resident KiB"], most_kib)
