"""The exporter in a container, as README.md says: its image, and its service of the compose file as Podman's options."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import harness
from podman import CGROUP, STORAGE, Podman

IMAGE = "localhost/pangolin_exporter"
CONFIGURATION = "/opt/pangolin/config"
# The keys of a compose file, as Podman's options.
OPTIONS = {
    "pid": "--pid",
    "network_mode": "--network",
    "cap_drop": "--cap-drop",
    "cap_add": "--cap-add",
    "security_opt": "--security-opt",
    "volumes": "--volume",
}
OTHERS = {"image", "container_name", "restart", "command"}


def service() -> dict[str, list[str]]:
    """README.md's compose file: the keys of its one service, each with its words."""
    text = (harness.REPOSITORY / "README.md").read_text()
    block = re.search(r"```yaml\nservices:\n  pangolin_exporter:\n(.*?)```", text, re.DOTALL)
    assert block, "README.md has no compose file"
    found: dict[str, list[str]] = {}
    for line in block[1].splitlines():
        line = line.split(" #")[0].rstrip()
        if item := re.fullmatch(r"      - (.+)", line):
            found[list(found)[-1]].append(item[1])
        elif entry := re.fullmatch(r"    (\w+):(?: (.+))?", line):
            found[entry[1]] = re.findall(r"[^\s,\[\]]+", entry[2] or "")
        else:
            assert line in ("", "volumes:", "  pangolin_exporter:"), f"not understood: {line}"
    unknown = found.keys() - OPTIONS.keys() - OTHERS
    assert not unknown, f"nobody tests the keys {unknown}"
    return found


def volume(written: str, places: dict[str, str]) -> list[str]:
    """With this host's places for those that are of the reader's host."""
    source, target, *mode = written.split(":")
    return [":".join([places.get(source, source), target, *mode])]


class ContainerExporter(harness.Exporter):
    """Its folder is Pangolin's configuration; totals are in a volume, which is a folder here."""

    def __init__(self, podman: Podman, metrics: dict, folder: Path) -> None:
        super().__init__(metrics, (), folder)
        del self.metrics["state_dir"]
        self.podman = podman
        self.name = f"pangolin_exporter-exporter{self.instances}"
        (folder / "state").mkdir()
        self.program = Path(IMAGE)

    def run_command(self) -> list[str]:
        written = service()
        places = {"./config": str(self.folder), "pangolin_exporter": str(self.folder / "state")}
        command = [str(self.podman.program), "run", "--rm", "--cgroup-parent", f"/{CGROUP}"]
        for key, option in OPTIONS.items():
            for word in written[key]:
                if key != "volumes":
                    command += [option, word]
                elif word.startswith("/var/lib/docker"):
                    # As README.md says of Podman.
                    command += [option, f"{STORAGE}:{STORAGE}:ro"]
                else:
                    command += [option, *volume(word, places)]
        return command

    def start(self) -> None:
        self.write_configuration()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [
                    *self.run_command(),
                    *("--name", self.name, IMAGE, *service()["command"]),
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return int(self.podman("inspect", "--format", "{{.State.Pid}}", self.name))

    def ask(self, *arguments: str) -> str:
        """What the exporter of the running container answers to a subcommand."""
        return self.podman("exec", self.name, "pangolin_exporter", *arguments)

    def detach(self) -> None:
        if self.process is None:
            subprocess.run(
                [*self.run_command(), IMAGE, *service()["command"], "--detach"],
                stdout=subprocess.DEVNULL,
                check=True,
                timeout=60 * harness.SLOWNESS,
            )
