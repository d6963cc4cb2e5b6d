"""The exporter and its process broker as systemd starts them: users, capabilities, folders and mounts of the units."""

from __future__ import annotations

import os
import pwd
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from unittest import TestCase, mock

import harness
from lab.wireguard import SOCKET_FOLDER, Interface

UNITS = harness.REPOSITORY / "scripts/systemd"
UNIT = UNITS / "pangolin_exporter.service.in"
BROKER_UNIT = UNITS / "pangolin_process_broker.service.in"
SOCKET_UNIT = UNITS / "pangolin_process_broker.socket"
# The unit's own user is made when the package is installed; any other that owns nothing is as good here.
USER = pwd.getpwnam("nobody").pw_uid
# As systemd draws one for DynamicUser=.
BROKER_USER = 61184 + os.getpid() % 4000

# Both see a /proc of their own.
PROC = 'mount -t proc -o "$1" proc /proc; shift; '

# The service's mounts, as far as they could be in the way: the host's BPF filesystem shows it no more than its pins, and
# namespaces with a name are hidden, as those of containers are, so that they must be found by their processes. What a
# wireguard-go answers is for root alone, other than what the kernel's WireGuard does: relays stand in its place.
MOUNTS = """
set -e
pins=$1 view=$2 sockets=$3 broker=$4 asked=$5
shift 5
mkdir -p "$view/$(basename "$pins")"
mount --bind "$pins" "$view/$(basename "$pins")"
mount --rbind "$view" /sys/fs/bpf
mount -t tmpfs -o mode=755 none /run/netns
[ -z "$sockets" ] || mount --bind "$sockets" /run/wireguard
[ -z "$broker" ] || mount --bind "$broker" "$asked"
""" + PROC + '''
exec "$@"
'''

BROKER_START = """
set -e
exec 3<&"$1"
shift
export LISTEN_FDS=1 LISTEN_PID=$$
""" + PROC + '''
exec "$@"
'''


def unit_setting(name: str, unit: Path = UNIT) -> list[str]:
    """The words of a setting of the unit."""
    found = re.findall(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)
    assert found, f"{unit.name} has no {name}="
    return found[-1].split()


def capabilities(setting: str, unit: Path = UNIT) -> set[str]:
    return {word.removeprefix("CAP_").lower() for word in unit_setting(setting, unit)}


def proc_options(unit: Path) -> str:
    [hidden] = unit_setting("ProtectProc", unit)
    options = ["hidepid=" + {"default": "off"}.get(hidden, hidden)]
    if "\nProcSubset=" in unit.read_text():
        options += ["subset=" + unit_setting("ProcSubset", unit)[0]]
    return ",".join(options)


def become(user: int, unit: Path) -> list[str]:
    ambient = capabilities("AmbientCapabilities", unit)
    bounding = capabilities("CapabilityBoundingSet", unit)
    return [
        *("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs"),
        "--inh-caps=-all," + ",".join(f"+{name}" for name in sorted(ambient)),
        "--ambient-caps=-all," + ",".join(f"+{name}" for name in sorted(ambient)),
        "--bounding-set=-all," + ",".join(f"+{name}" for name in sorted(bounding)),
    ]


