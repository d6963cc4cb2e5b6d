#!/usr/bin/env python3
"""Pangolin's waiting for its database goes on to be counted while the exporter is killed, stopped and upgraded.

The book is the clock of who waits: of a process with a real SQLite database that others lock, and psql's. Each wait is
counted once, and no counter of any scrape falls.

PANGOLIN_EXPORTER_LAB_KILLS   times that it is killed under load (8)
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import harness
from all_metrics_world import PangolinProcess
from harness import wait_for
from lab.namespace import Namespace
from lab.pangolin_schema import TABLES, columns_of, definition
from lab.state import State
from pangolin_server import PangolinServer
from readings import NeverBackwards, no_updates_lost
from test_postgres import VERSION, WAIT, Postgres, Session
from test_restart import other_build

TAG = "waits"
KILLS = int(os.environ.get("PANGOLIN_EXPORTER_LAB_KILLS", "8"))
# What a wait may be longer by the clock of who waits than in the kernel.
SLACK = 0.05 * harness.SLOWNESS


class SqliteWaits:
    """Pangolin writes while somebody else has its database."""

    programs, other_programs = "sqlite_waits", "postgres_waits"
    # Of a Pangolin that starts while nobody is there to see it: it is the process that is watched.
    counted_anew = False

    def __init__(self, namespace: Namespace, folder: Path, name: str = "db.sqlite") -> None:
        self.path = folder / name
        with contextlib.closing(sqlite3.connect(self.path)) as database, database:
            for table in TABLES:
                if columns := columns_of(table, VERSION):
                    quoted = ", ".join(definition(column, "sqlite") for column in columns)
                    database.execute(f'CREATE TABLE "{table}" ({quoted})')
            database.execute('INSERT INTO "orgs" ("orgId", "name") VALUES (?, ?)', ("home", "Home"))
        self.server = PangolinProcess(namespace, "127.0.0.1", self.path)
        self.server.start()
        self.holder: threading.Thread | None = None
        self.metadata = {"sqlite": str(self.path), "refresh": "1s"}

    def start(self, seconds: float) -> None:
        locked = threading.Event()

        def hold() -> None:
            with contextlib.closing(sqlite3.connect(self.path, timeout=20, isolation_level=None)) as database:
                database.execute("BEGIN EXCLUSIVE")
                locked.set()
                time.sleep(seconds)
                database.execute("COMMIT")

        self.holder = threading.Thread(target=hold)
        self.holder.start()
        assert locked.wait(20), "the database could not be locked"
        self.server.process.stdin.write("write\n")
        self.server.process.stdin.flush()

    def finish(self) -> float:
        waited = float(self.server.process.stdout.readline())
        self.holder.join()
        return waited

    def restart(self) -> None:
        self.server.stop()
        self.server.start()

    def close(self) -> None:
        self.server.stop()


class PostgresWaits:
    """A connection of Pangolin's asks its server to be slow."""

    programs, other_programs = "postgres_waits", "sqlite_waits"
    # In the same network namespace and control group, which are what is watched.
    counted_anew = True

    def __init__(self, namespace: Namespace, _folder: Path) -> None:
        self.namespace = namespace
        self.postgres = Postgres(namespace)
        self.server = PangolinServer(namespace, "127.0.0.1")
        self.server.start()
        self.session = Session(namespace)
        self.metadata = {"postgres": f"host={self.postgres.folder} user=postgres", "refresh": "1s"}

    def start(self, seconds: float) -> None:
        self.session.start(f"SELECT pg_sleep({seconds});")

    def finish(self) -> float:
        return self.session.finish()

    def restart(self) -> None:
        self.session.close()
        self.server.stop()
        self.server.start()
        self.session = Session(self.namespace)

    def close(self) -> None:
        self.session.close()
        self.server.stop()
        self.postgres.close()


