"""The exporter as systemd starts it: user, capabilities, folders and mounts of the shipped unit."""

from __future__ import annotations

import os
import pwd
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from unittest import TestCase, mock

import harness
from lab.wireguard import SOCKET_FOLDER, Interface

UNIT = harness.REPOSITORY / "scripts/systemd/pangolin_exporter.service.in"
# The unit's own user is made when the package is installed; any other that owns nothing is as good here.
USER = pwd.getpwnam("nobody").pw_uid

# The service's mounts, as far as they could be in the way: the host's BPF filesystem shows it no more than its pins, and
# namespaces with a name are hidden, as those of containers are, so that they must be found by their processes. What a
# wireguard-go answers is for root alone, other than what the kernel's WireGuard does: relays stand in its place.
MOUNTS = """
set -e
pins=$1 view=$2 sockets=$3
shift 3
mkdir -p "$view/$(basename "$pins")"
mount --bind "$pins" "$view/$(basename "$pins")"
mount --rbind "$view" /sys/fs/bpf
mount -t tmpfs -o mode=755 none /run/netns
[ -z "$sockets" ] || mount --bind "$sockets" /run/wireguard
exec "$@"
"""


def unit_setting(name: str) -> list[str]:
    """The words of a setting of the unit."""
    found = re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)
    assert found, f"{UNIT.name} has no {name}="
    return found[-1].split()


def capabilities(setting: str) -> set[str]:
    return {word.removeprefix("CAP_").lower() for word in unit_setting(setting)}


class Service(harness.Exporter):
    # With relays to wireguard-go, see `relay_wireguard`.
    sockets: Path | str = ""

    def __init__(self, metrics: dict, arguments: Sequence[str] = (), folder: Path | None = None) -> None:
        super().__init__(metrics, arguments, folder)
        self.metrics["wireguard"] = dict(self.metrics.get("wireguard", {})) | {"netns": "auto"}
        view = self.folder / "bpf"
        self.launcher = [
            *("unshare", "--mount", "--propagation", "slave", "sh", "-c", MOUNTS, "sh"),
            *(self.metrics["pin_dir"], str(view), str(self.sockets)),
            *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"),
            "--inh-caps=-all," + ",".join(f"+{name}" for name in sorted(capabilities("AmbientCapabilities"))),
            "--ambient-caps=-all," + ",".join(f"+{name}" for name in sorted(capabilities("AmbientCapabilities"))),
            "--bounding-set=-all," + ",".join(f"+{name}" for name in sorted(capabilities("CapabilityBoundingSet"))),
        ]

    def start(self) -> None:
        self.folder.chmod(0o755)
        for owned in (self.metrics["state_dir"], self.metrics["pin_dir"]):
            Path(owned).mkdir(mode=0o700, parents=True, exist_ok=True)
            os.chown(owned, USER, USER)
        super().start()

    def status(self) -> dict[str, str]:
        """Its lines of /proc/PID/status."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


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
