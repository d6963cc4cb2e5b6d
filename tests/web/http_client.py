"""Raw HTTP for tests that must be able to misbehave."""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct


def connect(port: int, timeout: float = 10) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=timeout)


def receive_all(connection: socket.socket) -> bytes:
    """Until the server closes; a reset ends it as well."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


def exchange(port: int, request: bytes, half_close: bool = True, timeout: float = 10) -> bytes:
    """All that comes back for `request` until the server closes."""
    with connect(port, timeout) as connection:
        # A server that has seen enough may close before it was sent everything.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(request)
            if half_close:
                # ENOTCONN, which has no exception of its own: it was reset after the last byte.
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_WR)
        return receive_all(connection)


def status_of(answer: bytes) -> int | None:
    line = answer.split(b"\r\n", 1)[0].split(b" ")
    return int(line[1]) if len(line) > 1 and line[0].startswith(b"HTTP/1.") else None


def get(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """A well-behaved request. Header names have underscores for hyphens."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(client):
        client.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = client.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def reset(connection: socket.socket) -> None:
    """Closes with a reset instead of an orderly end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
