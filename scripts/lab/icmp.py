"""ICMP and ICMPv6 echo requests by hand, so that their size, number and moment are ours."""

from __future__ import annotations

import socket
import struct

PROTOCOL: dict[int, int] = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}
ECHO_REQUEST: dict[int, int] = {socket.AF_INET: 8, socket.AF_INET6: 128}
ECHO_REPLY: dict[int, int] = {socket.AF_INET: 0, socket.AF_INET6: 129}


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) & ~1])) + (
        data[-1] << 8 if len(data) % 2 else 0
    )
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo_request(family: int, identity: int, number: int, size: int) -> bytes:
    """An echo request with `size` bytes of payload."""
    payload = bytes((number + at) & 0xFF for at in range(size))
    header = struct.pack("!BBHHH", ECHO_REQUEST[family], 0, 0, identity, number)
    if family == socket.AF_INET:  # for ICMPv6 the kernel fills the checksum in: it covers the addresses
        header = struct.pack("!BBHHH", ECHO_REQUEST[family], 0, checksum(header + payload), identity, number)
    return header + payload


def reply_payload(family: int, received: bytes, request: bytes) -> bytes | None:
    """The payload, when what a raw socket received is the reply to the request; else None."""
    if family == socket.AF_INET:
        received = received[(received[0] & 15) * 4 :]  # an IPv4 raw socket hands over the IP header as well
    if received[0] == ECHO_REPLY[family] and received[4:8] == request[4:8]:
        return received[8:]
    return None
