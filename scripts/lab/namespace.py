"""A network namespace: run programs in it, open sockets in it, set its switches."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from .commands import LabError, run
from .state import State

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _set_namespace(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns: " + os.strerror(ctypes.get_errno()))


class Namespace:
    """Made and removed by a World; `name` is the one under /run/netns."""

    def __init__(self, name: str, state: State) -> None:
        self.name = name
        self.path = Path("/run/netns", name)
        self.state = state

    def create(self) -> None:
        if self.path.exists():
            raise LabError(
                f"namespace {self.name} exists and is not this lab's. "
                f"HINT: If nobody needs it, run ip netns delete {self.name}."
            )
        self.state.add("namespaces", self.name)
        run(["ip", "netns", "add", self.name])
        self.ip("link", "set", "lo", "up")
        self.quieten()

    def delete(self) -> None:
        if self.path.exists():
            run(["ip", "netns", "delete", self.name])
        self.state.forget("namespaces", self.name)

    def quieten(self) -> None:
        """No packets that nobody asked for: the tests account for every single one."""
        for scope in ("all", "default"):
            for switch, value in (
                ("accept_ra", 0),
                ("accept_dad", 0),
                ("router_solicitations", 0),
                ("addr_gen_mode", 1),
            ):
                self.set_switch(f"net/ipv6/conf/{scope}/{switch}", value)

    def set_switch(self, name: str, value: object) -> None:
        """Writes /proc/sys/NAME as this namespace sees it."""
        with self.entered():
            Path("/proc/sys", name).write_text(str(value))

    def read_file(self, path: str) -> str:
        """Reads a file below /proc/thread-self/net or /proc/sys/net as this namespace sees it."""
        with self.entered():
            return Path(path).read_text()

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread (no other) is in the namespace for the duration. Start no process meanwhile."""
        with open("/proc/thread-self/ns/net") as home, open(self.path) as target:
            _set_namespace(target.fileno())
            try:
                yield
            finally:
                _set_namespace(home.fileno())

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that belongs to this namespace for life, usable from any thread."""
        with self.entered():
            return socket.socket(family, kind, protocol)

    def command(self, arguments: Sequence[str]) -> list[str]:
        return ["ip", "netns", "exec", self.name, *arguments]

    def run(
        self,
        arguments: Sequence[str],
        *,
        standard_input: str | None = None,
        check: bool = True,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        return run(self.command(arguments), standard_input=standard_input, check=check, timeout=timeout)

    def ip(self, *arguments: str) -> str:
        return run(["ip", "-n", self.name, *arguments]).stdout

    def start(self, arguments: Sequence[str], **options) -> subprocess.Popen:
        """Starts a program in the namespace, recorded, in its own session so that Ctrl-C reaches only the lab."""
        process = subprocess.Popen(self.command(arguments), start_new_session=True, **options)
        self.state.children.append(process)
        self.state.add_process(process.pid, Path(arguments[0]).name)
        return process
