"""Traffic of an exactly known amount between two namespaces, over the tunnel, that loses nothing on its way.

Sender and receiver are threads of this one process with sockets in different namespaces (`Namespace.socket`), so the
sender knows without a packet how much has arrived, and never has more under way than the buffers between them hold.
Nothing is ever sent again: what does not arrive fails the run, since a comparison with losses would mean nothing.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from lab.namespace import Namespace

SO_RCVBUFFORCE = 33
UDP_SEGMENT = 103  # setsockopt of level SOL_UDP: the kernel cuts what is sent into datagrams of this size
ICMP_ECHO, ICMP_ECHO_REPLY = 8, 0
ICMP6_ECHO, ICMP6_ECHO_REPLY = 128, 129
PATIENCE = float(os.environ.get("PANGOLIN_EXPORTER_LAB_PATIENCE", "20"))  # seconds without progress that end a run


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
        part = chunk[:min(amount, len(chunk))]
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


def tcp_bulk(client: End, server: End, to_server: int, to_client: int) -> None:
    """One connection with exactly this many payload bytes in each direction, at the same time."""
    dialler, accepted = tcp_connection(client, server)
    with dialler, accepted:
        try:
            together([lambda: send_stream(dialler, to_server), lambda: receive_stream(accepted, to_server),
                      lambda: send_stream(accepted, to_client), lambda: receive_stream(dialler, to_client)])
        except TimeoutError as error:
            raise TrafficLost(f"TCP between {client} and {server} made no progress for {PATIENCE:.0f} s") from error


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
                    raise TrafficLost(f"{what}: only {self.datagrams} datagrams arrived, {datagrams} were expected by now")


def udp_datagrams(sender: End, receiver: End, sizes: Sequence[int], segment: int | None = None) -> None:
    """Sends datagrams of these payload sizes and sees each of them arrive, whole. With `segment`, every size is handed
    to the kernel in one piece and leaves as datagrams of that many bytes (UDP_SEGMENT)."""
    arrivals = Arrivals()
    with (receiver.socket(socket.SOCK_DGRAM, receive_buffer=8 << 20) as inbox,
          sender.socket(socket.SOCK_DGRAM) as outbox):
        inbox.bind((receiver.address, 0))
        outbox.bind((sender.address, 0))
        outbox.connect(inbox.getsockname()[:2])
        if segment is not None:
            outbox.setsockopt(socket.SOL_UDP, UDP_SEGMENT, segment)
        parts = [split(size, segment) for size in sizes]
        together([lambda: send_datagrams(outbox, sizes, parts, arrivals, f"UDP {sender} → {receiver}"),
                  lambda: receive_datagrams(inbox, [part for group in parts for part in group], arrivals)])


def split(size: int, segment: int | None) -> list[int]:
    if segment is None:
        return [size]
    return [segment] * (size // segment) + ([size % segment] if size % segment else [])


def send_datagrams(outbox: socket.socket, sizes: Sequence[int], parts: Sequence[Sequence[int]], arrivals: Arrivals,
                   what: str) -> None:
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
            raise TrafficLost(f"UDP: datagram {number} of {len(sizes)} ({size} bytes) did not arrive") from error
        if got != size:
            raise TrafficLost(f"UDP: datagram {number} has {got} bytes, {size} were sent: lost, reordered or cut")
        arrivals.add(got)


# ---- ICMP and whatever else travels in IP

def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data[:len(data) & ~1])) + (data[-1] << 8 if len(data) % 2 else 0)
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def echo_request(family: int, identity: int, number: int, size: int) -> bytes:
    payload = bytes((number + at) & 0xff for at in range(size))
    kind = ICMP_ECHO if family == socket.AF_INET else ICMP6_ECHO
    header = struct.pack("!BBHHH", kind, 0, 0, identity, number)
    if family == socket.AF_INET:  # for ICMPv6 the kernel fills it in: the sum covers the addresses
        header = struct.pack("!BBHHH", kind, 0, checksum(header + payload), identity, number)
    return header + payload


def echo(client: End, server: End, sizes: Sequence[int]) -> None:
    """ICMP or ICMPv6 echo requests of these payload sizes, one after the other, each answered by the other's kernel."""
    protocol = socket.IPPROTO_ICMP if client.family == socket.AF_INET else socket.IPPROTO_ICMPV6
    reply = ICMP_ECHO_REPLY if client.family == socket.AF_INET else ICMP6_ECHO_REPLY
    identity = int.from_bytes(os.urandom(2))
    with client.socket(socket.SOCK_RAW, protocol, receive_buffer=4 << 20) as raw:
        raw.bind((client.address, 0))
        for number, size in enumerate(sizes):
            request = echo_request(client.family, identity, number, size)
            raw.sendto(request, (server.address, 0))
            await_reply(raw, client.family, reply, request, f"ICMP echo of {size} bytes from {client} to {server}")


def await_reply(raw: socket.socket, family: int, reply: int, request: bytes, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            message = raw.recv(65536)
        except TimeoutError:
            break
        if family == socket.AF_INET:
            message = message[(message[0] & 15) * 4:]  # an IPv4 raw socket hands over the IP header as well
        if message[0] == reply and message[4:8] == request[4:8]:
            if message[8:] != request[8:]:
                raise TrafficLost(f"{what}: the reply is not what was sent")
            return
    raise TrafficLost(f"{what}: no reply in {PATIENCE:.0f} s")


EXPERIMENTAL = 253  # an IP protocol number for experiments (RFC 3692): counted as "other"


def other_packets(sender: End, receiver: End, sizes: Sequence[int]) -> None:
    """IP packets of a protocol that is neither TCP, UDP nor ICMP."""
    with (receiver.socket(socket.SOCK_RAW, EXPERIMENTAL, receive_buffer=4 << 20) as inbox,
          sender.socket(socket.SOCK_RAW, EXPERIMENTAL) as outbox):
        inbox.bind((receiver.address, 0))
        inbox.connect((sender.address, 0))  # else it would also be handed what others send at the same time
        outbox.bind((sender.address, 0))
        for number, size in enumerate(sizes):
            outbox.sendto(bytes(size), (receiver.address, 0))
            try:
                message = inbox.recv(65536)
            except TimeoutError as error:
                raise TrafficLost(f"IP protocol {EXPERIMENTAL}: packet {number} ({size} bytes) did not arrive") from error
            # The kernel answers an unknown protocol with an ICMP error unless a raw socket takes it, as ours does.
            header = (message[0] & 15) * 4 if receiver.family == socket.AF_INET else 0
            if len(message) - header != size:
                raise TrafficLost(f"IP protocol {EXPERIMENTAL}: {len(message) - header} of {size} bytes arrived")
