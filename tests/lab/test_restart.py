#!/usr/bin/env python3
"""The exporter is stopped, killed and started again while traffic runs: its counters go on as if nothing had been."""

import signal
import time

import harness
from accounts import BYTES, PACKETS, exporter_book, stage
from test_lifecycle import pairs
from traffic import Drizzle
from witness import Amount


class Restart(harness.LabTest):
    def restarts(self, by: signal.Signals) -> None:
        with stage(2, "again") as (world, accounts, exporter):
            before, counted = accounts.at_host(), exporter_book(exporter.scrape())
            with Drizzle(pairs(world)):
                time.sleep(2)
                for _ in range(2):
                    last = exporter.scrape()
                    exporter.stop(by=by)
                    time.sleep(2)  # packets that nobody in userspace looks after
                    exporter.start()
                    exporter.wait_ready()
                    now = exporter.scrape()
                    for name in (BYTES, PACKETS):
                        for labels, value in last.select(name):
                            self.assertGreaterEqual(
                                now.value(name, **labels) or 0, value, f"{name} {labels} fell"
                            )
                    time.sleep(1)
            accounts.compare(exporter, counted, accounts.host_book(before, accounts.at_host()), timeout=15)
            self.assertNotEqual(
                exporter_book(exporter.scrape()).get((world.sites[0].nice_id, "ingress", "udp")), Amount()
            )

    def test_stopped_and_started(self) -> None:
        self.restarts(signal.SIGTERM)

    def test_killed_and_started(self) -> None:
        self.restarts(signal.SIGKILL)


if __name__ == "__main__":
    harness.main()
