"""The exporter as systemd starts it: user, capabilities, folders and mounts of the shipped unit."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Sequence
from pathlib import Path

import harness

UNIT = harness.REPOSITORY / "scripts/systemd/pangolin_exporter.service.in"
# The unit's own user is made when the package is installed; any other that owns nothing is as good here.
USER = pwd.getpwnam("nobody").pw_uid

# The service's mounts, as far as they could be in the way: the host's BPF filesystem shows it no more than its pins, and
# namespaces with a name are hidden, as those of containers are, so that they must be found by their processes.
MOUNTS = """
set -e
pins=$1 view=$2
shift 2
mkdir -p "$view/$(basename "$pins")"
mount --bind "$pins" "$view/$(basename "$pins")"
mount --rbind "$view" /sys/fs/bpf
mount -t tmpfs -o mode=755 none /run/netns
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
    def __init__(self, metrics: dict, arguments: Sequence[str] = (), folder: Path | None = None) -> None:
        super().__init__(metrics, arguments, folder)
        self.metrics["wireguard"] = dict(self.metrics.get("wireguard", {})) | {"netns": "auto"}
        view = self.folder / "bpf"
        self.launcher = [
            *("unshare", "--mount", "--propagation", "slave", "sh", "-c", MOUNTS, "sh"),
            *(self.metrics["pin_dir"], str(view)),
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
