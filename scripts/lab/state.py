"""What a world made, on disk: written before (or at once after) each making, so that a crash leaves nothing unknown.

Only what is recorded here is ever removed, and a process is only ever signalled while its start time is the
recorded one: a process id that the kernel gave to somebody else in the meantime is left alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from .commands import LabError, run

STATE_FOLDER = Path("/run/pangolin_exporter-lab")
RECEIVE_BUFFER = Path("/proc/sys/net/core/rmem_default")


def process_start_time(process_id: int) -> int | None:
    """Clock ticks after boot at which the process started; None when there is no such process (or only its corpse)."""
    try:
        text = Path(f"/proc/{process_id}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[
        text.rindex(")") + 2 :
    ].split()  # the name in parentheses may itself hold spaces and parentheses
    return None if fields[0] in "ZX" else int(fields[19])


class State:
    """The record of one world, in /run/pangolin_exporter-lab/<tag>.json and the folder <tag> beside it."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.path = STATE_FOLDER / f"{tag}.json"
        self.folder = STATE_FOLDER / tag
        self.children: list[subprocess.Popen] = []  # those of this process, to be reaped when they end
        self.content: dict = {
            "tag": tag,
            "owner": None,
            "processes": [],
            "namespaces": [],
            "links": [],
            "paths": [],
            "receive_buffer": None,
            "description": {},
        }

    @staticmethod
    def all_tags() -> list[str]:
        return sorted(path.stem for path in STATE_FOLDER.glob("*.json"))

    def load(self) -> bool:
        try:
            self.content |= json.loads(self.path.read_text())
        except FileNotFoundError:
            return False
        except ValueError as error:
            raise LabError(f"{self.path} is damaged ({error}). HINT: Look at it, then remove it.") from error
        return True

    def save(self) -> None:
        STATE_FOLDER.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".draft")
        draft.write_text(json.dumps(self.content, indent=2) + "\n")
        draft.replace(self.path)

    def begin(self, owned: bool) -> None:
        """Starts a fresh record. An owned world lives only as long as the calling process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if owned:
            self.content["owner"] = {"pid": os.getpid(), "started": process_start_time(os.getpid())}
        self.save()

    def owner_is_alive(self) -> bool:
        owner = self.content["owner"]
        return bool(owner) and process_start_time(owner["pid"]) == owner["started"]

    def add(self, kind: str, item: object) -> None:
        if item not in self.content[kind]:
            self.content[kind].append(item)
            self.save()

    def forget(self, kind: str, item: object) -> None:
        if item in self.content[kind]:
            self.content[kind].remove(item)
            self.save()

    def add_process(self, process_id: int, name: str) -> None:
        self.add("processes", {"pid": process_id, "started": process_start_time(process_id), "name": name})

    def stop_process(self, process_id: int, patience: float = 5) -> None:
        for entry in [entry for entry in self.content["processes"] if entry["pid"] == process_id]:
            stop_recorded([entry], patience)
            self.reap(process_id)
            self.forget("processes", entry)

    def reap(self, process_id: int | None = None) -> None:
        """Waits for stopped children (one, or all): a dead first thread does not mean that the others are gone."""
        for child in [child for child in self.children if process_id in (None, child.pid)]:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=5)
                self.children.remove(child)

    @contextlib.contextmanager
    def raised_receive_buffer(self, size: int = 16 << 20) -> Iterator[None]:
        """Sockets opened meanwhile get a large receive buffer, also those of programs that do not ask for one.

        The setting belongs to the whole machine, so it is recorded, changed for a moment under a lock, and put back.
        """
        STATE_FOLDER.mkdir(parents=True, exist_ok=True)
        with open(STATE_FOLDER / "receive_buffer.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.content["receive_buffer"] = RECEIVE_BUFFER.read_text().strip()
            self.save()
            RECEIVE_BUFFER.write_text(str(size))
            try:
                yield
            finally:
                self.restore_receive_buffer()

    def restore_receive_buffer(self) -> None:
        if self.content["receive_buffer"]:
            RECEIVE_BUFFER.write_text(self.content["receive_buffer"])
            self.content["receive_buffer"] = None
            self.save()

    def remove_everything(self) -> list[str]:
        """Removes all that is recorded, newest first, and the record itself; answers what could not be removed."""
        problems: list[str] = []
        self.restore_receive_buffer()
        stop_recorded(list(reversed(self.content["processes"])))
        self.reap()
        for namespace, interface in reversed(self.content["links"]):
            run(["ip", "-n", namespace, "link", "delete", interface], check=False)  # mostly gone already
        for namespace in reversed(self.content["namespaces"]):
            if Path("/run/netns", namespace).exists():
                result = run(["ip", "netns", "delete", namespace], check=False)
                if result.returncode != 0:
                    problems.append(f"namespace {namespace}: {result.stderr.strip()}")
        for path in map(Path, reversed(self.content["paths"])):
            remove_path(path)
        if problems:
            self.content["processes"] = []
            self.save()
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.path.unlink(missing_ok=True)
        return problems


def remove_path(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def stop_recorded(entries: list[dict], patience: float = 5) -> None:
    """SIGTERM to each recorded process that still is the recorded one, SIGKILL to those that do not obey in time."""

    def alive() -> list[dict]:
        return [
            entry
            for entry in entries
            if entry["started"] and process_start_time(entry["pid"]) == entry["started"]
        ]

    for sent in (signal.SIGTERM, signal.SIGKILL):
        for entry in alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(entry["pid"], sent)
        deadline = time.monotonic() + patience
        while alive() and time.monotonic() < deadline:
            time.sleep(0.02)
