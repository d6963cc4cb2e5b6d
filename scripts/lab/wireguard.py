"""WireGuard interfaces in a namespace: the kernel's, or wireguard-go with or without offloads; set up through `wg`."""

from __future__ import annotations

import enum
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .commands import LabError, require_program, run
from .namespace import Namespace
from .state import State

SOCKET_FOLDER = Path("/var/run/wireguard")
SCRIPTS = Path(__file__).resolve().parent.parent


class Implementation(enum.Enum):
    AUTO = "auto"  # the kernel's where there is one, else wireguard-go
    KERNEL = "kernel"
    USERSPACE = "userspace"  # the wireguard-go in PATH: recent, so its TUN device hands over super-packets
    PLAIN = (
        "plain"  # a wireguard-go from before TUN offloads: its device's statistics count every inner packet
    )


@dataclass(frozen=True)
class KeyPair:
    private: str
    public: str

    @classmethod
    def generate(cls) -> KeyPair:
        require_program("wg")
        private = run(["wg", "genkey"]).stdout.strip()
        return cls(private, run(["wg", "pubkey"], standard_input=private).stdout.strip())


def plain_wireguard_go() -> str:
    """Path of the wireguard-go without offloads: from the environment, or as scripts/plain-wireguard-go finds it."""
    path = os.environ.get("PANGOLIN_EXPORTER_PLAIN_WIREGUARD_GO")
    if path:
        return path
    finder = SCRIPTS / "plain-wireguard-go"
    if not finder.exists():
        raise LabError(
            f"no wireguard-go without offloads: {finder} is missing. "
            "HINT: Set PANGOLIN_EXPORTER_PLAIN_WIREGUARD_GO to the path of version 0.0.20220316."
        )
    lines = run([str(finder)], timeout=600).stdout.split()
    if not lines or not os.access(lines[-1], os.X_OK):
        raise LabError(f"{finder} named no program that can be run")
    return lines[-1]


def refuse_used_socket(path: Path) -> None:
    """wireguard-go's control sockets are named by interface for all namespaces together, so a name can be taken."""
    if not path.exists():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)  # what a killed wireguard-go left
            return
    raise LabError(f"{path} belongs to a running wireguard-go. HINT: Give this world another --tag.")


class Interface:
    """One WireGuard interface. `process` is its wireguard-go, None for the kernel's."""

    def __init__(self, namespace: Namespace, name: str, implementation: Implementation, state: State) -> None:
        self.namespace = namespace
        self.name = name
        self.wanted = implementation
        self.implementation = implementation
        self.state = state
        self.process: subprocess.Popen | None = None

    def create(self) -> None:
        self.implementation = self.wanted
        if self.wanted in (Implementation.AUTO, Implementation.KERNEL):
            if self._create_in_kernel():
                return
            self.implementation = Implementation.USERSPACE
        program = (
            plain_wireguard_go()
            if self.implementation is Implementation.PLAIN
            else require_program("wireguard-go")
        )
        self._start_userspace(program)
        # TUN devices are multicast-capable and WireGuard's are not; be alike, and send no multicast listener reports.
        self.namespace.ip("link", "set", self.name, "multicast", "off", "txqueuelen", "20000")

    def _create_in_kernel(self) -> bool:
        if shutil.which("modprobe"):
            run(["modprobe", "wireguard"], check=False)
        result = run(
            ["ip", "-n", self.namespace.name, "link", "add", self.name, "type", "wireguard"], check=False
        )
        if result.returncode == 0:
            self.state.add("links", [self.namespace.name, self.name])
            self.implementation = Implementation.KERNEL
            return True
        if self.wanted is Implementation.KERNEL:
            raise LabError(f"this kernel has no WireGuard: {result.stderr.strip()}")
        return False

    def _start_userspace(self, program: str) -> None:
        socket_path = SOCKET_FOLDER / f"{self.name}.sock"
        log = self.state.folder / f"{self.name}.log"
        refuse_used_socket(socket_path)
        self.state.add("paths", str(socket_path))
        with open(log, "ab") as output:
            self.process = self.namespace.start(
                [program, "--foreground", self.name], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        deadline = time.monotonic() + 20
        while not (socket_path.exists() and self.exists()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"{program} did not start: {log.read_text(errors='replace').strip()[-600:]}")
            time.sleep(0.02)

    def exists(self) -> bool:
        return run(["ip", "-n", self.namespace.name, "link", "show", self.name], check=False).returncode == 0

    def delete(self) -> None:
        if self.process is not None:
            self.state.stop_process(self.process.pid)
            self.process.wait()
            self.process = None
            self.state.forget("paths", str(SOCKET_FOLDER / f"{self.name}.sock"))
        else:
            self.namespace.ip("link", "delete", self.name)
            self.state.forget("links", [self.namespace.name, self.name])

    def bring_up(self, mtu: int, addresses: Iterable[object]) -> None:
        for address in addresses:
            options = ["nodad"] if ":" in str(address) else []
            self.namespace.ip("address", "add", str(address), "dev", self.name, *options)
        self.namespace.ip("link", "set", self.name, "mtu", str(mtu), "up")
        if self.process is not None:
            # wireguard-go has opened its UDP socket at a moment of its own; setting the port makes it do so again.
            # A plain one leaves the buffer at the machine's default, which is too small for traffic without losses.
            port = self._listening_port()
            with self.state.raised_receive_buffer():
                self.set("listen-port", str(port))

    def _listening_port(self, timeout: float = 10) -> int:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            port = int(self.namespace.run(["wg", "show", self.name, "listen-port"]).stdout)
            if port and f":{port:04X} " in self.namespace.read_file("/proc/thread-self/net/udp"):
                return port
            time.sleep(0.02)
        raise LabError(f"wireguard-go for {self.name} opened no UDP socket in {timeout:.0f} s")

    def set(self, *arguments: str, private_key: str | None = None) -> None:
        if private_key is not None:
            arguments = ("private-key", "/dev/stdin", *arguments)
        self.namespace.run(["wg", "set", self.name, *arguments], standard_input=private_key)

    def add_peer(self, public_key: str, allowed_ips: Iterable[object], *options: str) -> None:
        self.set("peer", public_key, "allowed-ips", ",".join(map(str, allowed_ips)), *options)

    def remove_peer(self, public_key: str) -> None:
        self.set("peer", public_key, "remove")

    def show(self, what: str) -> dict[str, list[str]]:
        """`wg show INTERFACE WHAT` by public key, e.g. show("transfer")[key] == ["123", "456"]."""
        lines = self.namespace.run(["wg", "show", self.name, what]).stdout.splitlines()
        return {key: values for key, *values in (line.split("\t") for line in lines)}

    def transfer(self) -> dict[str, tuple[int, int]]:
        """Encrypted bytes by peer: received, sent."""
        return {key: (int(values[0]), int(values[1])) for key, values in self.show("transfer").items()}

    def latest_handshakes(self) -> dict[str, int]:
        return {key: int(values[0]) for key, values in self.show("latest-handshakes").items()}
