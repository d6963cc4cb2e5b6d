"""A world whose gerbil is a container of Podman's: with each start another namespace, in which it makes wg0 itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import harness
from lab import addresses
from lab.commands import run
from lab.namespace import Namespace
from lab.wireguard import Implementation, Interface, KeyPair
from lab.world import Host, Site, World
from podman import Container, Podman

GERBIL_IMAGE = "localhost/pangolin_exporter-gerbil"
# As Namespace.quieten does; in a container they must be there before wg0 is.
SWITCHES = [
    option
    for scope in ("all", "default")
    for switch in ("accept_ra=0", "accept_dad=0", "router_solicitations=0", "addr_gen_mode=1")
    for option in ("--sysctl", f"net.ipv6.conf.{scope}.{switch}")
]


class ContainerNamespace(Namespace):
    """The network namespace of a container, whichever it has now, with the host's programs or its own."""

    def __init__(self, container: Container, programs: str = "host") -> None:
        self.container = container
        self.name = container.name
        self.state = container.podman.state
        self.inside = ["--mount"] if programs == "own" else []

    @property
    def path(self) -> Path:
        return Path(f"/proc/{self.container.pid}/ns/net")

    def command(self, arguments: Sequence[str]) -> list[str]:
        return ["nsenter", f"--target={self.container.pid}", "--net", *self.inside, "--", *arguments]

    def ip(self, *arguments: str) -> str:
        return run(self.command(["ip", *arguments])).stdout


class ContainerWorld(World):
    def __init__(self, podman: Podman, sites: int, tag: str) -> None:
        super().__init__(sites, tag)
        self.podman = podman

    def _make_host(self) -> None:
        folder = self.state.folder / "gerbil"
        folder.mkdir()
        name = self.namespace_name("gerbil")
        options = ["--network", "none", "--cap-add", "NET_ADMIN", "--device", "/dev/net/tun", *SWITCHES]
        self.container = self.podman.create(
            name,
            [*options, "--volume", f"{folder}:/etc/wireguard:ro"],
            GERBIL_IMAGE,
            *("sh", "/gerbil.sh", str(addresses.TUNNEL_MTU), str(addresses.ALL_TUNNELS_6)),
        )
        interface = Interface(
            ContainerNamespace(self.container, "own"), "wg0", Implementation.AUTO, self.container.podman.state
        )
        self.host = Host(ContainerNamespace(self.container), interface, KeyPair.generate())
        self.start_gerbil()

    def _write_wireguard(self) -> None:
        folder = self.state.folder / "gerbil"
        lines = ["[Interface]", f"PrivateKey = {self.host.keys.private}", f"ListenPort = {addresses.LISTEN_PORT}"]
        for site in self.sites:
            lines += ["[Peer]", f"PublicKey = {site.keys.public}", f"AllowedIPs = {', '.join(site.allowed_ips)}"]
        (folder / "wg0.conf").write_text("\n".join(lines) + "\n")
        (folder / "addresses").write_text(f"{addresses.HOST_TUNNEL}\n{addresses.HOST_TUNNEL_6}\n")

    def start_gerbil(self, how: str = "start") -> None:
        """`how` is a verb of Podman's: start or restart. Its sites' cables are plugged in, and they dial."""
        self._write_wireguard()
        getattr(self.container, how)()
        for site in self.sites:
            harness.wait_for("the old cable is gone", lambda site=site: not self._has_uplink(site), every=0.02)
            self._connect_cable(site)
        harness.wait_for("gerbil listens", self._listens, every=0.02)
        for site in self.sites:
            self.dial(site)

    def restart_gerbil(self) -> None:
        self.start_gerbil("restart")

    def stop_gerbil(self) -> None:
        self.container.stop()

    @staticmethod
    def _has_uplink(site: Site) -> bool:
        return site.run(["ip", "link", "show", "uplink"], check=False).returncode == 0

    def _listens(self) -> bool:
        return f":{addresses.LISTEN_PORT:04X} " in self.host.namespace.read_file("/proc/thread-self/net/udp")

    def down(self) -> list[str]:
        if hasattr(self, "container"):
            self.container.remove()
        return super().down()
