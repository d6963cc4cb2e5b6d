"""Traffic of an exactly known amount between two namespaces, over the tunnel, that loses nothing on its way.

Sender and receiver are threads of this one process with sockets in different namespaces (`Namespace.socket`), so the
sender knows without a packet how much has arrived, and never has more under way than the buffers between them hold.
Nothing is ever sent again: what does not arrive fails the run, since a comparison with losses would mean nothing.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from lab import icmp
from lab.namespace import Namespace

SO_RCVBUFFORCE = 33
UDP_SEGMENT = 103  # setsockopt of level SOL_UDP: the kernel cuts what is sent into datagrams of this size
PATIENCE = float(
    os.environ.get("PANGOLIN_EXPORTER_LAB_PATIENCE", "20")
)  # seconds without progress that end a run


class TrafficLost(AssertionError):
    """Something that was sent did not arrive."""


class End:
    """One end of a conversation: a namespace and the address that it uses there."""

    def __init__(self, namespace: Namespace, address: str) -> None:
        self.namespace = namespace
        self.address = address
        self.family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def socket(self, kind: int, protocol: int = 0, receive_buffer: int | None = None) -> socket.socket:
        made = self.namespace.socket(self.family, kind, protocol)
        if receive_buffer is not None:
            made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, receive_buffer)
        made.settimeout(PATIENCE)
        return made

    def __str__(self) -> str:
        return f"{self.address} in {self.namespace.name}"


def together(actions: Sequence[Callable[[], object]]) -> list:
    """Runs all at the same time, to the end; the first failure is raised."""
    with ThreadPoolExecutor(max_workers=max(1, len(actions))) as pool:
        return [future.result() for future in [pool.submit(action) for action in actions]]


# ---- TCP

TCP_WINDOW = 192 << 10  # what can be under way: far below any queue's length in packets


def tcp_connection(client: End, server: End) -> tuple[socket.socket, socket.socket]:
    """A connected pair: the client's socket, the server's. Buffers are bounded so that no queue can overflow."""
    with server.socket(socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, TCP_WINDOW)
        listener.bind((server.address, 0))
        listener.listen(1)
        dialler = client.socket(socket.SOCK_STREAM)
        try:
            dialler.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, TCP_WINDOW)
            dialler.bind((client.address, 0))
            dialler.connect((server.address, listener.getsockname()[1]))
            accepted, _ = listener.accept()
        except BaseException:
            dialler.close()
            raise
    accepted.settimeout(PATIENCE)
    return dialler, accepted


def send_stream(sender: socket.socket, amount: int) -> None:
    chunk = memoryview(os.urandom(1 << 16) * 4)
    while amount > 0:
        part = chunk[: min(amount, len(chunk))]
        sender.sendall(part)
        amount -= len(part)
    sender.shutdown(socket.SHUT_WR)


def receive_stream(receiver: socket.socket, amount: int) -> None:
    buffer = bytearray(1 << 18)
    got = 0
    while size := receiver.recv_into(buffer):
        got += size
    if got != amount:
        raise TrafficLost(f"TCP: {got} of {amount} bytes arrived")


def receive_exactly(receiver: socket.socket, amount: int) -> None:
    while amount > 0:
        part = receiver.recv(min(amount, 1 << 16))
        if not part:
            raise TrafficLost(f"TCP: the connection ended {amount} bytes too early")
        amount -= len(part)


def tcp_bulk(client: End, server: End, to_server: int, to_client: int) -> None:
    """One connection with exactly this many payload bytes in each direction, at the same time."""
    dialler, accepted = tcp_connection(client, server)
    with dialler, accepted:
        try:
            together(
                [
                    lambda: send_stream(dialler, to_server),
                    lambda: receive_stream(accepted, to_server),
                    lambda: send_stream(accepted, to_client),
                    lambda: receive_stream(dialler, to_client),
                ]
            )
        except TimeoutError as error:
            raise TrafficLost(
                f"TCP between {client} and {server} made no progress for {PATIENCE:.0f} s"
            ) from error


# ---- UDP

UDP_BYTES_UNDER_WAY = 128 << 10
UDP_DATAGRAMS_UNDER_WAY = 128


class Arrivals:
    """What the receiver has so far; the sender waits here until there is room for more."""

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.datagrams = 0
        self.bytes = 0

    def add(self, size: int) -> None:
        with self.condition:
            self.datagrams += 1
            self.bytes += size
            self.condition.notify_all()

    def wait_for(self, datagrams: int, size: int, what: str) -> None:
        """Until at least that much arrived; gives up when nothing at all arrives for a while."""
        with self.condition:
            while self.datagrams < datagrams or self.bytes < size:
                before = self.datagrams
                if not self.condition.wait(PATIENCE) and self.datagrams == before:
                    raise TrafficLost(
                        f"{what}: only {self.datagrams} datagrams arrived, {datagrams} were expected by now"
                    )


def udp_datagrams(sender: End, receiver: End, sizes: Sequence[int], segment: int | None = None) -> None:
    """Sends datagrams of these payload sizes and sees each of them arrive, whole. With `segment`, every size is handed
    to the kernel in one piece and leaves as datagrams of that many bytes (UDP_SEGMENT)."""
    arrivals = Arrivals()
    with (
        receiver.socket(socket.SOCK_DGRAM, receive_buffer=8 << 20) as inbox,
        sender.socket(socket.SOCK_DGRAM) as outbox,
    ):
        inbox.bind((receiver.address, 0))
        outbox.bind((sender.address, 0))
        outbox.connect(inbox.getsockname()[:2])
        if segment is not None:
            outbox.setsockopt(socket.SOL_UDP, UDP_SEGMENT, segment)
        parts = [split(size, segment) for size in sizes]
        together(
            [
                lambda: send_datagrams(outbox, sizes, parts, arrivals, f"UDP {sender} → {receiver}"),
                lambda: receive_datagrams(inbox, [part for group in parts for part in group], arrivals),
            ]
        )


def split(size: int, segment: int | None) -> list[int]:
    if segment is None:
        return [size]
    return [segment] * (size // segment) + ([size % segment] if size % segment else [])


def send_datagrams(
    outbox: socket.socket, sizes: Sequence[int], parts: Sequence[Sequence[int]], arrivals: Arrivals, what: str
) -> None:
    pattern = os.urandom(65536)
    sent_datagrams = sent_bytes = 0
    for size, group in zip(sizes, parts):
        arrivals.wait_for(sent_datagrams - UDP_DATAGRAMS_UNDER_WAY, sent_bytes - UDP_BYTES_UNDER_WAY, what)
        outbox.send(pattern[:size])
        sent_datagrams += len(group)
        sent_bytes += size
    arrivals.wait_for(sent_datagrams, sent_bytes, what)


def receive_datagrams(inbox: socket.socket, sizes: Sequence[int], arrivals: Arrivals) -> None:
    buffer = bytearray(65536)
    for number, size in enumerate(sizes):
        try:
            got = inbox.recv_into(buffer)
        except TimeoutError as error:
            raise TrafficLost(
                f"UDP: datagram {number} of {len(sizes)} ({size} bytes) did not arrive"
            ) from error
        if got != size:
            raise TrafficLost(
                f"UDP: datagram {number} has {got} bytes, {size} were sent: lost, reordered or cut"
            )
        arrivals.add(got)


# ---- ICMP and whatever else travels in IP


def echo(client: End, server: End, sizes: Sequence[int]) -> None:
    """ICMP or ICMPv6 echo requests of these payload sizes, one after the other, each answered by the other's kernel."""
    identity = int.from_bytes(os.urandom(2))
    with client.socket(socket.SOCK_RAW, icmp.PROTOCOL[client.family], receive_buffer=4 << 20) as raw:
        raw.bind((client.address, 0))
        for number, size in enumerate(sizes):
            request = icmp.echo_request(client.family, identity, number, size)
            raw.sendto(request, (server.address, 0))
            await_reply(raw, client.family, request, f"ICMP echo of {size} bytes from {client} to {server}")


