#!/usr/bin/env python3
"""The WireGuard interface is made anew again and again, as containers do it: noticed soon, and nothing piles up.

PANGOLIN_EXPORTER_LAB_RECREATIONS   how often (500)
"""

import os
import statistics
import time

import harness
from accounts import stage
from footprint import check_growth, footprint
from harness import wait_for
from test_trouble import attached_to_interfaces, wait_until_counted

RECREATIONS = int(os.environ.get("PANGOLIN_EXPORTER_LAB_RECREATIONS", "500"))
# What the first ones allocate stays: pools of the heap, libbpf's and the kernel's own.
WARM_UP = min(20, RECREATIONS // 4)


class Recreation(harness.LabTest):
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
                seen.append(footprint(exporter))
            world.wait_connected(60 * harness.SLOWNESS)
            wait_until_counted(self, world, exporter, within=10)
            accounts.host_witness = accounts.make_host_witness()
        print(f"noticed within {max(noticed):.2f} s, median {statistics.median(noticed):.2f} s")
        self.assertLess(statistics.median(noticed), 2 * harness.SLOWNESS)
        check_growth(self, seen, WARM_UP)


if __name__ == "__main__":
    harness.main()
