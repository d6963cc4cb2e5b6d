"""Steady, modest traffic for the demo: web requests, a stream, datagrams and echoes, both ways through the tunnels.

Everything is a thread of the demo with sockets inside the namespaces; nothing leaves them. Altogether well under
1 Mbyte a second, and it ends when the demo ends.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import os
import random
import socket
import threading
from collections.abc import Callable

from . import addresses, icmp
from .namespace import Namespace
from .sites_file import STREAM_PORT, WEB_PORT
from .world import Site, World

DATAGRAM_PORT = 40003
ANSWER_SIZES = (800, 4_000, 20_000, 60_000)


class WebPages(http.server.BaseHTTPRequestHandler):
    """What the sites serve: pages of several sizes, now and then an error, and a place for uploads."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        status = random.choices((200, 304, 404, 500), weights=(94, 2, 3, 1))[0]
        self.answer(status, b"" if status == 304 else os.urandom(random.choice(ANSWER_SIZES)))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(201, b"stored\n")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class WebServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, namespace: Namespace, address: tuple[str, int]) -> None:
        super().__init__(address, WebPages, bind_and_activate=False)
        self.socket.close()
        self.socket = namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.server_bind()
        self.server_activate()

    def server_bind(self) -> None:  # the base class would ask the resolver for the address's name
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)

    def handle_error(self, *_: object) -> None:
        pass  # a client that went away at the demo's end


class WebClient(http.client.HTTPConnection):
    """As Traefik: one connection per site, kept open."""

    def __init__(self, namespace: Namespace, address: str) -> None:
        super().__init__(address, WEB_PORT, timeout=10)
        self.namespace = namespace

    def connect(self) -> None:
        self.sock = self.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect((self.host, self.port))

    def ask(self, method: str, path: str, body: bytes | None = None) -> None:
        self.request(method, path, body, {"Host": "web.lab.example"})
        self.getresponse().read()


class DemoTraffic:
    def __init__(self, world: World) -> None:
        self.world = world
        self.stopping = threading.Event()
        self.threads: list[threading.Thread] = []
        self.servers: list[WebServer] = []
        self.sockets: list[socket.socket] = []

    def __enter__(self) -> DemoTraffic:
        for busyness, site in enumerate(reversed(self.world.sites), 1):
            self._web(site, 0.9 / busyness)
            self._stream(site)
            self._datagrams(site)
            self._echoes(site)
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for server in self.servers:
            server.shutdown()
            server.server_close()
        for thread in self.threads:
            thread.join(timeout=15)
        for made in self.sockets:
            made.close()

    def _spawn(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        self.threads.append(thread)

    def _every(self, seconds: float, action: Callable[[], None]) -> None:
        """The action again and again, at slightly uneven intervals; a failed one is simply tried again later."""

        def work() -> None:
            while not self.stopping.wait(seconds * random.uniform(0.7, 1.3)):
                with contextlib.suppress(OSError, http.client.HTTPException):
                    action()

        self._spawn(work)

    def _socket(self, namespace: Namespace, family: int, kind: int, protocol: int = 0) -> socket.socket:
        made = namespace.socket(family, kind, protocol)
        made.settimeout(2)
        self.sockets.append(made)
        return made

    def _web(self, site: Site, interval: float) -> None:
        server = WebServer(site.namespace, (site.address, WEB_PORT))
        self.servers.append(server)
        self._spawn(server.serve_forever)
        client = WebClient(self.world.host.namespace, site.address)

        def visit() -> None:
            try:
                if random.random() < 0.15:
                    client.ask("POST", "/upload", os.urandom(30_000))
                else:
                    client.ask("GET", random.choice(("/", "/photos", "/api/items", "/style.css")))
            except (OSError, http.client.HTTPException):
                client.close()  # connects anew next time
                raise

        self._every(interval, visit)

    def _stream(self, site: Site) -> None:
        """A raw TCP resource: one connection, a question and its echo twice a second."""
        listener = self._socket(site.namespace, socket.AF_INET, socket.SOCK_STREAM)
        listener.bind((site.address, STREAM_PORT))
        listener.listen(1)
        caller = self._socket(self.world.host.namespace, socket.AF_INET, socket.SOCK_STREAM)
        caller.connect((site.address, STREAM_PORT))
        answerer, _ = listener.accept()
        answerer.settimeout(2)
        self.sockets.append(answerer)

        def exchange() -> None:
            caller.sendall(os.urandom(400))
            answerer.sendall(answerer.recv(4096) * 3)
            caller.recv(4096)

        self._every(0.5, exchange)

    def _datagrams(self, site: Site) -> None:
        host, family = self.world.host.namespace, socket.AF_INET6
        at_host = self._socket(host, family, socket.SOCK_DGRAM)
        at_host.bind((str(addresses.HOST_TUNNEL_6.ip), DATAGRAM_PORT + site.index))
        at_site = self._socket(site.namespace, family, socket.SOCK_DGRAM)
        at_site.bind((site.address_6, DATAGRAM_PORT))

        def exchange() -> None:
            at_site.sendto(os.urandom(1000), at_host.getsockname())
            at_host.recv(2048)
            at_host.sendto(os.urandom(300), at_site.getsockname())
            at_site.recv(2048)

        self._every(0.2, exchange)

    def _echoes(self, site: Site) -> None:
        family = socket.AF_INET
        from_host = self._socket(self.world.host.namespace, family, socket.SOCK_RAW, icmp.PROTOCOL[family])
        from_site = self._socket(site.namespace, family, socket.SOCK_RAW, icmp.PROTOCOL[family])
        number = 0

        def ping() -> None:
            nonlocal number
            number = (number + 1) & 0xFFFF
            request = icmp.echo_request(family, site.index, number, 56)
            from_host.sendto(request, (site.address, 0))
            from_site.sendto(request, (str(addresses.HOST_TUNNEL.ip), 0))
            for made in (from_host, from_site):  # replies are of no interest here, but must not pile up
                made.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while made.recv(2048):
                        pass

        self._every(1, ping)
