"""A world with resources that really answer: Traefik at the host, newts at the sites, nginx and echoes behind them.

    site 1  newt                 web, half of `shared`, raw TCP, UDP, and a port behind which nothing listens
    site 2  newt                 web, the other half of `shared`
    site 3  plain WireGuard      web, raw TCP, and an address that its firewall rejects
    local   no tunnel            web, the same target once more for another resource, raw TCP, and a web behind a
                                 program that can misbehave
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import harness
from lab.backends import Echo, Nginx
from lab.namespace import Namespace
from lab.outside import CONTAINER_LINK, VISITOR_LINK, add_container, add_visitor
from lab.resources import Plan, Resource, Target
from lab.traefik import WEB_PORT, Traefik
from lab.web_client import Answer, Connection, fetch
from lab.wireguard import Implementation
from lab.world import Site, World
from newt import Newt, newt_program

HTTP, ECHO, DATAGRAMS, NOTHING, FAULTY = 8080, 9000, 9001, 8099, 8081
BEHIND = ("10.30.3.10", "10.30.3.11", "10.30.3.12")  # what site 3's peer leads to
CONTAINER = str(CONTAINER_LINK[1].ip)
TRAEFIK = str(VISITOR_LINK[0].ip)
DIAL_TIMEOUT = 2.0  # seconds: Traefik's own 30 would make long tests of short ones


class ResourceWorld:
    """Use as a context manager. `plan` has all resources; the attributes below name them."""

    site_count = 3
    traefik_settings: dict | None = None  # further ones

    def __init__(self, tag: str, *, host_implementation: Implementation | str = Implementation.AUTO) -> None:
        self.world = World(self.site_count, tag, host_implementation=host_implementation)
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> ResourceWorld:
        with self.stack:  # closes it again if anything below fails
            self.stack.enter_context(self.world)
            self.world.wait_connected(30 * harness.SLOWNESS)
            self.visitor: Namespace = add_visitor(self.world)
            self.container: Namespace = add_container(self.world)
            self._plan()
            self._start_backends()
            self._start_newts()
            self._start_traefik()
            self.stack = self.stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.__exit__(*error)

    # ---- what there is

    def _plan(self) -> None:
        plan = self.plan = Plan(self.world)
        one, two = plan.newt(self.world.sites[0]), plan.newt(self.world.sites[1])
        three = plan.wireguard(self.world.sites[2], BEHIND)
        local = plan.local()
        self.web_1 = plan.http("Web", one.target(HTTP))
        self.web_2 = plan.http("Shop & more", two.target(HTTP))
        self.shared = plan.http("Shared by two sites", one.target(HTTP), two.target(HTTP))
        self.stream = plan.tcp("Database", 15432, one.target(ECHO))
        self.datagrams = plan.udp("Game", 15433, one.target(DATAGRAMS))
        self.dead = plan.http("Dead", one.target(NOTHING))
        self.files = plan.http("Files", three.target(HTTP, BEHIND[0]))
        self.queue = plan.tcp("Queue", 15434, three.target(ECHO, BEHIND[1]))
        self.rejected = plan.http("Rejected", three.target(HTTP, BEHIND[2]))
        self.local_web = plan.http("Local web", local.target(HTTP, CONTAINER))
        self.local_again = plan.http("Local web again", local.target(HTTP, CONTAINER))
        self.local_faulty = plan.http("Local faulty", local.target(FAULTY, CONTAINER))
        self.local_stream = plan.tcp("Local stream", 15435, local.target(ECHO, CONTAINER))

    def _start_backends(self) -> None:
        one, two, three = (site.namespace for site in self.world.sites)
        self.nginx_1 = Nginx(one, "site1", [f"127.0.0.1:{HTTP}"])
        self.nginx_2 = Nginx(two, "site2", [f"127.0.0.1:{HTTP}"])
        self.nginx_3 = Nginx(three, "site3", [f"{BEHIND[0]}:{HTTP}"])
        self.nginx_local = Nginx(self.container, "local", [f"{CONTAINER}:{HTTP}"])
        echoes = self.stack.enter_context
        self.echo_1 = echoes(
            contextlib.closing(Echo(one, tcp=[f"127.0.0.1:{ECHO}"], udp=[f"127.0.0.1:{DATAGRAMS}"]))
        )
        self.echo_3 = echoes(contextlib.closing(Echo(three, tcp=[f"{BEHIND[1]}:{ECHO}"])))
        self.echo_local = echoes(contextlib.closing(Echo(self.container, tcp=[f"{CONTAINER}:{ECHO}"])))
        # The kernel says "no route to host" only so often to the same address; errors here are counted one by one.
        three.set_switch("net/ipv4/icmp_ratelimit", 0)
        nft(three, f"ip daddr {BEHIND[2]} tcp dport {HTTP} reject with icmp type host-unreachable")

    def _start_newts(self) -> None:
        program = newt_program(self.world.state.folder)
        self.newts: list[Newt] = []
        for site in self.world.sites[:2]:
            self._start_newt(Newt(program, site.namespace, self.relays(site)))
        (faulty,) = self.local_faulty.targets
        self._start_newt(Newt(program, self.container, [("tcp", faulty, (CONTAINER, HTTP))]))

    def relays(self, site: Site) -> list[tuple[str, Target, tuple[str, int]]]:
        """What the site's newt is told of its targets."""
        return [
            ("udp" if resource.mode == "udp" else "tcp", target, (target.ip, target.port))
            for resource, target in self.plan.pairs()
            if target.place.site is site
        ]

    def _start_newt(self, newt: Newt) -> None:
        self.newts.append(newt)
        self.stack.enter_context(contextlib.closing(newt))

    def _start_traefik(self) -> None:
        self.traefik = Traefik(
            self.world.host.namespace,
            tcp_ports=self.plan.proxy_ports("tcp"),
            udp_ports=self.plan.proxy_ports("udp"),
            dial_timeout=DIAL_TIMEOUT * harness.SLOWNESS,
            settings=self.traefik_settings,
        )
        self.stack.callback(self.traefik.close)
        self.traefik.apply(self.plan.dynamic_configuration())
        self.traefik.start(60 * harness.SLOWNESS)

    def newt_of(self, target: Target) -> Newt:
        return next(newt for newt in self.newts if target in newt.targets)

    def nginxes_of(self, target: Target) -> list[Nginx]:
        """Those that answer at the target's own address."""
        listens = f"{target.ip}:{target.port}"
        return [
            nginx
            for nginx in (self.nginx_1, self.nginx_2, self.nginx_3, self.nginx_local)
            if nginx.namespace is self.namespace_of(target) and listens in nginx.listens
        ]

    def namespace_of(self, target: Target) -> Namespace:
        """Where what Traefik dials is."""
        return target.place.site.namespace if target.place.site else self.container

    # ---- what visitors do

    def fetch(self, resource: Resource, path: str, **options) -> Answer:
        """A request on a connection of its own. What Traefik keeps open towards the target is its own affair."""
        options = {"timeout": 60 * harness.SLOWNESS} | options
        return fetch(self.visitor, TRAEFIK, WEB_PORT, path, host=resource.full_domain, **options)

    def connection(self) -> Connection:
        """To Traefik's web entrypoint, for several requests."""
        return Connection(self.visitor, TRAEFIK, WEB_PORT, 60 * harness.SLOWNESS)

    def dial(self, resource: Resource) -> socket.socket:
        """A visitor's TCP connection to a raw resource."""
        made = self.visitor.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.settimeout(20 * harness.SLOWNESS)
        made.connect((TRAEFIK, resource.proxy_port))
        return made

    def echo(self, resource: Resource, data: bytes) -> None:
        """One TCP connection that sends this, gets it back and ends."""
        with self.dial(resource) as made:
            exchange(made, data)

    def echo_datagrams(self, resource: Resource, sizes: list[int]) -> None:
        """One UDP flow: each datagram is answered before the next is sent."""
        with self.visitor.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
            made.settimeout(5 * harness.SLOWNESS)
            made.connect((TRAEFIK, resource.proxy_port))
            for size in sizes:
                made.send(bytes(size))
                assert len(made.recv(65536)) == size


def exchange(connected: socket.socket, data: bytes) -> None:
    """Sends to an echo and reads all of it back, in parts that no buffer on the way can hold up."""
    for at in range(0, len(data), 16384):
        part = data[at : at + 16384]
        connected.sendall(part)
        back = bytearray()
        while len(back) < len(part):
            got = connected.recv(len(part) - len(back))
            assert got, f"the echo ended after {at + len(back)} of {len(data)} bytes"
            back += got
        assert back == part, "the echo is not what was sent"


def nft(namespace: Namespace, statement: str, table: str = "pangolin_exporter_lab") -> None:
    """A rule for packets that come into the namespace for itself."""
    for command in (
        f"add table inet {table}",
        f"add chain inet {table} input {{ type filter hook input priority 0; }}",
        f"add rule inet {table} input {statement}",
    ):
        namespace.run(["nft", command])


@contextlib.contextmanager
def rule(namespace: Namespace, text: str) -> Iterator[None]:
    """The rule holds for the duration."""
    table = f"pangolin_exporter_{time.monotonic_ns()}"
    nft(namespace, text, table)
    try:
        yield
    finally:
        namespace.run(["nft", f"delete table inet {table}"])
