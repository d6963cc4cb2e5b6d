"""A backend that answers as the query of each request asks it to, and keeps a book of every byte of it.

    python3 mix_server.py ADDRESS:PORT...

HTTP/1.1 on plain sockets, so that it can also do what no server means to. The query (all of it optional): `status`,
`size` of the body, `how` it is sent, `wait` seconds before the answer, `pace` seconds between the parts of the body.

    length    with a Content-Length                    interim   103 before the answer
    chunked   in chunks                                 websocket 101, then everything comes back until the end
    close     until the end of the connection           events    text/event-stream, in chunks
    stop      ends the connection after half of it      vanish    ends the connection without any answer

Prints "ready" once it listens and, for each line that it reads, one line of JSON: the exchanges by port.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from urllib.parse import parse_qsl, urlsplit

BLOCK = bytes(range(256)) * 256
book: dict[int, list[dict]] = {}
lock = threading.Lock()
# RFC 9110 section 15: these have no body, whatever they say.
BODILESS = (204, 304)


class Gone(Exception):
    """The client ended the connection."""


class Connection:
    def __init__(self, connected: socket.socket, port: int) -> None:
        self.socket, self.port = connected, port
        self.buffer = bytearray()
        self.entry: dict = {}

    def serve(self) -> None:
        while self.exchange():
            pass

    # ---- what comes in

    def receive(self) -> None:
        try:
            data = self.socket.recv(1 << 18)
        except OSError:
            data = b""
        if not data:
            raise Gone
        self.buffer += data

    def take(self, size: int) -> bytes:
        while len(self.buffer) < size:
            self.receive()
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        return taken

    def take_line(self) -> bytes:
        while (end := self.buffer.find(b"\r\n")) < 0:
            self.receive()
        return self.take(end + 2)

    def skip(self, size: int) -> None:
        while size:
            if not self.buffer:
                self.receive()
            step = min(size, len(self.buffer))
            del self.buffer[:step]
            size -= step

    def read_body(self, fields: dict[str, str]) -> int:
        if "chunked" not in fields.get("transfer-encoding", ""):
            size = int(fields.get("content-length", "0"))
            self.skip(size)
            return size
        total = 0
        while size := int(self.take_line().split(b";")[0], 16):
            self.skip(size)
            self.take_line()
            total += size
        while self.take_line() != b"\r\n":
            pass
        return total

    # ---- what goes out

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError:
            raise Gone from None
        self.entry["sent"] += len(data)

    def send_head(self, status: int, *fields: str) -> None:
        lines = [f"HTTP/1.1 {status} Answer", "Server: mix", *fields]
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode())

    def send_body(self, size: int, chunked: bool, pace: float) -> None:
        done = 0
        while done < size:
            part = BLOCK[: min(len(BLOCK), size - done, max(1, size // 5) if pace else size)]
            self.send(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
            done += len(part)
            self.entry["body"] = done
            if pace:
                time.sleep(pace)
        if chunked:
            self.send(b"0\r\n\r\n")

    def exchange(self) -> bool:
        """Whether there may be another one on the connection."""
        try:
            first = self.take_line()
        except Gone:
            return False
        method, target, _ = first.decode().split(" ", 2)
        entry = self.entry = {
            "method": method, "target": target, "status": 0, "sent": 0, "interim": 0, "body": 0,
            "received_body": 0, "ended": False,
        }
        with lock:
            book[self.port].append(entry)
        try:
            fields = {}
            while (line := self.take_line()) != b"\r\n":
                name, _, value = line.decode().partition(":")
                fields[name.lower()] = value.strip()
            if fields.get("expect") == "100-continue":
                self.send_head(100)
            entry["received_body"] = self.read_body(fields)
            return self.answer(method, dict(parse_qsl(urlsplit(target).query)))
        except Gone:
            return False
        finally:
            entry["ended"] = True

    def answer(self, method: str, wish: dict[str, str]) -> bool:
        status, size = int(wish.get("status", "200")), int(wish.get("size", "0"))
        how, pace = wish.get("how", "length"), float(wish.get("pace", "0"))
        self.wait(float(wish.get("wait", "0")))
        if how == "interim":
            self.send_head(103, "Link: </style.css>; rel=preload")
        # Interim answers are none of the answer's bytes.
        self.entry["interim"] = self.entry["sent"]
        if how == "vanish":
            return False
        if how == "websocket":
            self.entry["status"] = 101
            self.send_head(101, "Upgrade: websocket", "Connection: Upgrade")
            return self.echo()
        fields = {
            "chunked": ["Transfer-Encoding: chunked"],
            "events": ["Content-Type: text/event-stream", "Transfer-Encoding: chunked"],
            "close": ["Connection: close"],
        }.get(how, [f"Content-Length: {size}"])
        bodiless = status in BODILESS or method == "HEAD"
        self.entry["status"] = status
        self.send_head(status, *([] if status in BODILESS else fields))
        if not bodiless:
            self.send_body(size // 2 if how == "stop" else size, how in ("chunked", "events"), pace)
        return how not in ("close", "stop")

    def wait(self, seconds: float) -> None:
        """As servers do, it notices a client that leaves meanwhile."""
        if not seconds:
            return
        self.socket.settimeout(seconds)
        try:
            if self.socket.recv(1, socket.MSG_PEEK) == b"":
                raise Gone
        except TimeoutError:
            pass
        except OSError:
            raise Gone from None
        finally:
            self.socket.settimeout(None)

    def echo(self) -> bool:
        while True:
            if not self.buffer:
                self.receive()
            data = bytes(self.buffer)
            self.buffer.clear()
            self.socket.sendall(data)


def serve_connection(connected: socket.socket, port: int) -> None:
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connected:
        Connection(connected, port).serve()


def accept(listener: socket.socket, port: int) -> None:
    while True:
        connected, _ = listener.accept()
        threading.Thread(target=serve_connection, args=(connected, port), daemon=True).start()


def main() -> None:
    for address in sys.argv[1:]:
        host, _, port = address.rpartition(":")
        book[int(port)] = []
        listener = socket.create_server((host, int(port)), backlog=256)
        threading.Thread(target=accept, args=(listener, int(port)), daemon=True).start()
    print("ready", flush=True)
    for _ in sys.stdin:
        with lock:
            text = json.dumps(book)
        print(text, flush=True)


if __name__ == "__main__":
    main()
