"""A world with everything that a Pangolin host has, and the means to cause each of its metrics.

    site 1   newt with a web, a raw TCP and a UDP resource, one target that is dead and one that is ill
    site 2   newt at the end of a slow line
    site 3   newt that is started anew, with another key
    site 4   newt whose peer gerbil removes
    local    a resource with a certificate
    Pangolin in a container beside gerbil, with its SQLite database; Traefik, or what dials in its stead, at the host

What is caused is written down in `Facts`, by somebody who is not the exporter.
"""

from __future__ import annotations

import base64
import calendar
import collections
import contextlib
import json
import os

import shutil
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time

from dataclasses import dataclass, field
from pathlib import Path

import harness
from harness import wait_for
from lab import addresses
from lab.backends import Echo, Nginx
from lab.namespace import Namespace
from lab.outside import CONTAINER_LINK, VISITOR_LINK, add_container, add_visitor
from lab.resources import Plan, Resource
from lab.traefik import PROVIDER_PATH, PROVIDER_PORT, WEB_PORT, Traefik, built_traefik
from lab.web_client import fetch
from lab.world import World
from line import Line
from newt import Newt, newt_program
from pangolin_server import ENVIRONMENT, EXTERNAL, HERE, LOG_PORT, Client, PangolinServer
from underlay import UnderlayWitness

HTTP, ECHO, DATAGRAMS, NOTHING, ILL = 8080, 9000, 9001, 8099, 8098
CONTAINER = str(CONTAINER_LINK[1].ip)
ROUND_TRIP = 0.04  # seconds, of site 2's line
DAY_MS = 86_400_000


@dataclass
class Facts:
    """What was done, and what others than the exporter say of it."""

    begin: float = 0  # of the monotonic clock
    transfer: dict[str, tuple[int, int]] = field(default_factory=dict)  # by site, at the beginning
    pings: int = 0
    ping_bytes: int = 0
    datagram_bytes: int = 0
    visits: list[tuple[str, str, float]] = field(default_factory=list)  # method, path, seconds
    failures: int = 0
    handshakes: list[float] = field(default_factory=list)  # seconds each, of site 2
    forged: int = 0
    certificates: dict[str, float] = field(default_factory=dict)  # notAfter by domain, Unix seconds
    database_wait: float = 0
    queue_depth: int = 0
    blueprints: collections.Counter = field(default_factory=collections.Counter)


