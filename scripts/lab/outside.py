"""What is around the host besides sites: visitors on the Internet, and a container on the host's own bridge."""

from __future__ import annotations

from ipaddress import IPv4Interface
from typing import TYPE_CHECKING

from . import addresses
from .namespace import Namespace

if TYPE_CHECKING:
    from .world import World

# Beyond the sites' cables: their last one is number 63.
VISITOR_LINK = addresses.underlay(200)
# As Docker lays out a bridge: the host's end, a container's.
CONTAINER_LINK = (IPv4Interface("172.30.0.1/24"), IPv4Interface("172.30.0.2/24"))


def _attach(world: World, part: str, ends: tuple[IPv4Interface, IPv4Interface]) -> Namespace:
    namespace = Namespace(world.namespace_name(part), world.state)
    namespace.create()
    host, interface = world.host.namespace, "eth0"
    host.ip("link", "add", part, "type", "veth", "peer", "name", interface, "netns", namespace.name)
    for where, link, address in ((host, part, ends[0]), (namespace, interface, ends[1])):
        where.ip("address", "add", str(address), "dev", link)
        where.ip("link", "set", link, "up")
    return namespace


def add_visitor(world: World) -> Namespace:
    """Where requests come from. They dial VISITOR_LINK[0]."""
    return _attach(world, "visitor", VISITOR_LINK)


def add_container(world: World) -> Namespace:
    """Where a local site's targets are: beside Traefik, without any tunnel, at CONTAINER_LINK[1]."""
    return _attach(world, "container", CONTAINER_LINK)
