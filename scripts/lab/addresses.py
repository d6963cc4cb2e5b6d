"""The address plan: inside as gerbil lays it out, underlay from the range that is reserved for measuring (RFC 2544)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

HOST_TUNNEL = IPv4Interface("100.89.128.1/24")
HOST_TUNNEL_6 = IPv6Interface("fd00:89::1/64")
ALL_TUNNELS_6 = IPv6Network("fd00:89::/48")
TUNNEL_MTU = 1280
LISTEN_PORT = 51820
MOST_SITES = 63  # site i has 100.89.128.(4*i)/30, so the /24 is full after .252


def site_prefix(index: int) -> IPv4Network:
    return IPv4Network((int(HOST_TUNNEL.network.network_address) + 4 * index, 30))


def site_address(index: int) -> IPv4Address:
    """Pangolin gives the site the first address of its subnet, the network address itself."""
    return site_prefix(index).network_address


def site_prefix_6(index: int) -> IPv6Network:
    return IPv6Network((int(ALL_TUNNELS_6.network_address) + (index << 64), 64))


def site_address_6(index: int) -> IPv6Address:
    return site_prefix_6(index).network_address + 1


def underlay(index: int) -> tuple[IPv4Interface, IPv4Interface]:
    """The two ends of the cable between the host and site i: the host's, the site's."""
    base = int(IPv4Address("198.18.0.0")) + 256 * index
    return IPv4Interface((base + 1, 30)), IPv4Interface((base + 2, 30))
