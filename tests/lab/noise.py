"""A WireGuard peer on a UDP socket of its own, which does exactly what a test says, right or wrong, and counts it."""

from __future__ import annotations

import collections
import contextlib
import ctypes
import os
import socket
import struct
import threading
import time
from collections.abc import Sequence

import wireguard_messages as messages
from lab import addresses
from lab.world import Site, World
from traffic import SO_RCVBUFFORCE, together
from wireguard_messages import COOKIE_REPLY, DATA, NAMES, RESPONSE, Initiation, Keys, Session

SO_MEMINFO, MEMINFO_WORDS, MEMINFO_DROPS = 55, 9, 8  # include/uapi/linux/sock_diag.h


class NoAnswer(AssertionError):
    """The host did not send what was waited for."""


class NoisePeer:
    """Stands where the site's WireGuard would: its namespace, its underlay address, by default its key.

    A world's site that it stands for must be hushed first (World.hush_site). Not thread-safe.
    """

    def __init__(self, world: World, site: Site, keys: Keys | None = None, patience: float = 5) -> None:
        host_end, site_end = addresses.underlay(site.index)
        self.site = site
        self.keys = keys or Keys.of_base64(site.keys.private)
        self.host_public = Keys.of_base64(world.host.keys.private).public
        self.host_endpoint = (str(host_end.ip), addresses.LISTEN_PORT)
        self.patience = patience
        self.sent: collections.Counter[int] = collections.Counter()
        self.received: collections.Counter[int] = collections.Counter()
        self.inbox: list[bytes] = []
        self.socket = site.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
        self.socket.bind((str(site_end.ip), 0))
        self.socket.connect(self.host_endpoint)

    def __enter__(self) -> NoisePeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def __str__(self) -> str:
        def listed(counts: collections.Counter) -> str:
            return ", ".join(f"{count} {NAMES[kind]}" for kind, count in sorted(counts.items())) or "nothing"

        return (
            f"{self.endpoint} sent {listed(self.sent)}; got {listed(self.received)}; lost {self.lost()} of it"
        )

    @property
    def endpoint(self) -> str:
        address, port = self.socket.getsockname()
        return f"{address}:{port}"

    def lost(self) -> int:
        """Datagrams that came and for which the socket had no room."""
        words = self.socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 4 * MEMINFO_WORDS)
        return struct.unpack(f"{MEMINFO_WORDS}I", words)[MEMINFO_DROPS]

    # ---- messages

    def send(self, message: bytes) -> None:
        self.sent[messages.kind_of(message)] += 1
        self.socket.send(message)

    def send_burst(self, burst: Sequence[bytes]) -> None:
        """All of them at once: from every processor, before whoever looks at them gets any time there."""
        for message in burst:
            self.sent[messages.kind_of(message)] += 1
        processors = sorted(os.sched_getaffinity(0))
        start = threading.Barrier(len(processors))

        def send_share(number: int) -> None:
            share = Batch(burst[number :: len(processors)])
            os.sched_setaffinity(0, {processors[number]})  # 0: this thread
            with contextlib.suppress(PermissionError):
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
            start.wait(30)
            share.send(self.socket)

        self.socket.setblocking(True)
        together([lambda number=number: send_share(number) for number in range(len(processors))])

    def read_for(self, seconds: float) -> None:
        """Reads and counts, answers nothing."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._read(left)

    def read_until_quiet(self, quiet: float = 1.5, longest: float = 60) -> None:
        deadline = time.monotonic() + longest
        while self._read(quiet) and time.monotonic() < deadline:
            pass

    def _read(self, timeout: float) -> bool:
        self.socket.settimeout(max(timeout, 0.001))
        try:
            message = self.socket.recv(65536)
        except (TimeoutError, ConnectionRefusedError):
            return False
        self.received[messages.kind_of(message)] += 1
        self.inbox.append(message)
        return True

    def wait_for(self, kind: int, patience: float | None = None) -> bytes:
        """The next message of that kind, from the inbox or the network."""
        patience = patience or self.patience
        deadline = time.monotonic() + patience
        while True:
            for message in self.inbox:
                if messages.kind_of(message) == kind:
                    self.inbox.remove(message)
                    return message
            left = deadline - time.monotonic()
            if left <= 0:
                raise NoAnswer(f"no {NAMES[kind]} from the host in {patience:.1f} s: {self}")
            self._read(left)

    def forget_inbox(self) -> None:
        while self._read(0.001):
            pass
        self.inbox.clear()

    # ---- handshakes

    def initiation(self, cookie: bytes | None = None) -> Initiation:
        return Initiation(self.keys, self.host_public, cookie)

    def begin(self, initiation: Initiation | None = None) -> tuple[Initiation, Session]:
        """Sends an initiation and takes the response, without confirming it."""
        initiation = initiation or self.initiation()
        self.send(initiation.message)
        return initiation, self.take_response(initiation)

    def take_response(self, initiation: Initiation) -> Session:
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            with contextlib.suppress(messages.NotForUs):  # the answer to an earlier one
                return initiation.session(self.wait_for(RESPONSE, deadline - time.monotonic()))
        raise NoAnswer(f"no response to this initiation: {self}")

    def handshake(self, confirm_after: float = 0) -> Initiation:
        """A whole handshake as initiator. What it returns can be replayed."""
        initiation, session = self.begin()
        time.sleep(confirm_after)
        self.send(session.data())
        return initiation

    def answer(self, initiation: bytes, after: float = 0, confirmed: bool = True) -> Session:
        """Responds to the host's initiation and takes the data with which the host confirms, and answers it."""
        response, session, index = messages.respond(self.keys, self.host_public, initiation)
        time.sleep(after)
        self.send(response)
        while confirmed:
            data = self.wait_for(DATA)
            if int.from_bytes(data[4:8], "little") == index:
                session.read(data)
                # Data that gets no answer at all within 15 s makes WireGuard begin anew (section 6.5 of the paper).
                self.send(session.data())
                break
        return session

    def reply_with_cookie(self, initiation: bytes) -> bytes:
        messages.read_initiation(self.keys, self.host_public, initiation)
        cookie = os.urandom(16)
        self.send(messages.cookie_reply(self.keys, initiation, cookie))
        return cookie

    def cookie_after_initiation(self) -> bytes:
        """Sends an initiation to a host under load and reads the cookie that comes back."""
        initiation = self.initiation()
        self.send(initiation.message)
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            with contextlib.suppress(messages.NotForUs):  # in answer to a burst
                return initiation.cookie(self.wait_for(COOKIE_REPLY, deadline - time.monotonic()))
        raise NoAnswer(f"no cookie for this initiation: {self}")


class _Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class _Header(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(_Vector)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("padding", ctypes.c_int),
        ("sent", ctypes.c_uint32),
    ]


class Batch:
    """Datagrams laid out for sendmmsg."""

    def __init__(self, datagrams: Sequence[bytes]) -> None:
        self.buffers = [ctypes.create_string_buffer(datagram, len(datagram)) for datagram in datagrams]
        self.vectors = (_Vector * len(datagrams))(
            *(_Vector(ctypes.addressof(buffer), len(buffer)) for buffer in self.buffers)
        )
        self.headers = (_Header * len(datagrams))()
        for header, vector in zip(self.headers, self.vectors):
            header.vectors, header.vector_count = ctypes.pointer(vector), 1

    def send(self, connected: socket.socket) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        sent, total = 0, len(self.buffers)
        while sent < total:
            here = ctypes.byref(self.headers, sent * ctypes.sizeof(_Header))
            count = library.sendmmsg(connected.fileno(), here, min(1024, total - sent), 0)
            if count <= 0:
                raise OSError(ctypes.get_errno(), "sendmmsg: " + os.strerror(ctypes.get_errno()))
            sent += count
