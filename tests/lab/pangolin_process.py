"""Pangolin as one process with its database: it owns the ports that a server of Pangolin's shape serves, and has real
SQLite connections. Node's own have no SQLite before 22.5.

    python3 pangolin_process.py ADDRESS LOG_PORT DATABASE

Lines on standard input: `write` changes a row and answers how long that took, in seconds; `hold` leaves a transaction
open on the one connection, and a second one is idle.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

PORTS = (3000, 3001, 3002, 3003)
PR_SET_PDEATHSIG = 1
PATIENCE = 20  # seconds that a connection waits for a lock


def listen(address: str, port: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    made.listen(511)
    return made


def serve(address: str, log_port: str, sockets: list[socket.socket]) -> subprocess.Popen:
    descriptors = [each.fileno() for each in sockets]
    return subprocess.Popen(
        ["node", str(Path(__file__).with_name("pangolin_server.js")), address, log_port],
        stdin=subprocess.DEVNULL,
        env=os.environ | {"SOCKETS": ",".join(map(str, descriptors))},
        pass_fds=descriptors,
        preexec_fn=lambda: ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
    )


def main() -> None:
    address, log_port, path = sys.argv[1:]
    sockets = [listen(address, port) for port in PORTS]
    node = serve(address, log_port, sockets)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        connections = [sqlite3.connect(path, timeout=PATIENCE, isolation_level=None) for _ in range(2)]
        for connection in connections:  # each opens the file with its first statement
            connection.execute('SELECT count(*) FROM "sites"').fetchall()
        for line in sys.stdin:
            begin = time.monotonic()
            if line == "write\n":
                connections[0].execute('UPDATE "orgs" SET "name" = "name"')
            elif line == "hold\n":
                connections[0].execute("BEGIN IMMEDIATE")
            print(time.monotonic() - begin, flush=True)
    finally:
        node.terminate()
        node.wait()


if __name__ == "__main__":
    main()
