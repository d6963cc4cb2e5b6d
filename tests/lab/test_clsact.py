#!/usr/bin/env python3
"""As test_exact, in small, with the exporter attached by clsact as on kernels before tcx (6.6)."""

import json

import harness
from exact_cases import ExactCases


class ExactWithClsact(ExactCases, harness.LabTest):
    tag = "clsact"
    wireguard = {"attach": "clsact"}
    tcp_bytes = min(ExactCases.tcp_bytes, 100_000_000)
    rounds = min(ExactCases.rounds, 3)

    def filters(self, direction: str) -> list:
        shown = self.world.host.run(
            ["tc", "-j", "filter", "show", "dev", self.world.host.interface.name, direction]
        ).stdout
        return json.loads(shown or "[]")

    def test_it_is_clsact(self) -> None:
        for direction in ("ingress", "egress"):
            self.assertTrue(
                any(entry["kind"] == "bpf" for entry in self.filters(direction)), f"no filter on {direction}"
            )


if __name__ == "__main__":
    harness.main()
