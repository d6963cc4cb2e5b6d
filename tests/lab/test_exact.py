#!/usr/bin/env python3
"""Every byte and packet: the exporter against an independent witness at the far end of the tunnel.

    sudo python3 tests/lab/test_exact.py [--exporter build/pangolin_exporter]

PANGOLIN_EXPORTER_LAB_TCP_BYTES   TCP payload of the bulk case, all sites and directions together (2 GB)
PANGOLIN_EXPORTER_LAB_ROUNDS      repetitions of the datagram cases (20)
PANGOLIN_EXPORTER_LAB_SLOWNESS    factor on every time limit (1)
"""

import harness
from exact_cases import ExactCases


class Exact(ExactCases, harness.LabTest):
    pass


if __name__ == "__main__":
    harness.main()