class Book:
    """What was waited, and what was counted of it."""

    def __init__(self, exporter: harness.Exporter, waits: SqliteWaits | PostgresWaits) -> None:
        self.exporter, self.waits = exporter, waits
        self.expected, self.number = 0.0, 0
        self.begin = self.checked = self.value()
        self.checked_at = 0.0

    def value(self) -> float:
        found = wait_for(
            "the waiting is told",
            lambda: [value for _, value in self.exporter.scrape().select(WAIT)],
            timeout=60,
        )
        return found[0]

    def wait(self, seconds: float) -> None:
        self.waits.start(seconds)
        self.finish()

    def finish(self) -> None:
        self.expected += self.waits.finish()
        self.number += 1

    def check(self, what: str, least: float = 0) -> None:
        """What was waited since the last check, of which it was at least so much."""
        expected = self.expected - self.checked_at
        assert expected >= least, f"{what}: waited for {expected} s only"

        def same() -> bool:
            counted = self.value() - self.checked
            assert abs(counted - expected) < SLACK, f"waited {expected:.3f} s, counted {counted:.3f} s"
            return True

        wait_for(what, same, timeout=5)
        self.checked, self.checked_at = self.value(), self.expected
        print(f"    {what}: waited {expected:.3f} s", flush=True)

    def check_all(self, slack: float) -> None:
        counted = self.value() - self.begin
        print(f"    {self.number} waits, {self.expected:.3f} s, counted {counted:.3f} s", flush=True)
        books = f"waited {self.expected:.3f} s, counted {counted:.3f} s"
        assert counted <= self.expected + 0.01, f"{books}: something is counted twice"
        assert counted >= self.expected - slack, f"{books}: something is lost"
        lost = [line for line in no_updates_lost(self.exporter.scrape()) if "wait" in line or "postgres" in line]
        assert not lost, f"updates were lost: {lost}"

    def pins(self, programs: str) -> list[Path]:
        return list(Path(self.exporter.metrics["pin_dir"]).glob(f"*/{programs}/*"))


