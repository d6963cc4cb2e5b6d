"""HTTP requests from a namespace, and what a Prometheus page says."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse

from .namespace import Namespace


class Connection(HTTPConnection):
    """An HTTPConnection whose socket belongs to the namespace."""

    def __init__(self, namespace: Namespace, address: str, port: int, timeout: float = 30) -> None:
        super().__init__(address, port, timeout=timeout)
        self.namespace = namespace

    def connect(self) -> None:
        self.sock = self.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect((self.host, self.port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, method: str, path: str, host: str | None = None, body: bytes | None = None) -> HTTPResponse:
        """Sends a request, for this Host if given, and returns the answer with its body still unread."""
        self.request(method, path, body=body, headers={"Host": host} if host else {})
        return self.getresponse()


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes


def fetch(
    namespace: Namespace,
    address: str,
    port: int,
    path: str,
    *,
    host: str | None = None,
    method: str = "GET",
    body: bytes | None = None,
    timeout: float = 30,
) -> Answer:
    """One request on a connection of its own."""
    connection = Connection(namespace, address, port, timeout)
    try:
        response = connection.ask(method, path, host, body)
        return Answer(response.status, response.read())
    finally:
        connection.close()


_SAMPLE = re.compile(r'^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)$')
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def samples(page: str, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
    """The series of this name with at least these labels in a page of Prometheus' text format."""
    found = []
    for line in page.splitlines():
        matched = _SAMPLE.match(line)
        if matched and matched[1] == name:
            having = dict(_LABEL.findall(matched[2] or ""))
            if labels.items() <= having.items():
                found.append((having, float(matched[3])))
    return found
