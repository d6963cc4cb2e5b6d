"""A Podman of the test's own: all that it makes is below one folder, in a cgroup and a mount namespace of their own.

There it finds what hosts have today whatever this one has, cgroup v2 alone, and its storage where Podman's is. The
mounts end with the processes in it.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from lab.commands import LabError, run
from lab.state import State
from lab.world import World

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
CGROUP = "pangolin_exporter-container"
RUNC_STATE = Path("/run/runc")
STORAGE = "/var/lib/containers/storage"

HOLD = """
set -e
umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs none /var/lib
mkdir -p "$2" "$1/storage" "$1/run"
mount --bind "$1/storage" "$2"
echo ready
exec sleep infinity
"""

# runc and explicit limits: they ask for no more than root has in a machine without CAP_SYS_RESOURCE.
ENGINE = """
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
log_driver = "k8s-file"
pids_limit = 0
"""


def reason_to_skip() -> str | None:
    for program in ("podman", "conmon", "runc"):
        if shutil.which(program) is None:
            return f"needs the program {program}"
    return None


def storage_driver() -> str:
    if shutil.which("modprobe"):
        run(["modprobe", "overlay"], check=False)
    return "overlay" if "\toverlay\n" in Path("/proc/filesystems").read_text() else "vfs"


class Podman:
    def __init__(self, tag: str) -> None:
        self.world = World(0, tag)  # never made: its record is what outlives a crash
        self.state: State

    def __enter__(self) -> Podman:
        self.world.clear_leftovers()
        self.state = self.world.state
        self.state.begin(owned=True)
        self.folder = Path(tempfile.mkdtemp(prefix="pangolin_exporter-podman-"))
        self.state.add("paths", str(self.folder))
        self.remove_cgroups()
        try:
            self._hold_namespace()
            self._write_configuration()
        except BaseException:
            self.state.remove_everything()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self("rm", "--force", "--all", "--time", "0", check=False)
        self.state.remove_everything()
        self.remove_cgroups()
        # runc's, where nobody else uses it.
        with contextlib.suppress(OSError):
            RUNC_STATE.rmdir()

    def _hold_namespace(self) -> None:
        self.holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "slave", "sh", "-c", HOLD, "sh", str(self.folder), STORAGE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.state.children.append(self.holder)
        self.state.add_process(self.holder.pid, "sleep")
        if self.holder.stdout.readline() != "ready\n":
            raise LabError(f"no mount namespace for Podman: {self.holder.stderr.read().strip()}")
        self.launcher = ("nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", "--")

    def _write_configuration(self) -> None:
        (self.folder / "containers.conf").write_text(ENGINE)
        (self.folder / "storage.conf").write_text(
            f'[storage]\ndriver = "{storage_driver()}"\ngraphroot = "{STORAGE}"\nrunroot = "{self.folder}/run"\n'
        )
        self.program = self.folder / "podman"
        self.program.write_text(
            f"#!/bin/sh\nexport CONTAINERS_CONF={self.folder}/containers.conf"
            f" CONTAINERS_STORAGE_CONF={self.folder}/storage.conf\n"
            f"exec {' '.join(self.launcher)} podman --tmpdir {self.folder}/tmp \"$@\"\n"
        )
        self.program.chmod(0o755)

    @staticmethod
    def remove_cgroups() -> None:
        for root in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
            for folder in sorted((root / CGROUP).glob("**/"), reverse=True):
                with contextlib.suppress(OSError):
                    folder.rmdir()

    def __call__(self, *arguments: str, check: bool = True) -> str:
        return run([str(self.program), *arguments], check=check).stdout.strip()

    def import_programs(self, image: str, programs: Sequence[str], files: Sequence[Path] = ()) -> None:
        """An image of these programs of the host, and files in its root folder."""
        with tempfile.TemporaryDirectory(dir=self.folder) as root:
            paths = [shutil.which(program) or program for program in programs]
            pack = f". {SCRIPTS}/lib/root_filesystem.sh && pack_programs \"$@\""
            run(["bash", "-euo", "pipefail", "-c", pack, "bash", root, *paths])
            for file in files:
                shutil.copy(file, root)
            run(["tar", "-C", root, "-cf", f"{self.folder}/image.tar", "."])
        self("import", f"{self.folder}/image.tar", image)

    def create(self, name: str, options: Sequence[str], image: str, *command: str) -> Container:
        return Container(self, name, options, image, command)


class Container:
    """Made, not started. `pid` is that of its first process as the host sees it, while it runs; `started` is when
    Podman said so, by time.monotonic()."""

    def __init__(
        self, podman: Podman, name: str, options: Sequence[str], image: str, command: Sequence[str]
    ) -> None:
        self.podman = podman
        self.name = name
        self.pid = 0
        self.started = 0.0
        podman("create", "--name", name, "--cgroup-parent", f"/{CGROUP}", *options, image, *command)

    def start(self) -> None:
        self._run("start")

    def restart(self) -> None:
        self._run("restart", "--time", "3")

    def stop(self) -> None:
        self.podman("stop", "--time", "3", self.name)
        self._forget()

    def remove(self) -> None:
        self.podman("rm", "--force", "--time", "3", self.name)
        self._forget()

    def log(self) -> str:
        return self.podman("logs", self.name, check=False)

    def _run(self, *command: str) -> None:
        self.podman(*command, self.name)
        self.started = time.monotonic()
        self._forget()
        self.pid = int(self.podman("inspect", "--format", "{{.State.Pid}}", self.name))
        if self.pid == 0:
            raise LabError(f"container {self.name} has ended: {self.log()}")
        self.podman.state.add_process(self.pid, self.name)

    def _forget(self) -> None:
        if self.pid:
            self.podman.state.stop_process(self.pid)
            self.pid = 0
