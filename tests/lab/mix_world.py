"""A world for the mix of HTTP: backends that do as they are asked (mix_server.py) behind a newt and beside Traefik,
and an nginx at both places for load."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lab.backends import Nginx
from lab.commands import LabError, require_program
from lab.namespace import Namespace
from lab.resources import Plan, Resource
from lab.traefik import ACCESS_LOG
from newt import Newt, newt_program
from resource_world import CONTAINER, TRAEFIK, WEB_PORT, ResourceWorld

MIX, LEFT, FAST = 8080, 8081, 8082


@dataclass(frozen=True)
class Load:
    """What wrk says of its requests (wrk.lua)."""

    requests: int
    errors: int
    seconds: float
    p50: float
    p99: float


class MixServer:
    """mix_server.py in a namespace."""

    def __init__(self, namespace: Namespace, addresses: list[str]) -> None:
        self.namespace = namespace
        program = str(Path(__file__).with_name("mix_server.py"))
        self.process = namespace.start(
            [sys.executable, program, *addresses], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        if self.process.stdout.readline() != "ready\n":
            raise LabError(f"mix_server.py in {namespace.name} did not start")

    def book(self, port: int) -> list[dict]:
        """All exchanges on the port since its start; the fields are explained by mix_server.py."""
        self.process.stdin.write("report\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())[str(port)]

    def close(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=20)
        self.namespace.state.stop_process(self.process.pid)


class MixWorld(ResourceWorld):
    site_count = 1
    traefik_settings = ACCESS_LOG

    def _plan(self) -> None:
        plan = self.plan = Plan(self.world)
        newt, local = plan.newt(self.world.sites[0]), plan.local()
        self.tunnel_mix = plan.http("Tunnel mix", newt.target(MIX))
        self.tunnel_left = plan.http("Tunnel left", newt.target(LEFT))
        self.tunnel_fast = plan.http("Tunnel fast", newt.target(FAST))
        self.local_mix = plan.http("Local mix", local.target(MIX, CONTAINER))
        self.local_left = plan.http("Local left", local.target(LEFT, CONTAINER))
        self.local_fast = plan.http("Local fast", local.target(FAST, CONTAINER))

    def _start_backends(self) -> None:
        site = self.world.sites[0].namespace
        # Each resource's server, and its port there.
        self.servers: dict[int, tuple[MixServer, int]] = {}
        self.nginxes: dict[int, Nginx] = {}
        for namespace, address, mix, left, fast in (
            (site, "127.0.0.1", self.tunnel_mix, self.tunnel_left, self.tunnel_fast),
            (self.container, CONTAINER, self.local_mix, self.local_left, self.local_fast),
        ):
            server = MixServer(namespace, [f"{address}:{port}" for port in (MIX, LEFT)])
            self.stack.enter_context(contextlib.closing(server))
            self.servers |= {mix.identity: (server, MIX), left.identity: (server, LEFT)}
            self.nginxes[fast.identity] = Nginx(namespace, fast.nice_id, [f"{address}:{FAST}"])

    def _start_newts(self) -> None:
        self.newts = []
        site = self.world.sites[0]
        self._start_newt(Newt(newt_program(self.world.state.folder), site.namespace, self.relays(site)))

    def prefer_traefik(self) -> None:
        """Its durations are of its own work, then, and not of waiting for a processor that others have."""
        for task in Path(f"/proc/{self.traefik.process.pid}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(task.name), -20)

    def book(self, resource: Resource) -> list[dict]:
        """What the resource's backend says of all its exchanges; the fields are explained by mix_server.py."""
        if resource.identity in self.servers:
            server, port = self.servers[resource.identity]
            return server.book(port)
        return [
            {
                "method": each.method, "status": each.status, "sent": each.sent, "interim": 0, "body": each.body,
                "received_body": 0, "ended": True,
            }
            for each in self.nginxes[resource.identity].exchanges()
        ]

    def wrk(
        self, resource: Resource, *, threads: int, connections: int, seconds: int = 100, requests: int | None = None
    ) -> Load:
        """For so long; or so many requests on each connection of a thread of its own, of which none is cut off."""
        arguments = ["-H", f"Host: {resource.full_domain}", *(["--", str(requests)] if requests else [])]
        return self._wrk("wrk.lua", threads, connections, seconds, arguments)

    def attack(self, resource: Resource, requests: int) -> Load:
        """So many invented requests, or a few more (attack.lua)."""
        return self._wrk("attack.lua", 1, 16, 1500, ["--", resource.full_domain, str(requests)])

    def _wrk(self, script: str, threads: int, connections: int, seconds: int, arguments: list[str]) -> Load:
        options = [f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "--latency"]
        options += ["-s", str(Path(__file__).with_name(script)), f"http://{TRAEFIK}:{WEB_PORT}/small"]
        done = self.visitor.run([require_program("wrk"), *options, *arguments], timeout=seconds + 50)
        return Load(**json.loads(done.stdout.splitlines()[-1]))
