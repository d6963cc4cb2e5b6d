"""A backend that sends back what it gets, over TCP and UDP: `python3 echo.py --tcp ADDRESS:PORT --udp ADDRESS:PORT`.

Prints "ready" once it listens, one line of JSON (what it has seen, by port) for each line that it reads, and a last
one at SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys


class Counts(dict):
    def __init__(self) -> None:
        super().__init__(connections=0, active=0, datagrams=0, bytes_received=0, bytes_sent=0)


async def serve_connection(
    counts: Counts, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    counts["connections"] += 1
    counts["active"] += 1
    try:
        while data := await reader.read(1 << 16):
            counts["bytes_received"] += len(data)
            writer.write(data)
            await writer.drain()
            counts["bytes_sent"] += len(data)
    except OSError:
        pass  # the other side was reset: its end all the same
    finally:
        counts["active"] -= 1
        writer.close()


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, counts: Counts) -> None:
        self.counts = counts

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, client: tuple) -> None:
        self.counts["datagrams"] += 1
        self.counts["bytes_received"] += len(data)
        self.transport.sendto(data, client)
        self.counts["bytes_sent"] += len(data)


def split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


async def main(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    seen: dict[str, Counts] = {}
    for address in options.tcp:
        host, port = split(address)
        counts = seen[str(port)] = Counts()
        await asyncio.start_server(
            lambda reader, writer, counts=counts: serve_connection(counts, reader, writer), host, port
        )
    for address in options.udp:
        counts = seen[str(split(address)[1])] = Counts()
        await loop.create_datagram_endpoint(
            lambda counts=counts: Datagrams(counts), local_addr=split(address)
        )

    def report() -> None:
        print(json.dumps(seen), flush=True)

    def asked() -> None:
        if sys.stdin.readline():
            report()
        else:
            loop.remove_reader(sys.stdin)

    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    loop.add_reader(sys.stdin, asked)
    print("ready", flush=True)
    await ended.wait()
    report()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tcp", action="append", default=[])
    parser.add_argument("--udp", action="append", default=[])
    asyncio.run(main(parser.parse_args()))