class PangolinProcess(PangolinServer):
    """pangolin_process.py."""

    def __init__(self, namespace: Namespace, address: str, database: Path) -> None:
        super().__init__(namespace, address)
        self.database = database

    def start(self) -> None:
        self.process = self.namespace.start(
            [sys.executable, str(HERE / "pangolin_process.py"), "0.0.0.0", str(LOG_PORT), str(self.database)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        wait_for("the server of Pangolin's shape answers", self.log)

    def stop(self) -> None:
        process = self.process
        super().stop()
        if process is not None:
            process.stdin.close()
            process.stdout.close()

    def database_command(self, command: str) -> float:
        """Seconds that it took by Pangolin's own clock."""
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


class PangolinProvider:
    """Traefik polls Pangolin itself."""

    url = f"http://{CONTAINER}:{PROVIDER_PORT}{PROVIDER_PATH}"

    def __init__(self, server: PangolinServer) -> None:
        self.server = server
        self._configuration: dict = {}

    @property
    def configuration(self) -> dict:
        return self._configuration

    @configuration.setter
    def configuration(self, value: dict) -> None:
        self._configuration = value
        self.server.set_traefik_configuration(value)

    def close(self) -> None:
        pass


# What Traefik is told to fetch from the Internet, which it cannot reach from there.
PLUGINS = {"experimental": {"plugins": {"badger": {"moduleName": "github.com/fosrl/badger", "version": "v1.6.1"}}}}


class RealTraefik:
    def __init__(self, stage: AllMetricsWorld) -> None:
        self.stage = stage
        plan = stage.plan
        self.traefik = Traefik(
            stage.host,
            tcp_ports=plan.proxy_ports("tcp"),
            udp_ports=plan.proxy_ports("udp"),
            provider=PangolinProvider(stage.server),
            settings=PLUGINS,
        )
        self.traefik.apply(plan.dynamic_configuration())
        self.traefik.start(60 * harness.SLOWNESS)

    def close(self) -> None:
        self.traefik.close()

    def reconfigure(self) -> None:
        self.traefik.apply(self.stage.plan.dynamic_configuration())

    def plugin_failures(self) -> int:
        return self.traefik.log().count("Plugins are disabled because an error has occurred")

    def fetch(self, resource: Resource, path: str, **options) -> int:
        address = str(VISITOR_LINK[0].ip)
        return fetch(self.stage.visitor, address, WEB_PORT, path, host=resource.full_domain, **options).status

    def socket(self, resource: Resource, kind: int) -> socket.socket:
        made = self.stage.visitor.socket(socket.AF_INET, kind)
        made.settimeout(20 * harness.SLOWNESS)
        made.connect((str(VISITOR_LINK[0].ip), resource.proxy_port))
        return made


class Dialler:
    """Where no Traefik has been built: dials as it does, polls as it does, and leaves the plugin folder of a Traefik
    whose plugins could not be fetched."""

    def __init__(self, stage: AllMetricsWorld) -> None:
        self.stage = stage
        self.folder = stage.folder / "traefik"
        (self.folder / "plugins-storage/sources").mkdir(parents=True)
        configuration = self.folder / "traefik_config.yml"
        configuration.write_text(json.dumps(PLUGINS))
        program = self.folder / "traefik"
        program.write_text(f"#!/bin/sh\ncd {self.folder}\nread -r line\n")
        program.chmod(0o700)
        self.process = stage.host.start([str(program), f"--configFile={configuration}"], stdin=subprocess.PIPE)
        self.configurations = PangolinProvider(stage.server)
        self.reconfigure()

    def close(self) -> None:
        self.stage.host.state.stop_process(self.process.pid)
        self.process.stdin.close()

    def reconfigure(self) -> None:
        self.configurations.configuration = self.stage.plan.dynamic_configuration()
        self.stage.ask(PROVIDER_PORT, "GET", PROVIDER_PATH)

    def plugin_failures(self) -> int:
        return 1

    def fetch(self, resource: Resource, path: str, **options) -> int:
        try:
            return fetch(self.stage.host, *resource.targets[0].address, path, **options).status
        except OSError:
            return 502

    def socket(self, resource: Resource, kind: int) -> socket.socket:
        made = self.stage.host.socket(socket.AF_INET, kind)
        made.settimeout(20 * harness.SLOWNESS)
        made.connect(resource.targets[0].address)
        return made


class AllMetricsWorld:
    def __init__(self, tag: str) -> None:
        self.world = World(4, tag, region="eu")
        self.stack = contextlib.ExitStack()
        self.facts = Facts()

    def __enter__(self) -> AllMetricsWorld:
        with self.stack:  # closes it again if anything below fails
            self.stack.enter_context(self.world)
            self.folder = Path(tempfile.mkdtemp(prefix="pangolin_exporter-test-"))
            self.stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self.host = self.world.host.namespace
            self.visitor, self.container = add_visitor(self.world), add_container(self.world)
            self.slow_site = self.world.sites[1]
            self.witness = self.stack.enter_context(UnderlayWitness(self.world, self.slow_site))
            self._keep(Line(self.world, self.slow_site, ROUND_TRIP))
            self.world.wait_connected(30 * harness.SLOWNESS)
            self._plan()
            self._start_targets()
            self.acme = self.folder / "acme.json"
            self._write_certificates({"web.lab.example": 30, "old.lab.example": 5})
            self.server = PangolinProcess(self.container, CONTAINER, self.database)
            self.server.start()
            self.stack.callback(self.server.stop)
            self.stack = self.stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.__exit__(*error)

    def _keep(self, closes):
        return self.stack.enter_context(contextlib.closing(closes))

    # ---- what there is

    def _plan(self) -> None:
        plan = self.plan = Plan(self.world)
        one, self.slow, self.renewed, self.removed = (plan.newt(site) for site in self.world.sites)
        self.renewed.online = False  # Pangolin takes it for offline: its own opinion
        self.local = plan.local()
        self.one = one
        self.web = plan.http("Web", one.target(HTTP, health="healthy"))
        self.stream = plan.tcp("Database", 15432, one.target(ECHO))
        self.datagrams = plan.udp("Game", 15433, one.target(DATAGRAMS))
        self.dead = plan.http("Dead", one.target(NOTHING))
        self.ill = plan.http("Ill", one.target(ILL, health="unhealthy"), one.target(HTTP))
        self.secure = plan.http("Secure", self.local.target(HTTP, CONTAINER), ssl=True)
        self.database = self.folder / "db.sqlite"
        plan.write_database(self.database)

    def _start_targets(self) -> None:
        site = self.world.sites[0].namespace
        self.nginx = Nginx(site, "site1", [f"127.0.0.1:{HTTP}"])
        self.echo = self._keep(Echo(site, tcp=[f"127.0.0.1:{ECHO}"], udp=[f"127.0.0.1:{DATAGRAMS}"]))
        relays = [
            ("udp" if resource.mode == "udp" else "tcp", target, (target.ip, target.port))
            for resource, target in self.plan.pairs()
            if target.place is self.one
        ]
        self.newt = self._keep(Newt(newt_program(self.world.state.folder), site, relays))

    def settings(self, otlp: str) -> dict:
        return {
            "wireguard": {"netns": self.host.name},
            "metadata": {"sqlite": str(self.database), "refresh": "1s"},
            "traefik": {"acme": str(self.acme)},
            "application": {"otlp": {"listen": otlp}},
        }

    def start_proxy(self) -> None:
        self.proxy = self._keep((RealTraefik if built_traefik() else Dialler)(self))

    # ---- certificates

    def _certificate(self, domain: str, days: int) -> str:
        """As Traefik keeps it. openssl says until when it is good."""
        key, certificate = self.folder / "key.pem", self.folder / "certificate.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
            + ["-keyout", str(key), "-out", str(certificate), "-days", str(days)]
            + ["-subj", f"/CN={domain}", "-addext", f"subjectAltName=DNS:{domain}"],
            check=True,
            capture_output=True,
        )
        end = subprocess.run(
            ["openssl", "x509", "-in", str(certificate), "-noout", "-enddate"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        moment = time.strptime(end.strip().partition("=")[2], "%b %d %H:%M:%S %Y GMT")
        self.facts.certificates[domain] = calendar.timegm(moment)
        return base64.b64encode(certificate.read_bytes()).decode()

    def _write_certificates(self, days: dict[str, int]) -> None:
        self.facts.certificates = {}
        entries = [
            {"domain": {"main": domain}, "certificate": self._certificate(domain, left), "key": "", "Store": "default"}
            for domain, left in days.items()
        ]
        draft = self.acme.with_suffix(".draft")
        draft.write_text(json.dumps({"letsencrypt": {"Account": {}, "Certificates": entries}}))
        draft.replace(self.acme)

    def change_certificates(self) -> None:
        """One is renewed, one is new, one is gone."""
        self._write_certificates({"web.lab.example": 90, self.secure.full_domain: 60})

    # ---- requests to Pangolin

    def ask(self, port: int, method: str, path: str, answer: int = 200, *, inside: bool = False, **headers: str) -> None:
        with contextlib.closing(Client(self.server, port, None if inside else self.host)) as client:
            client.ask(method, path, answer, **headers)

    def open_websocket(self, token: str) -> socket.socket | None:
        """newt's, with its first message; None when it is refused. The caller keeps it."""
        made = self.host.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.settimeout(10)
        made.connect((self.server.address, EXTERNAL))
        made.sendall(
            f"GET /api/v1/ws?token={token}&clientType=newt HTTP/1.1\r\nHost: pangolin\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        answer = made.recv(4096)
        if b" 101 " not in answer.split(b"\r\n")[0]:
            made.close()
            return None
        message = '{"type":"newt/wg/register","data":{"publicKey":"%s"}}' % self.world.sites[0].keys.public
        mask = os.urandom(4)
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(message.encode()))
        made.sendall(struct.pack("!BBH", 0x81, 0x80 | 126, len(payload)) + mask + payload)
        return made

    # ---- the tunnels

    def remember_transfer(self) -> None:
        self.facts.transfer = self.transfer()

    def transfer(self) -> dict[str, tuple[int, int]]:
        """What WireGuard says of the sites whose peers stay what they are."""
        by_key = self.world.host.interface.transfer()
        return {site.nice_id: by_key[site.keys.public] for site in self.world.sites[:2]}

    def new_handshakes(self, count: int) -> None:
        """Of the site at the end of the slow line."""
        since = time.time()
        for number in range(1, count + 1):
            self.world.dial(self.slow_site)
            wait_for(
                f"{number} handshakes on the cable",
                lambda number=number: len(self.witness.as_responder(since)) >= number,
                timeout=15,
                every=0.05,
            )
        self.facts.handshakes = self.witness.as_responder(since)

    def new_key(self) -> None:
        site = self.world.sites[2]
        self.world.rekey_site(site)
        self.execute('UPDATE "sites" SET "pubKey" = ? WHERE "siteId" = ?', site.keys.public, site.index)
        wait_for(
            "a handshake with the new key",
            lambda: self.world.host.interface.latest_handshakes().get(site.keys.public),
        )

    def remove_peer(self) -> None:
        self.world.host.interface.remove_peer(self.world.sites[3].keys.public)

    def forge_initiations(self, count: int) -> None:
        with self.world.sites[0].namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
            address = str(addresses.underlay(self.world.sites[0].index)[0].ip)
            for _ in range(count):
                made.sendto(struct.pack("<I", 1) + os.urandom(144), (address, addresses.LISTEN_PORT))
        self.facts.forged = count

    # ---- the database

    def execute(self, statement: str, *values: object) -> None:
        with contextlib.closing(sqlite3.connect(self.database, timeout=20)) as database, database:
            database.execute(statement, values)

    def lock_database(self, seconds: float) -> None:
        """Pangolin writes while somebody else has the database."""
        locked, done = threading.Event(), threading.Event()

        def hold() -> None:
            with contextlib.closing(sqlite3.connect(self.database, timeout=20, isolation_level=None)) as database:
                database.execute("BEGIN EXCLUSIVE")
                locked.set()
                time.sleep(seconds)
                database.execute("COMMIT")
            done.set()

        threading.Thread(target=hold).start()
        locked.wait(20)
        self.facts.database_wait += self.server.database_command("write")
        done.wait(20)

    # ---- an application

    def push(self, url: str, depth: int) -> None:
        """With OpenTelemetry's own SDK."""
        sys.path.insert(0, str(harness.REPOSITORY / "tests/sdk"))
        import sdks

        program = [str(sdks.installed() / "python/bin/python3"), str(harness.REPOSITORY / "tests/sdk/push.py")]
        pushed = subprocess.run(
            [*program, url, "protobuf", "cumulative", "rebuild", str(depth)],
            input="\n",
            env=sdks.environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert pushed.stdout == "pushed\n", pushed.stderr
        self.facts.queue_depth = depth
