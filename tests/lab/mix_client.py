"""A client that can do what http.client does not: send in chunks, wait for 100, see interim answers, leave early."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field
from urllib.parse import urlencode

from lab.namespace import Namespace

BLOCK = bytes(range(256)) * 256


@dataclass(frozen=True)
class Ask:
    """One request, and how it is to be answered (see mix_server.py)."""

    method: str = "GET"
    status: int = 200
    size: int = 0  # of the answer's body
    how: str = "length"
    wait: float = 0
    pace: float = 0
    send: int = 0  # bytes of the request's body
    send_how: str = "length"  # length | chunked | expect
    send_pace: float = 0

    @property
    def target(self) -> str:
        wish = {"status": self.status, "size": self.size, "how": self.how, "wait": self.wait, "pace": self.pace}
        return "/mix?" + urlencode({name: value for name, value in wish.items() if value not in (0, "length")})

    @property
    def has_body(self) -> bool:
        return self.method != "HEAD" and self.status not in (204, 304)


@dataclass
class Answered:
    status: int
    body: int = 0
    interim: list[int] = field(default_factory=list)


class MixConnection:
    """Kept between requests, and made anew where the other side ended it."""

    def __init__(self, namespace: Namespace, address: str, port: int, host: str, timeout: float) -> None:
        self.namespace, self.address, self.host, self.timeout = namespace, (address, port), host, timeout
        self.socket: socket.socket | None = None
        self.buffer = bytearray()

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
        self.socket = None
        self.buffer.clear()

    def connect(self) -> None:
        self.socket = self.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.settimeout(self.timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect(self.address)

    def begin(self, ask: Ask, *fields: str) -> None:
        """Sends the request, without its body if it waits for 100."""
        if self.socket is None:
            self.connect()
        lines = [f"{ask.method} {ask.target} HTTP/1.1", f"Host: {self.host}", *fields]
        if ask.how == "events":
            lines.append("Accept: text/event-stream")
        if ask.send_how == "chunked":
            lines.append("Transfer-Encoding: chunked")
        elif ask.send or ask.method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {ask.send}")
        if ask.send_how == "expect":
            lines.append("Expect: 100-continue")
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        if ask.send_how != "expect":
            self.send_body(ask)

    def send_body(self, ask: Ask) -> None:
        done = 0
        while done < ask.send:
            part = BLOCK[: min(len(BLOCK), ask.send - done, max(1, ask.send // 5) if ask.send_pace else ask.send)]
            self.socket.sendall(b"%x\r\n%s\r\n" % (len(part), part) if ask.send_how == "chunked" else part)
            done += len(part)
            if ask.send_pace:
                time.sleep(ask.send_pace)
        if ask.send_how == "chunked":
            self.socket.sendall(b"0\r\n\r\n")

    def exchange(self, ask: Ask) -> Answered:
        """The whole of it. What the server ends early is an error."""
        self.begin(ask)
        return self.finish(ask)

    def finish(self, ask: Ask) -> Answered:
        interim = []
        while True:
            status, fields = self.read_head()
            if status >= 200:
                break
            interim.append(status)
            # Traefik says so by itself and, later or never, as the backend does.
            if status == 100 and ask.send_how == "expect" and 100 not in interim[:-1]:
                self.send_body(ask)
        answered = Answered(status, interim=interim)
        if not ask.has_body:
            pass
        elif "chunked" in fields.get("transfer-encoding", ""):
            while size := int(self.read_line().split(b";")[0], 16):
                self.skip(size)
                self.read_line()
                answered.body += size
            while self.read_line() != b"\r\n":
                pass
        elif "content-length" in fields:
            answered.body = int(fields["content-length"])
            self.skip(answered.body)
        elif fields.get("connection", "") == "close":
            answered.body = self.skip_to_end()
        else:
            raise AssertionError(f"the answer to {ask} has no length: {fields}")
        if fields.get("connection", "") == "close":
            self.close()
        return answered

    # ---- reading

    def receive(self) -> None:
        data = self.socket.recv(1 << 18)
        if not data:
            raise EOFError("the server ended the connection")
        self.buffer += data

    def read_line(self) -> bytes:
        while (end := self.buffer.find(b"\r\n")) < 0:
            self.receive()
        line = bytes(self.buffer[: end + 2])
        del self.buffer[: end + 2]
        return line

    def read_head(self) -> tuple[int, dict[str, str]]:
        status = int(self.read_line().split()[1])
        fields = {}
        while (line := self.read_line()) != b"\r\n":
            name, _, value = line.decode().partition(":")
            fields[name.lower()] = value.strip().lower()
        return status, fields

    def skip(self, size: int) -> None:
        while size:
            if not self.buffer:
                self.receive()
            step = min(size, len(self.buffer))
            del self.buffer[:step]
            size -= step

    def skip_to_end(self) -> int:
        size = len(self.buffer)
        self.buffer.clear()
        while data := self.socket.recv(1 << 18):
            size += len(data)
        return size