def await_reply(raw: socket.socket, family: int, request: bytes, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            payload = icmp.reply_payload(family, raw.recv(65536), request)
        except TimeoutError:
            break
        if payload is not None:
            if payload != request[8:]:
                raise TrafficLost(f"{what}: the reply is not what was sent")
            return
    raise TrafficLost(f"{what}: no reply in {PATIENCE:.0f} s")


EXPERIMENTAL = 253  # an IP protocol number for experiments (RFC 3692): counted as "other"


def other_packets(sender: End, receiver: End, sizes: Sequence[int]) -> None:
    """IP packets of a protocol that is neither TCP, UDP nor ICMP."""
    with (
        receiver.socket(socket.SOCK_RAW, EXPERIMENTAL, receive_buffer=4 << 20) as inbox,
        sender.socket(socket.SOCK_RAW, EXPERIMENTAL) as outbox,
    ):
        inbox.bind((receiver.address, 0))
        outbox.bind((sender.address, 0))
        for number, size in enumerate(sizes):
            outbox.sendto(bytes(size), (receiver.address, 0))
            try:
                message, source = inbox.recvfrom(65536)
                while (
                    source[0] != sender.address
                ):  # a raw socket is handed what others send at the same time, too
                    message, source = inbox.recvfrom(65536)
            except TimeoutError as error:
                raise TrafficLost(
                    f"IP protocol {EXPERIMENTAL}: packet {number} ({size} bytes) did not arrive"
                ) from error
            # The kernel answers an unknown protocol with an ICMP error unless a raw socket takes it, as ours does.
            header = (message[0] & 15) * 4 if receiver.family == socket.AF_INET else 0
            if len(message) - header != size:
                raise TrafficLost(
                    f"IP protocol {EXPERIMENTAL}: {len(message) - header} of {size} bytes arrived"
                )


# ---- while the world changes


class Drizzle:
    """Small datagrams both ways between pairs of ends, all the time, however many of them die on the way.

    For tests in which peers come and go: then losses are the point, and the witness at the host's interface is
    the measure. Bounded: it ends with the `with` block, or after `longest` seconds.
    """

    def __init__(
        self, pairs: Sequence[tuple[End, End]], interval: float = 0.004, longest: float = 120
    ) -> None:
        self.routes: list[tuple[socket.socket, tuple[str, int]]] = []
        self.interval = interval
        self.deadline = time.monotonic() + longest
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name="drizzle")
        for pair in pairs:
            self.add(*pair)

    def add(self, one: End, other: End) -> None:
        sockets = [end.socket(socket.SOCK_DGRAM) for end in (one, other)]
        for end, made in zip((one, other), sockets):
            made.bind((end.address, 0))
            made.setblocking(False)
        with self.lock:
            self.routes += [
                (sockets[0], sockets[1].getsockname()[:2]),
                (sockets[1], sockets[0].getsockname()[:2]),
            ]

    def _run(self) -> None:
        size = 0
        while not self.stopping.wait(self.interval) and time.monotonic() < self.deadline:
            size = size % 1200 + 37
            with self.lock:
                for made, target in self.routes:
                    with contextlib.suppress(
                        OSError
                    ):  # no peer, no route, interface gone: all part of the story
                        made.sendto(bytes(size), target)

    def __enter__(self) -> Drizzle:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.thread.join()
        for made, _target in self.routes:
            made.close()
