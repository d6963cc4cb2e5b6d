"""Runs lab_newt: what Traefik dials in front of the real targets."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lab.commands import LabError
from lab.namespace import Namespace
from lab.resources import Target

REPOSITORY = Path(__file__).resolve().parents[2]


def newt_program(folder: Path) -> Path:
    """The program as built, or built here and now: it needs nothing but a compiler."""
    for candidate in (
        os.environ.get("PANGOLIN_EXPORTER_LAB_NEWT"),
        REPOSITORY / "build/tests/lab/lab_newt",
    ):
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate)
    program = folder / "lab_newt"
    if not program.exists():
        source = Path(__file__).with_name("newt.cc")
        subprocess.run(["g++", "-std=c++23", "-O2", "-o", str(program), str(source)], check=True)
    return program


class Newt:
    """Listeners where Traefik dials, each with (protocol, target, where it is dialled from here)."""

    def __init__(
        self, program: Path, namespace: Namespace, relays: Sequence[tuple[str, Target, tuple[str, int]]]
    ) -> None:
        self.namespace = namespace
        self.targets = [target for _, target, _ in relays]
        arguments = [str(program)]
        for protocol, target, onward in relays:
            arguments += [f"--{protocol}", "{}:{}={}:{}".format(*target.address, *onward)]
        self.process = namespace.start(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            raise LabError(f"lab_newt in {namespace.name} did not start")

    def _ask(self, line: str) -> str:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().rstrip("\n")
        if not answer or answer.startswith("error"):
            raise LabError(f"lab_newt in {self.namespace.name}: {line!r}: {answer or 'it has ended'}")
        return answer

    def report(self) -> dict[int, dict]:
        """By port; the names are explained in newt_loop.h."""
        return {int(port): counts for port, counts in json.loads(self._ask("report")).items()}

    def counts(self, target: Target) -> dict:
        return self.report()[target.address[1]]

    def set_mode(self, target: Target, mode: str, after_bytes: int | None = None) -> None:
        """relay, silent, close, reset (after so many bytes of the answer) or absent: see newt.cc."""
        self._ask(f"mode {target.address[1]} {mode}" + ("" if after_bytes is None else f" {after_bytes}"))

    def cut(self, target: Target) -> None:
        """Closes the connections that there are."""
        self._ask(f"cut {target.address[1]}")

    def close(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=20)
        self.namespace.state.stop_process(self.process.pid)
