"""Every way in which a connection to a target fails, provoked a known number of times.

A case makes sure that the visitor got what that failure looks like through Traefik, and that newt and the kernel tell
the same story; what the exporter makes of it is its test's business.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException

from harness import wait_for
from lab.resources import Resource, Target
from resource_accounts import host_sockets
from resource_world import ResourceWorld, rule

Prepare = Callable[[ResourceWorld, Target], contextlib.AbstractContextManager]
Attempt = Callable[[ResourceWorld, Resource], None]


@dataclass(frozen=True)
class Case:
    name: str
    error_type: str
    resource: str  # an attribute of ResourceWorld
    prepare: Prepare
    attempt: Attempt
    times: int = 10
    at_once: bool = False
    newt_count: str | None = None  # which of newt's counts grows by as much

    def of(self, stage: ResourceWorld) -> tuple[Resource, Target]:
        resource = getattr(stage, self.resource)
        return resource, resource.targets[0]

    def provoke(self, stage: ResourceWorld) -> None:
        """Makes the failure happen exactly `times` times."""
        resource, target = self.of(stage)
        forget_idle(stage, target)
        newt = stage.newt_of(target) if self.newt_count else None
        before = newt.counts(target) if newt else {}
        with self.prepare(stage, target):
            if self.at_once:
                with ThreadPoolExecutor(self.times) as pool:
                    for done in [pool.submit(self.attempt, stage, resource) for _ in range(self.times)]:
                        done.result()
            else:
                for _ in range(self.times):
                    self.attempt(stage, resource)
            if newt:
                wait_for(
                    f"newt counts {self.times} times {self.newt_count}",
                    lambda: newt.counts(target)[self.newt_count] - before[self.newt_count] == self.times,
                    timeout=5,
                )


def forget_idle(stage: ResourceWorld, target: Target) -> None:
    """Closes what Traefik keeps open towards the target: a request on one of these would dial nobody."""
    if any(target in newt.targets for newt in stage.newts):
        stage.newt_of(target).cut(target)
    else:
        for nginx in stage.nginxes_of(target):
            nginx.stop()
            nginx.start()

    def none_left() -> bool:
        sockets = host_sockets(stage, target)
        return not sockets.get("established") and not sockets.get("close_wait")

    wait_for(f"Traefik has no connection to {target.backend}", none_left, timeout=10)


# ---- how it is brought about


@contextlib.contextmanager
def as_it_is(_stage: ResourceWorld, _target: Target) -> Iterator[None]:
    yield


def newt_mode(mode: str, after_bytes: int | None = None) -> Prepare:
    @contextlib.contextmanager
    def prepare(stage: ResourceWorld, target: Target) -> Iterator[None]:
        newt = stage.newt_of(target)
        newt.set_mode(target, mode, after_bytes)
        try:
            yield
        finally:
            newt.set_mode(target, "relay")

    return prepare


@contextlib.contextmanager
def silent_host(stage: ResourceWorld, target: Target) -> Iterator[None]:
    """Whoever has the address drops every packet for the port."""
    address, port = target.address
    with rule(stage.namespace_of(target), f"ip daddr {address} tcp dport {port} drop"):
        yield


@contextlib.contextmanager
def stopped_backend(stage: ResourceWorld, target: Target) -> Iterator[None]:
    nginxes = stage.nginxes_of(target)
    for nginx in nginxes:
        nginx.stop()
    try:
        yield
    finally:
        for nginx in nginxes:
            nginx.start()


@contextlib.contextmanager
def missing_route(stage: ResourceWorld, target: Target) -> Iterator[None]:
    """Gerbil's route to the address is gone, and the host has no other: nothing is ever sent."""
    host = stage.world.host
    host.namespace.ip("route", "delete", f"{target.ip}/32", "dev", host.interface.name)
    try:
        yield
    finally:
        host.namespace.ip("route", "replace", f"{target.ip}/32", "dev", host.interface.name)


# ---- what the visitor sees of it


def http_status(*expected: int, path: str = "/small") -> Attempt:
    def attempt(stage: ResourceWorld, resource: Resource) -> None:
        status = stage.fetch(resource, path).status
        assert status in expected, f"{resource.name}: Traefik answers {status}, not {expected}"

    return attempt


# 500 when the connection's end came before Traefik had written its request, else 502.
http_closed_early = http_status(500, 502)


def http_cut_short(stage: ResourceWorld, resource: Resource) -> None:
    """Traefik has sent the head of the answer, and cannot take it back."""
    try:
        answer = stage.fetch(resource, "/large")
    except (HTTPException, OSError):
        return
    raise AssertionError(f"{resource.name}: an answer of {len(answer.body)} bytes came to its end")


def stream_ends(stage: ResourceWorld, resource: Resource) -> None:
    """The connection to Traefik is made, and ends without a byte."""
    with stage.dial(resource) as made:
        got = receive_or_end(made)
        assert not got, f"{resource.name}: {len(got)} bytes came"


def stream_cut_short(stage: ResourceWorld, resource: Resource) -> None:
    with stage.dial(resource) as made:
        made.sendall(bytes(20_000))
        total = 0
        while got := receive_or_end(made):
            total += len(got)
        assert 0 < total < 20_000, f"{resource.name}: {total} of 20000 bytes came back"


def receive_or_end(made: socket.socket) -> bytes:
    try:
        return made.recv(65536)
    except ConnectionResetError:
        return b""


CASES = (
    Case("port closed", "connect_refused", "web_2", newt_mode("absent"), http_status(502)),
    Case("port closed, raw TCP", "connect_refused", "stream", newt_mode("absent"), stream_ends),
    Case("port closed, WireGuard site", "connect_refused", "files", stopped_backend, http_status(502)),
    Case("port closed, local site", "connect_refused", "local_faulty", newt_mode("absent"), http_status(502)),
    Case("host silent", "connect_timeout", "web_2", silent_host, http_status(504), times=5, at_once=True),
    Case("host silent, raw TCP", "connect_timeout", "queue", silent_host, stream_ends, times=3, at_once=True),
    Case(
        "host silent, local site",
        "connect_timeout",
        "local_faulty",
        silent_host,
        http_status(504),
        times=5,
        at_once=True,
    ),
    Case(
        "reset mid-answer", "reset", "web_1", newt_mode("reset", 100_000), http_cut_short, newt_count="reset_by_mode"
    ),
    Case(
        "reset mid-answer, raw TCP",
        "reset",
        "stream",
        newt_mode("reset", 5_000),
        stream_cut_short,
        newt_count="reset_by_mode",
    ),
    Case(
        "reset mid-answer, local site",
        "reset",
        "local_faulty",
        newt_mode("reset", 100_000),
        http_cut_short,
        newt_count="reset_by_mode",
    ),
    Case(
        "target down behind newt", "early_close", "dead", as_it_is, http_closed_early, newt_count="closed_undialled"
    ),
    Case("closed at once", "early_close", "web_2", newt_mode("close"), http_closed_early, newt_count="closed_by_mode"),
    Case(
        "closed at once, raw TCP",
        "early_close",
        "stream",
        newt_mode("close"),
        stream_ends,
        newt_count="closed_by_mode",
    ),
    Case(
        "closed at once, local site",
        "early_close",
        "local_faulty",
        newt_mode("close"),
        http_closed_early,
        newt_count="closed_by_mode",
    ),
    Case("rejected by a firewall's ICMP error", "unreachable", "rejected", as_it_is, http_status(502)),
    Case("route missing", "unreachable", "files", missing_route, http_status(502)),
)
