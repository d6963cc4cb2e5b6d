"""The world: a host as gerbil and Traefik see it, and sites that dial in over WireGuard.

    with World(sites=3, tag="mytest") as world:
        world.host.run(["wg", "show"])
        site = world.add_site()
        world.rekey_site(0)

Every name starts with `pangolin_exporter-`; everything made is in the state file and removed at the end, or by the
next `up` after a crash. Two worlds live side by side under different tags.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import addresses, pangolin_database, sites_file
from .commands import LabError, require_program
from .namespace import Namespace
from .state import State
from .wireguard import Implementation, Interface, KeyPair

DEFAULT_TAG = "lab"
ADJECTIVES = ("brave", "calm", "quiet", "swift", "gentle", "bright", "merry")
ANIMALS = ("otter", "falcon", "badger", "heron", "lynx")


def nice_id(index: int) -> str:
    """What Pangolin's own generator makes, more or less: brave-otter-1."""
    return f"{ADJECTIVES[(index - 1) % len(ADJECTIVES)]}-{ANIMALS[(index - 1) % len(ANIMALS)]}-{index}"


@dataclass
class Host:
    """Pangolin's side: gerbil's WireGuard interface. A responder, it knows no endpoint and sends no keepalive."""

    namespace: Namespace
    interface: Interface
    keys: KeyPair

    def run(self, arguments: list[str], **options):
        return self.namespace.run(arguments, **options)


@dataclass
class Site:
    """A newt: one peer of the host. `index` gives its addresses; it is never used again after the site's removal."""

    index: int
    name: str
    nice_id: str
    namespace: Namespace
    interface: Interface
    keys: KeyPair
    allowed_ips: list[str] = field(default_factory=list)
    endpoint: str | None = None  # where it dials, if not the host itself
    listen_port: int | None = None  # for a site whose endpoint must stay the same when it is started anew

    @property
    def address(self) -> str:
        return str(addresses.site_address(self.index))

    @property
    def address_6(self) -> str:
        return str(addresses.site_address_6(self.index))

    @property
    def prefix(self) -> str:
        return str(addresses.site_prefix(self.index))

    @property
    def prefix_6(self) -> str:
        return str(addresses.site_prefix_6(self.index))

    def run(self, arguments: list[str], **options):
        return self.namespace.run(arguments, **options)


