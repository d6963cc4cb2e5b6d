"""TCP connections that end in every way that there is, each a known number of times, and segments sent again."""

from __future__ import annotations

import contextlib
import errno
import socket
import time

import harness
import traffic
from accounts import host_end, site_end
from lab.namespace import Namespace
from lab.world import Site, World
from traffic import End

CLOSED_PORT = 9


def tcp_counter(namespace: Namespace, name: str) -> int:
    """One of the namespace's own TCP counters, as nstat shows them: Tcp... and TcpExt... without these beginnings."""
    for file, group in (("snmp", "Tcp:"), ("netstat", "TcpExt:")):
        lines = namespace.read_file(f"/proc/thread-self/net/{file}").splitlines()
        for names, values in zip(lines[::2], lines[1::2]):
            if names.startswith(group) and name in names.split():
                return int(values.split()[names.split().index(name)])
    raise KeyError(name)


class Firewall:
    """nftables in one namespace: drops what matches a rule while it stands, and counts it."""

    def __init__(self, namespace: Namespace, rule: str, table: str = "pgx") -> None:
        self.namespace, self.table = namespace, table
        namespace.run(
            ["nft", "-f", "-"],
            standard_input=f"table inet {table} {{\n  chain input {{\n"
            f"    type filter hook input priority 0;\n    {rule} counter drop\n  }}\n}}\n",
        )

    def dropped(self) -> int:
        words = self.namespace.run(["nft", "list", "table", "inet", self.table]).stdout.split()
        return int(words[words.index("packets") + 1])

    def remove(self) -> None:
        self.namespace.run(["nft", "delete", "table", "inet", self.table])

    def __enter__(self) -> Firewall:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class Caller:
    """The host as client of one site. Behind the site are an address that nobody answers for, and one that it says
    cannot be reached."""

    def __init__(self, world: World, site: Site) -> None:
        self.world, self.site = world, site
        first = site.address.rpartition(".")
        self.unreachable, self.silent = (f"{first[0]}.{int(first[2]) + offset}" for offset in (1, 2))
        site.namespace.set_switch("net/ipv4/ip_forward", 1)
        site.namespace.set_switch("net/ipv4/icmp_ratelimit", 0)
        site.namespace.ip("route", "add", "unreachable", self.unreachable)
        site.namespace.ip("route", "add", "blackhole", self.silent)

    def _dial(self, address: str, port: int, expected: int | None, wait: bool = True, tries: int = 1) -> None:
        """One attempt with `tries` SYNs, which must end with that errno (None: established)."""
        end = host_end(self.world, ":" in address)
        with end.socket(socket.SOCK_STREAM) as dialler:
            dialler.bind((end.address, 0))
            dialler.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, tries)
            if not wait:
                dialler.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    dialler.connect((address, port))
                return
            dialler.settimeout(60)
            try:
                dialler.connect((address, port))
                found = None
            except TimeoutError:
                found = errno.ETIMEDOUT
            except OSError as error:
                found = error.errno
        assert found == expected, f"connecting to {address}:{port} ended with {found}, not {expected}"

    def established(self, count: int, ipv6: bool = False, by_site: bool = False) -> None:
        ends = host_end(self.world, ipv6), site_end(self.site, ipv6)
        for _ in range(count):
            traffic.tcp_bulk(*(reversed(ends) if by_site else ends), 1000, 1000)

    def refused(self, count: int) -> None:
        for _ in range(count):
            self._dial(self.site.address, CLOSED_PORT, errno.ECONNREFUSED)

    def refused_by_host(self, count: int) -> None:
        """The site calls the host in vain: no socket of the host has any part in it."""
        for _ in range(count):
            end = site_end(self.site)
            with end.socket(socket.SOCK_STREAM) as dialler:
                with contextlib.suppress(ConnectionRefusedError):
                    dialler.connect((host_end(self.world).address, CLOSED_PORT))
                    raise AssertionError("the host did not refuse")

    def timed_out(self, count: int) -> None:
        traffic.together([lambda: self._dial(self.silent, 80, errno.ETIMEDOUT)] * count)

    def told_unreachable(self, count: int) -> None:
        for _ in range(count):
            time.sleep(1.2)  # the site's kernel sends at most one such error a second (ip_rt_error_cost)
            self._dial(self.unreachable, 80, errno.EHOSTUNREACH)

    def given_up(self, count: int) -> None:
        for _ in range(count):
            self._dial(self.silent, 80, None, wait=False)

    def with_losses(self) -> int:
        """One connection on which data has to be sent again, some of it in super-packets. Says how many segments the
        host's kernel has sent again meanwhile."""
        before = tcp_counter(self.world.host.namespace, "RetransSegs")
        dialler, accepted = traffic.tcp_connection(
            End(self.world.host.namespace, host_end(self.world).address), site_end(self.site)
        )
        port = accepted.getsockname()[1]
        dialler.settimeout(60)
        accepted.settimeout(60)
        with dialler, accepted:
            for size, pause in ((100, 0.7), (60_000, 1.5), (30_000, 1)):
                with Firewall(self.site.namespace, f"tcp dport {port}"):
                    dialler.sendall(bytes(size))
                    time.sleep(pause * min(harness.SLOWNESS, 2))
                traffic.receive_exactly(accepted, size)
        return tcp_counter(self.world.host.namespace, "RetransSegs") - before
