#!/usr/bin/env python3
"""The WireGuard interface is made anew again and again, as containers do it: noticed soon, and nothing piles up.

PANGOLIN_EXPORTER_LAB_RECREATIONS   how often (500)
"""

import contextlib
import os
import statistics
import time
from pathlib import Path

import harness
from accounts import stage
from harness import wait_for
from test_trouble import attached_to_interfaces, wait_until_counted

RECREATIONS = int(os.environ.get("PANGOLIN_EXPORTER_LAB_RECREATIONS", "500"))
# What the first ones allocate stays: pools of the heap, libbpf's and the kernel's own.
WARM_UP = min(20, RECREATIONS // 4)


def held_descriptors(process: Path) -> list[str]:
    """What they are; one that is closed meanwhile is not."""
    held = []
    for link in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            held.append(os.readlink(link))
    return held


def slope(values: list[float]) -> float:
    """Growth with each recreation, by least squares."""
    return statistics.linear_regression(range(len(values)), values).slope


class Recreation(harness.LabTest):
    def footprint(self, exporter: harness.Exporter) -> dict[str, float]:
        process = Path(f"/proc/{exporter.process.pid}")
        status = dict(
            line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line
        )
        pins = Path(exporter.metrics["pin_dir"])
        held = held_descriptors(process)
        return {
            "descriptors": len(held),
            "maps": held.count("anon_inode:bpf-map"),
            "links": sum("bpf_link" in each or "bpf-link" in each for each in held),
            "resident KiB": float(status["VmRSS"].split()[0]),
            "pinned generations": len(list(pins.rglob("counters"))),
            "pinned folders": len([path for path in pins.rglob("*") if path.is_dir()]),
        }

    def test_nothing_piles_up(self) -> None:
        with stage(1, "again") as (world, accounts, exporter):
            accounts.host_witness.close()
            seen: list[dict[str, float]] = []
            noticed: list[float] = []
            for _ in range(RECREATIONS):
                world.delete_host_interface()
                wait_for("nothing is attached", lambda: attached_to_interfaces(exporter) == 0, every=0.05)
                world.create_host_interface()
                begin = time.monotonic()
                wait_for("it is attached again", lambda: attached_to_interfaces(exporter) >= 2, every=0.05)
                noticed.append(time.monotonic() - begin)
                seen.append(self.footprint(exporter))
            world.wait_connected(60 * harness.SLOWNESS)
            wait_until_counted(self, world, exporter, within=10)
            accounts.host_witness = accounts.make_host_witness()
        settled = seen[WARM_UP:]
        slopes = {name: slope([each[name] for each in settled]) for name in seen[0]}
        print(f"noticed within {max(noticed):.2f} s, median {statistics.median(noticed):.2f} s; "
              f"growth with each recreation {slopes}; last {seen[-1]}")
        self.assertLess(statistics.median(noticed), 2 * harness.SLOWNESS)
        self.assertEqual({each["pinned generations"] for each in seen}, {1})
        self.assertEqual({each["pinned folders"] for each in settled}, {settled[0]["pinned folders"]})
        for name in ("descriptors", "links", "maps"):
            self.assertLess(abs(slopes[name]), 0.05, f"{name} grow: {[each[name] for each in seen]}")
        self.assertLess(slopes["resident KiB"], 8)


if __name__ == "__main__":
    harness.main()