class World:
    def __init__(
        self,
        sites: int = 3,
        tag: str = DEFAULT_TAG,
        *,
        owned: bool = True,
        region: str | None = None,
        host_implementation: Implementation | str = Implementation.AUTO,
        site_implementation: Implementation | str = Implementation.PLAIN,
    ) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9]{0,8}", tag):
            raise LabError(f"tag {tag!r}: one to nine lower-case letters and digits, a letter first")
        self.tag = tag
        self.region = region
        self.owned = owned
        self.state = State(tag)
        self.host_implementation = Implementation(host_implementation)
        self.site_implementation = Implementation(site_implementation)
        self.wanted_sites = sites
        self.sites: list[Site] = []
        self._next_index = 1
        self.host: Host

    # ---- life

    def __enter__(self) -> World:
        self.up()
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        problems = self.down()
        if problems and error_type is None:
            raise LabError("could not remove: " + "; ".join(problems))

    def up(self) -> None:
        require_program("ip")
        self.clear_leftovers()
        try:
            self.state.begin(self.owned)
            self._make_host()
            for _ in range(self.wanted_sites):
                self.add_site()
        except BaseException:
            self.down()
            raise

    def clear_leftovers(self) -> None:
        """Removes what a crash, or an earlier `up`, left of this tag; refuses while its maker lives."""
        if not self.state.load():
            return
        if self.state.owner_is_alive():
            raise LabError(
                f"the lab '{self.tag}' is in use by process {self.state.content['owner']['pid']}. "
                "HINT: Stop that process, or choose another --tag."
            )
        problems = self.state.remove_everything()
        if problems:
            raise LabError("could not remove what is left of an earlier run: " + "; ".join(problems))
        self.state = State(self.tag)

    def down(self) -> list[str]:
        return self.state.remove_everything()

    # ---- parts

    def namespace_name(self, part: str) -> str:
        return (
            f"pangolin_exporter-{part}" if self.tag == DEFAULT_TAG else f"pangolin_exporter-{self.tag}-{part}"
        )

    def interface_name(self, part: str) -> str:
        """wg0, wgs1, ...; with the tag in it for other worlds, since wireguard-go's sockets share one folder."""
        return "wg" + ("" if self.tag == DEFAULT_TAG else self.tag) + part

    def _make_host(self) -> None:
        namespace = Namespace(self.namespace_name("host"), self.state)
        namespace.create()
        interface = Interface(namespace, self.interface_name("0"), self.host_implementation, self.state)
        self.host = Host(namespace, interface, KeyPair.generate())
        self._make_host_interface()

    def _make_host_interface(self) -> None:
        interface = self.host.interface
        interface.create()
        interface.set("listen-port", str(addresses.LISTEN_PORT), private_key=self.host.keys.private)
        for site in self.sites:
            interface.add_peer(site.keys.public, site.allowed_ips)
        interface.bring_up(addresses.TUNNEL_MTU, (addresses.HOST_TUNNEL, addresses.HOST_TUNNEL_6))
        self.host.namespace.ip("-6", "route", "replace", str(addresses.ALL_TUNNELS_6), "dev", interface.name)

    def add_site(self) -> Site:
        """A new site: namespace, cable, WireGuard, and its peer at the host; the tunnel comes up by itself."""
        index = self._next_index
        if index > addresses.MOST_SITES:
            raise LabError(f"the address plan holds {addresses.MOST_SITES} sites")
        self._next_index += 1
        namespace = Namespace(self.namespace_name(f"site{index}"), self.state)
        interface = Interface(
            namespace, self.interface_name(f"s{index}"), self.site_implementation, self.state
        )
        site = Site(
            index,
            nice_id(index).replace("-", " ").title(),
            nice_id(index),
            namespace,
            interface,
            KeyPair.generate(),
            [str(addresses.site_prefix(index)), str(addresses.site_prefix_6(index))],
        )
        namespace.create()
        self._connect_cable(site)
        self.host.interface.add_peer(site.keys.public, site.allowed_ips)
        self.start_site(site)
        self.sites.append(site)
        self._describe()
        return site

    def start_site(self, site: Site) -> None:
        """newt begins, or begins again after stop_site with the same key."""
        namespace, interface = site.namespace, site.interface
        interface.create()
        interface.set(private_key=site.keys.private)
        if site.listen_port:
            interface.set("listen-port", str(site.listen_port))
        interface.bring_up(addresses.TUNNEL_MTU, (f"{site.address}/32", f"{site.address_6}/128"))
        namespace.ip(
            "route", "add", str(addresses.HOST_TUNNEL.network), "dev", interface.name, "src", site.address
        )
        namespace.ip(
            "-6", "route", "add", str(addresses.ALL_TUNNELS_6), "dev", interface.name, "src", site.address_6
        )
        self.dial(site)

    def stop_site(self, site: Site) -> None:
        """newt is gone without a word; the host is not told."""
        site.interface.delete()

    def _connect_cable(self, site: Site) -> None:
        host_end, site_end = addresses.underlay(site.index)
        host_name, site_name = f"cable{site.index}", "uplink"
        self.host.namespace.ip(
            "link", "add", host_name, "type", "veth", "peer", "name", site_name, "netns", site.namespace.name
        )
        for namespace, link, address in (
            (self.host.namespace, host_name, host_end),
            (site.namespace, site_name, site_end),
        ):
            namespace.ip("address", "add", str(address), "dev", link)
            namespace.ip("link", "set", link, "up")

    def dial(self, site: Site) -> None:
        """Makes the host the site's peer, so that the site starts the handshake as newt does. Where it is the peer
        already it is so anew: the site forgets its session."""
        site.interface.remove_peer(self.host.keys.public)
        endpoint = site.endpoint or f"{addresses.underlay(site.index)[0].ip}:{addresses.LISTEN_PORT}"
        site.interface.add_peer(
            self.host.keys.public,
            (addresses.HOST_TUNNEL.ip, addresses.HOST_TUNNEL_6.ip),
            "endpoint",
            endpoint,
            "persistent-keepalive",
            "5",
        )

    def wait_connected(self, timeout: float = 30) -> None:
        """Until the host has a handshake with every site."""
        deadline = time.monotonic() + timeout
        while True:
            handshakes = self.host.interface.latest_handshakes()
            missing = [site.nice_id for site in self.sites if not handshakes.get(site.keys.public)]
            if not missing:
                return
            if time.monotonic() > deadline:
                raise LabError(f"no handshake with {', '.join(missing)} after {timeout:.0f} s")
            time.sleep(0.1)

    # ---- what happens to worlds

    def remove_site(self, site: Site | int) -> None:
        site = self.sites[site] if isinstance(site, int) else site
        self.sites.remove(site)
        self.host.interface.remove_peer(site.keys.public)
        site.interface.delete()
        self.host.namespace.ip("link", "delete", f"cable{site.index}")
        site.namespace.delete()
        self._describe()

    def rekey_site(self, site: Site | int) -> None:
        """A newt restart: a new key at the same tunnel address; Pangolin removes the old peer and adds the new one."""
        site = self.sites[site] if isinstance(site, int) else site
        old, site.keys = site.keys, KeyPair.generate()
        self.host.interface.remove_peer(old.public)
        self.host.interface.add_peer(site.keys.public, site.allowed_ips)
        site.interface.remove_peer(self.host.keys.public)
        site.interface.set(private_key=site.keys.private)
        self.dial(site)
        self._describe()

    def hush_site(self, site: Site) -> None:
        """Its WireGuard falls silent: somebody else will speak in its name."""
        site.interface.remove_peer(self.host.keys.public)

    def renew_peer(self, site: Site, endpoint: str | None = None) -> None:
        """The host forgets what it had with this peer; with an endpoint it can begin a handshake itself."""
        self.host.interface.remove_peer(site.keys.public)
        options = ["endpoint", endpoint] if endpoint else []
        self.host.interface.add_peer(site.keys.public, site.allowed_ips, *options)

    def set_allowed_ips(self, site: Site, allowed_ips: list[str]) -> None:
        """Gives the host's peer these allowed IPs; WireGuard takes them away from whoever had them."""
        site.allowed_ips = list(allowed_ips)
        for other in self.sites:
            if other is not site:
                other.allowed_ips = [prefix for prefix in other.allowed_ips if prefix not in allowed_ips]
        self.host.interface.add_peer(site.keys.public, site.allowed_ips)

    def delete_host_interface(self) -> None:
        self.host.interface.delete()

    def create_host_interface(self) -> None:
        """After delete_host_interface: gerbil came back with its old key and all peers.

        WireGuard at the sites would go on with its dead session for two minutes; newt notices earlier, by its pings
        through the tunnel, and dials again.
        """
        self._make_host_interface()
        for site in self.sites:
            self.dial(site)

    def renew_host(self) -> None:
        """gerbil's container starts anew, with its old key: another network namespace, in which all is made again."""
        self.host.interface.delete()
        for site in self.sites:
            self.host.namespace.ip("link", "delete", f"cable{site.index}")
        self.host.namespace.delete()
        self.host.namespace.create()
        for site in self.sites:
            self._connect_cable(site)
        self.create_host_interface()

    # ---- what Pangolin knows of it

    def write_database(self, path: Path | str, schema: str = "1.22.0") -> None:
        """Pangolin's SQLite database for this world; an existing one is brought up to date in one transaction."""
        pangolin_database.write(Path(path), self, schema)

    def write_sites_yaml(self, path: Path | str) -> None:
        Path(path).write_text(sites_file.text(self))

    def _describe(self) -> None:
        """The part of the state file that is for people and for `show`."""
        self.state.content["description"] = {
            "host": {
                "namespace": self.host.namespace.name,
                "interface": self.host.interface.name,
                "public_key": self.host.keys.public,
                "implementation": self.host.interface.implementation.value,
            },
            "sites": [
                {
                    "nice_id": site.nice_id,
                    "namespace": site.namespace.name,
                    "interface": site.interface.name,
                    "address": site.address,
                    "public_key": site.keys.public,
                    "implementation": site.interface.implementation.value,
                }
                for site in self.sites
            ],
        }
        self.state.save()