def status_of(pid: int) -> dict[str, str]:
    """The lines of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


class Broker:
    """pangolin_process_broker by its socket unit: started when somebody asks, and again when it ended and somebody asks."""

    asked = unit_setting("ListenSequentialPacket", SOCKET_UNIT)[0]

    def __init__(self) -> None:
        assert unit_setting("SocketUser", SOCKET_UNIT) == unit_setting("User"), "its client is the exporter"
        self.folder = tempfile.TemporaryDirectory(prefix="pangolin_exporter-test-")
        os.chmod(self.folder.name, 0o755)
        self.path = Path(self.folder.name, "socket")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(self.path))
        os.chown(self.path, USER, 0)
        os.chmod(self.path, int(unit_setting("SocketMode", SOCKET_UNIT)[0], 8))
        self.listener.listen(16)
        self.process: subprocess.Popen | None = None
        self.starts = 0
        self.permitted = threading.Event()
        self.permitted.set()
        self.ended = threading.Event()
        # Where the exporter's mounts put the socket.
        # A run that was killed leaves an empty file.
        self.made = not Path(self.asked).exists() or Path(self.asked).is_file()
        if self.made:
            Path(self.asked).touch()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.permitted.set()
        while self.thread.is_alive():
            self.kill()
            self.thread.join(0.1)
        self.listener.close()
        self.folder.cleanup()
        if self.made:
            Path(self.asked).unlink(missing_ok=True)

    def _watch(self) -> None:
        while not self.ended.is_set():
            self.permitted.wait()
            asked = select.select([self.listener], [], [], 0.05)[0]
            if asked and self.permitted.is_set() and not self.ended.is_set():
                self._start()
                self.process.wait()

    def _start(self) -> None:
        descriptor = self.listener.fileno()
        program = harness.exporter_path.parent / "pangolin_process_broker"
        self.process = subprocess.Popen(
            [
                *("unshare", "--net", "--mount", "--propagation", "slave", "bash", "-c", BROKER_START, "bash"),
                *(str(descriptor), proc_options(BROKER_UNIT), *become(BROKER_USER, BROKER_UNIT), str(program)),
            ],
            pass_fds=(descriptor,),
            stdin=subprocess.DEVNULL,
        )
        self.starts += 1

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


class Service(harness.Exporter):
    # With relays to wireguard-go, see `relay_wireguard`.
    sockets: Path | str = ""
    # See `serve_processes`.
    broker: Broker | None = None

    def __init__(self, metrics: dict, arguments: Sequence[str] = (), folder: Path | None = None) -> None:
        super().__init__(metrics, arguments, folder)
        self.metrics["wireguard"] = dict(self.metrics.get("wireguard", {})) | {"netns": "auto"}
        view = self.folder / "bpf"
        self.launcher = [
            *("unshare", "--mount", "--propagation", "slave", "sh", "-c", MOUNTS, "sh"),
            *(self.metrics["pin_dir"], str(view), str(self.sockets)),
            *(str(self.broker.path if self.broker else ""), Broker.asked, proc_options(UNIT)),
            *become(USER, UNIT),
        ]

    def start(self) -> None:
        self.folder.chmod(0o755)
        for owned in (self.metrics["state_dir"], self.metrics["pin_dir"]):
            Path(owned).mkdir(mode=0o700, parents=True, exist_ok=True)
            os.chown(owned, USER, USER)
        super().start()

    def status(self) -> dict[str, str]:
        return status_of(self.process.pid)


def serve_processes(test: type[TestCase]) -> None:
    """Until the end of the class every Service has a broker, the same for all."""
    broker = test.enterClassContext(Broker())
    test.enterClassContext(mock.patch.object(Service, "broker", broker))


def relay_wireguard(test: type[TestCase]) -> None:
    """Until the end of the class every wireguard-go that is started has a relay that a Service may ask."""
    folder = test.enterClassContext(tempfile.TemporaryDirectory(prefix="pangolin_exporter-test-"))
    os.chmod(folder, 0o755)
    create = Interface.create

    def create_with_relay(interface: Interface) -> None:
        create(interface)
        if interface.process is None:
            return
        name = f"{interface.name}.sock"
        relay = Path(folder, name)
        relay.unlink(missing_ok=True)
        program = Path(__file__).with_name("uapi_relay.py")
        interface.namespace.start(
            [sys.executable, str(program), str(SOCKET_FOLDER / name), str(relay), str(USER)]
        )
        harness.wait_for("the relay listens", relay.exists, every=0.02)

    test.enterClassContext(mock.patch.object(Interface, "create", create_with_relay))
    test.enterClassContext(mock.patch.object(Service, "sockets", folder))
