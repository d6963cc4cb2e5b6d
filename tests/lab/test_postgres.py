#!/usr/bin/env python3
"""A Pangolin with PostgreSQL: how long it waits for the database, by the clock of who waits, and its connections."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import harness
from harness import wait_for
from lab.namespace import Namespace
from lab.pangolin_schema import TABLES, columns_of, definition
from lab.state import State
from pangolin_server import PangolinServer

TAG = "pg"
VERSION = (1, 22, 0)
WAIT = "pangolin_db_wait_seconds_total"
CONNECTIONS = "pangolin_db_pool_connections"


class Postgres:
    """Debian's, in a namespace, with Pangolin's tables; over TCP it asks for no password there."""

    def __init__(self, namespace: Namespace) -> None:
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        if not programs:
            raise AssertionError("PostgreSQL is not installed")
        self.programs, self.namespace = programs[-1].parent, namespace
        self.folder = Path(tempfile.mkdtemp(prefix="pangolin_exporter-test-"))
        shutil.chown(self.folder, "postgres", "postgres")
        self.folder.chmod(0o755)
        data = str(self.folder / "data")
        self.as_postgres("initdb", "-D", data, "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(self.folder), "fsync": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self.process = namespace.start(
            ["runuser", "-u", "postgres", "--", str(self.programs / "postgres"), "-D", data, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for("PostgreSQL answers", lambda: self.sql("SELECT 1") or True)
        tables = (
            'CREATE TABLE "{}" ({})'.format(
                table, ", ".join(definition(column, "postgres") for column in columns_of(table, VERSION))
            )
            for table in TABLES
            if columns_of(table, VERSION)
        )
        self.sql("; ".join(tables))

    def as_postgres(self, program: str, *arguments: str) -> None:
        command = ["runuser", "-u", "postgres", "--", str(self.programs / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd="/")

    def sql(self, *statements: str) -> str:
        """As somebody on the server itself, whom nobody times."""
        command = ["psql", "-X", "-q", "-h", str(self.folder), "-U", "postgres", "-v", "ON_ERROR_STOP=1"]
        for statement in statements:
            command += ["-c", statement]
        answer = subprocess.run(command, capture_output=True, text=True)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def close(self) -> None:
        for pid in (self.folder / "data/postmaster.pid").read_text().split()[:1]:
            os.kill(int(pid), 3)  # SIGQUIT: at once
        self.namespace.state.stop_process(self.process.pid)
        shutil.rmtree(self.folder, ignore_errors=True)


class Session:
    """A connection of Pangolin's pool, as psql in its namespace has it."""

    def __init__(self, namespace: Namespace) -> None:
        self.process = namespace.start(
            ["psql", "-X", "-q", "-h", "127.0.0.1", "-U", "postgres", "-v", "ON_ERROR_STOP=1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PGAPPNAME": "pangolin", "PGSSLMODE": "disable", "PGGSSENCMODE": "disable"},
        )
        self.namespace = namespace
        self.run("\\timing on")

    def start(self, statement: str) -> None:
        self.process.stdin.write(f"{statement}\n\\echo done\n")
        self.process.stdin.flush()

    def finish(self) -> float:
        """Seconds by psql's own clock."""
        seconds = 0.0
        for line in self.process.stdout:
            if line == "done\n":
                return seconds
            found = re.match(r"Time: ([\d.]+) ms", line)
            seconds += float(found[1]) / 1000 if found else 0
        raise AssertionError("psql ended")

    def run(self, statement: str) -> float:
        self.start(statement)
        return self.finish()

    def close(self) -> None:
        self.process.stdin.close()
        self.namespace.state.stop_process(self.process.pid)
        self.process.stdout.close()


class PostgresTest(harness.LabTest):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        state = State(TAG)
        if state.load():
            state.remove_everything()
            state = State(TAG)
        state.begin(owned=True)
        cls.addClassCleanup(state.remove_everything)
        cls.namespace = Namespace(f"pangolin_exporter-{TAG}", state)
        cls.namespace.create()
        cls.postgres = cls.enterClassContext(contextlib.closing(Postgres(cls.namespace)))
        server = PangolinServer(cls.namespace, "127.0.0.1")
        server.start()
        cls.addClassCleanup(server.stop)
        cls.exporter = cls.enterClassContext(
            harness.Exporter(
                {
                    "wireguard": {"netns": cls.namespace.name},
                    "metadata": {"postgres": f"host={cls.postgres.folder} user=postgres", "refresh": "1s"},
                }
            )
        )
        cls.exporter.wait_alive()
        wait_for("Pangolin's waiting is told", lambda: cls.exporter.scrape().value(WAIT) is not None)

    def waited(self) -> float:
        return self.exporter.scrape().value(WAIT)

    def test_waits_are_those_of_the_wire(self) -> None:
        self.postgres.sql("CREATE TABLE t (x int)")
        session = self.enterContext(contextlib.closing(Session(self.namespace)))
        before = self.waited()
        expected = session.run("SELECT pg_sleep(0.4);") + session.run("SELECT repeat('x', 1000000);")
        self.assertAlmostEqual(self.waited() - before, expected, delta=0.05 * harness.SLOWNESS)
        # Another holds the table for a second.
        holder = subprocess.Popen(
            ["psql", "-X", "-q", "-h", str(self.postgres.folder), "-U", "postgres"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        holder.stdin.write("BEGIN; LOCK TABLE t; SELECT pg_sleep(1); COMMIT;\n")
        holder.stdin.close()
        wait_for("the table is locked", lambda: "AccessExclusive" in self.postgres.sql("SELECT mode FROM pg_locks"))
        locked = time.monotonic()
        expected += session.run("INSERT INTO t VALUES (1);")
        self.assertGreater(time.monotonic() - locked, 0.5)
        holder.wait()
        self.assertGreater(expected, 0.4 + 0.5)
        self.assertAlmostEqual(self.waited() - before, expected, delta=0.1 * harness.SLOWNESS)
        # The exporter's own queries go on all the time and are nobody's waiting.
        time.sleep(2)
        self.assertAlmostEqual(self.waited() - before, expected, delta=0.1 * harness.SLOWNESS)

    def test_connections(self) -> None:
        sessions = [self.enterContext(contextlib.closing(Session(self.namespace))) for _ in range(3)]
        sessions[0].run("BEGIN;")
        sessions[1].start("SELECT pg_sleep(20);")
        wait_for(
            "two are active and one is idle",
            lambda: {
                having["state"]: value for having, value in self.exporter.scrape().select(CONNECTIONS)
            }
            == {"active": 2, "idle": 1},
            timeout=15,
        )


if __name__ == "__main__":
    harness.main()
