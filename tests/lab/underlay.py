"""What passes under one tunnel, seen at the host's end of the cable: a packet socket, no eBPF."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass

from lab import addresses
from lab.world import Site, World
from wireguard_messages import DATA, INITIATION, RESPONSE

ETH_P_ALL = 3
PACKET_OUTGOING = 4  # include/uapi/linux/if_packet.h
SO_TIMESTAMPNS = 35
SO_RCVBUFFORCE = 33


@dataclass(frozen=True)
class Message:
    """One WireGuard message. Indexes as in the message; a response has both."""

    at: float
    outgoing: bool
    kind: int
    sender: int | None
    receiver: int | None


class UnderlayWitness:
    """Writes down handshake messages, and the first data of each session, with the kernel's own time stamps."""

    def __init__(self, world: World, site: Site) -> None:
        self.messages: list[Message] = []
        self._sessions: set[tuple[bool, int]] = set()
        self._lock = threading.Lock()
        with world.host.namespace.entered():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
            self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
            self.socket.bind((f"cable{site.index}", ETH_P_ALL))
        self.socket.settimeout(0.2)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"underlay of {site.nice_id}")
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        self.socket.close()

    def __enter__(self) -> UnderlayWitness:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError, OSError):
                packet, control, _flags, source = self.socket.recvmsg(2048, 64)
                self._note(packet, source[2] == PACKET_OUTGOING, arrival(control))

    def _note(self, packet: bytes, outgoing: bool, at: float) -> None:
        if len(packet) < 28 or packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_UDP:
            return
        header = (packet[0] & 15) * 4
        ports, payload = struct.unpack("!HH", packet[header : header + 4]), packet[header + 8 :]
        if ports[0 if outgoing else 1] != addresses.LISTEN_PORT or len(payload) < 32:
            return
        kind, first, second = struct.unpack("<III", payload[:12])
        if kind == DATA:
            if (outgoing, first) in self._sessions:
                return
            self._sessions.add((outgoing, first))
        sender = first if kind in (INITIATION, RESPONSE) else None
        receiver = second if kind == RESPONSE else first if kind == DATA else None
        with self._lock:
            self.messages.append(Message(at, outgoing, kind, sender, receiver))

    def _pairs(self, begin: int, end: int, since: float) -> list[float]:
        """From each of the host's messages of the one kind to the first answer of the other kind to its index."""
        with self._lock:
            messages = list(self.messages)
        answered: dict[int, float] = {}
        for message in messages:
            if not message.outgoing and message.kind == end:
                answered.setdefault(message.receiver, message.at)
        return [
            answered[message.sender] - message.at
            for message in messages
            if message.outgoing
            and message.kind == begin
            and message.sender in answered
            and message.at >= since
        ]

    def as_responder(self, since: float = 0) -> list[float]:
        """Seconds from each response of the host to the first data of its session."""
        return self._pairs(RESPONSE, DATA, since)

    def as_initiator(self, since: float = 0) -> list[float]:
        """Seconds from each initiation of the host to the response."""
        return self._pairs(INITIATION, RESPONSE, since)


def arrival(control: list[tuple[int, int, bytes]]) -> float:
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = struct.unpack("qq", data[:16])
            return seconds + nanoseconds / 1e9
    return time.time()