class Stories:
    """For each kind of database."""

    kind: type

    def setUp(self) -> None:
        seed = int(os.environ.get("PANGOLIN_EXPORTER_LAB_SEED", time.time_ns() % 1_000_000))
        print(f"PANGOLIN_EXPORTER_LAB_SEED={seed}", flush=True)
        self.random = random.Random(seed)
        state = State(TAG)
        if state.load():
            state.remove_everything()
            state = State(TAG)
        state.begin(owned=True)
        self.addCleanup(state.remove_everything)
        self.namespace = Namespace(f"pangolin_exporter-{TAG}", state)
        self.namespace.create()
        self.exporter = harness.Exporter(
            # Without what takes longest to load, so that most of the time there is somebody to kill.
            {"wireguard": {"netns": self.namespace.name}, "http": {"enabled": False}}
        )
        waits = self.enterContext(contextlib.closing(self.kind(self.namespace, self.exporter.folder)))
        self.exporter.metrics["metadata"] = waits.metadata
        self.enterContext(self.exporter)
        self.book = Book(self.exporter, waits)

    def test_counted_while_it_is_away(self) -> None:
        with NeverBackwards(self.exporter, restarts=True):
            self.book.wait(0.5)
            self.book.check("while it is there", 0.5)
            for end in (self.exporter.kill, lambda: self.exporter.stop(detach=False)):
                self.only_while_away(end)
                self.over_its_end(end)
                self.over_its_start(end)
            for program in (other_build(self.exporter.folder), harness.exporter_path):
                self.upgraded(program)
            self.pangolin_started_anew()
            self.detached()
            self.book.check_all(SLACK * 4)

    def only_while_away(self, end: Callable[[], None]) -> None:
        end()
        self.book.wait(0.6)
        self.book.wait(0.4)
        self.exporter.start()
        self.book.check("while it was away", 1)

    def over_its_end(self, end: Callable[[], None]) -> None:
        self.book.waits.start(1.5)
        time.sleep(0.5)
        end()
        self.book.finish()
        self.exporter.start()
        self.book.check("from before its end to when it was away", 1.5)

    def over_its_start(self, end: Callable[[], None]) -> None:
        end()
        self.book.waits.start(3)
        time.sleep(0.5)
        self.exporter.start()
        self.book.value()
        self.book.finish()
        self.book.check("from when it was away to after its start", 3)

    def upgraded(self, program: Path) -> None:
        """Another layout: new maps, and the old ones' counts are credited."""
        self.exporter.kill()
        self.book.wait(0.5)
        self.exporter.program = program
        self.exporter.start()
        self.book.check("before an upgrade", 0.5)
        self.book.wait(0.5)
        self.book.check("after it", 0.5)
        self.assertEqual(len(self.book.pins(self.book.waits.programs)), 1)

    def pangolin_started_anew(self) -> None:
        self.exporter.kill()
        self.book.wait(0.4)
        self.book.waits.restart()
        if self.book.waits.counted_anew:
            self.book.wait(0.3)
        else:
            self.book.waits.start(0.3)
            self.book.waits.finish()
        self.exporter.start()
        self.book.check("of a Pangolin that started anew meanwhile", 0.4)
        self.book.wait(0.5)
        self.book.check("of the new one", 0.5)
        time.sleep(3)
        self.book.wait(0.5)
        self.book.check("later", 0.5)

    def detached(self) -> None:
        exporter, programs = self.exporter, self.book.waits.programs
        shown = subprocess.run(
            [str(exporter.program), "check", f"--config.file={exporter.folder / 'config.yml'}"],
            capture_output=True,
            text=True,
        ).stdout
        lines = [line for line in shown.splitlines() if f": {programs} of " in line]
        self.assertEqual(len(lines), 1, shown)
        self.assertTrue(lines[0].endswith(", attached"), lines[0])
        self.assertEqual(self.book.pins(self.book.waits.other_programs), [])
        exporter.stop(detach=False)
        self.assertTrue(self.book.pins(programs), "nothing is left to count on")
        exporter.detach()
        self.assertFalse(Path(exporter.metrics["pin_dir"]).exists())
        # As there is nobody to count it.
        self.book.waits.start(0.3)
        self.book.waits.finish()
        exporter.metrics["pin_dir"] += "-other"
        exporter.start()
        self.book.check("without its maps, and in another folder")
        self.book.wait(0.5)
        self.book.check("from then on", 0.5)

    def test_killed_under_load(self) -> None:
        over = threading.Event()
        troubles: list[BaseException] = []

        def work() -> None:
            try:
                while not over.is_set():
                    self.book.wait(0.05 + 0.15 * self.random.random())
            except BaseException as trouble:
                troubles.append(trouble)

        with NeverBackwards(self.exporter, restarts=True):
            worker = threading.Thread(target=work)
            worker.start()
            try:
                for _ in range(KILLS):
                    time.sleep(1.5 * self.random.random())
                    self.exporter.kill()
                    time.sleep(0.5 * self.random.random())
                    self.exporter.start()
                    # Some are killed before, some while and some after they take over.
                    if self.random.random() < 0.5:
                        self.book.value()
            finally:
                over.set()
                worker.join()
            self.assertEqual(troubles, [])
            self.book.check_all(self.book.number * 0.001 * harness.SLOWNESS)


class RestartOfSqliteWaits(Stories, harness.LabTest):
    kind = SqliteWaits

    def test_another_database(self) -> None:
        """The total is of whatever database Pangolin had."""
        with NeverBackwards(self.exporter, restarts=True):
            self.exporter.kill()
            self.book.wait(0.5)
            self.book.waits.close()
            other = SqliteWaits(self.namespace, self.exporter.folder, "other.sqlite")
            self.book.waits = self.enterContext(contextlib.closing(other))
            self.exporter.metrics["metadata"] = other.metadata
            self.exporter.start()
            self.book.check("of the database of before", 0.5)
            self.book.wait(0.5)
            self.book.check("of the other one", 0.5)
            self.exporter.kill()
            self.book.wait(0.5)
            other.close()
            postgres = self.enterContext(contextlib.closing(PostgresWaits(self.namespace, self.exporter.folder)))
            self.exporter.metrics["metadata"] = postgres.metadata
            self.exporter.start()
            self.book.check("of SQLite", 0.5)
            self.book.waits = postgres
            self.book.wait(0.5)
            self.book.check("of PostgreSQL", 0.5)
            self.assertEqual(self.book.pins("sqlite_waits"), [])


class RestartOfPostgresWaits(Stories, harness.LabTest):
    kind = PostgresWaits


if __name__ == "__main__":
    harness.main()
