#!/usr/bin/env python3
"""Every kind of HTTP exchange through a real Traefik, against Traefik's metrics, its access log and the backend's book.

Where the four define something differently, this is how they are brought together, and nothing is left over:

                        exporter                     Traefik's metrics         backend
    other methods       method="other"               EXTENSION_METHOD          as sent
    WebSocket           status="101"                 code="0"                  101
    client leaves       before the answer: "none"    499, or 502 in its own    no status
                                                     body
      in the answer     its status, no duration      not counted at all        its status
    backend ends it     before the answer: "none"    502, made by Traefik      no status
      in the answer     its status, no duration      not counted at all        its status
    duration            request's first byte to      the handler's whole time  -
                        answer's last, at the host
    response bytes      head and body as sent        body, without chunks      both
"""

from __future__ import annotations

import threading
import time
from collections import Counter

import harness
import http_books
from lab.resources import Resource
from mix_client import Ask, MixConnection
from mix_world import MixWorld
from resource_world import TRAEFIK, WEB_PORT

KIB, MIB = 1 << 10, 1 << 20
STATUSES = (200, 201, 202, 204, 206, 299, 301, 302, 304, 307, 400, 401, 403, 404, 405, 409, 418, 429, 451, 500, 501, 502)
STATUSES += (503, 504, 599)
UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: cGFuZ29saW5fZXhwb3J0ZXI=",
)

# What a visitor does on one connection, again and again.
QUICK = (
    *(Ask(status=status, size=20) for status in STATUSES),
    *(Ask(method, 200, 300) for method in ("GET", "HEAD", "DELETE", "OPTIONS", "TRACE", "PURGE", "M-SEARCH")),
    *(Ask(method, 201, 30, send=size) for method in ("POST", "PUT", "PATCH") for size in (0, 1, KIB)),
    *(Ask(size=size, how=how) for size in (0, 1, KIB, MIB) for how in ("length", "chunked", "interim")),
    *(Ask("PUT", 200, 1, send=size, send_how=how) for size in (1, KIB, MIB) for how in ("chunked", "expect")),
    Ask("HEAD", 200, MIB),
    Ask("HEAD", 404, how="chunked"),
    Ask(size=5000, how="close"),
    Ask("POST", 200, MIB, "chunked", send=MIB, send_how="chunked"),
)
SLOW = (
    Ask(wait=1.5, size=KIB),
    Ask("POST", wait=1.5, send=KIB),
    Ask(size=10_000, pace=0.15),
    Ask(size=10_000, pace=0.15, how="chunked"),
    Ask("PUT", 200, 1, send=10_000, send_pace=0.15),
    Ask(size=1000, how="events", pace=0.15),
)
LARGE = (
    Ask(size=100 * MIB),
    Ask(size=100 * MIB, how="chunked"),
    Ask("PUT", 201, send=100 * MIB),
    Ask("POST", 200, 1, send=100 * MIB, send_how="chunked"),
)


class Mix(harness.LabTest):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        stage = cls.stage = cls.enterClassContext(MixWorld("mix"))
        stage.prefer_traefik()
        database = stage.world.state.folder / "pangolin/db.sqlite"
        stage.plan.write_database(database)
        cls.exporter = cls.enterClassContext(
            harness.Exporter(
                {
                    "wireguard": {"netns": stage.world.host.namespace.name},
                    "metadata": {"sqlite": str(database), "refresh": "1s"},
                },
                folder=stage.world.state.folder / "pangolin",
            )
        )
        cls.exporter.wait_ready(60)

    def connect(self, resource: Resource) -> MixConnection:
        connection = MixConnection(self.stage.visitor, TRAEFIK, WEB_PORT, resource.full_domain, 100 * harness.SLOWNESS)
        self.addCleanup(connection.close)
        return connection

    def ask(self, connection: MixConnection, ask: Ask) -> None:
        answered = connection.exchange(ask)
        self.assertEqual(answered.status, ask.status, ask)
        self.assertEqual(answered.body, ask.size if ask.has_body else 0, ask)

    def read(self, resource: Resource) -> http_books.Books:
        return http_books.read(self.stage, self.exporter, resource)

    def settle(self, before: http_books.Books, resource: Resource, requests: int) -> http_books.Books:
        """What has been added when the backend knows of so many requests more and the exporter has read them."""
        harness.wait_for(
            f"{requests} requests of {resource.name} have ended",
            lambda: sum(each["ended"] for each in self.stage.book(resource)) >= before.backend_entries + requests,
        )
        time.sleep(2.5)
        return self.read(resource) - before

    def check_complete(self, resource: Resource, books: http_books.Books, asked: Counter) -> None:
        """Exchanges of which all had their whole answer."""
        self.assertEqual(books.backend.requests, asked, "the backend has what was asked")
        self.assertEqual(books.exporter.requests, http_books.folded(books.backend.requests), "exporter and backend")
        self.assertEqual(http_books.as_traefik_counts(books.backend.requests), books.traefik.requests)
        self.assertEqual(books.backend.body, books.traefik.response_bytes, "bodies of answers")
        self.assertEqual(books.backend.received_body, books.traefik.request_bytes, "bodies of requests")
        self.assertEqual(books.exporter.response_bytes, books.backend.response_bytes, "answers, heads included")
        self.assertEqual(books.exporter.responses, books.backend.requests.total())
        self.check_durations(resource, books)

    def check_durations(self, resource: Resource, books: http_books.Books) -> None:
        """None is longer than Traefik's, whose own work and waiting for a processor is around it."""
        theirs, ours = books.traefik.durations, books.exporter.durations
        self.assertEqual(ours.count, len(theirs), f"{resource.name}: durations")
        self.assertLessEqual(ours.sum, sum(theirs), resource.name)
        self.assertEqual(ours.outside([0] * len(theirs), theirs), 0, resource.name)

    def far_durations(self, resource: Resource, books: http_books.Books) -> str | None:
        """What is wrong if they are not all within 1 ms or 5 % of Traefik's: one by one as far as buckets tell (but two
        in a hundred, when somebody else had the processor), and their sum."""
        theirs, ours = books.traefik.durations, books.exporter.durations
        slack = [max(0.001, 0.05 * each) for each in theirs]
        outside = ours.outside([each - less for each, less in zip(theirs, slack)], theirs)
        found = (
            f"{resource.name}: {len(theirs)} requests, {sum(theirs):.3f} s by Traefik and {ours.sum:.3f} s by the exporter, "
            f"{1000 * (sum(theirs) - ours.sum) / len(theirs):.3f} ms less each, {outside} in another bucket"
        )
        print(found, flush=True)
        return found if sum(theirs) - ours.sum > sum(slack) or outside > len(theirs) // 50 else None

    def mix(self, resource: Resource, asks: tuple[Ask, ...], visitors: int, rounds: int) -> http_books.Books:
        before = self.read(resource)
        failures: list[BaseException] = []

        def visit() -> None:
            connection = self.connect(resource)
            try:
                for _ in range(rounds):
                    for ask in asks:
                        self.ask(connection, ask)
            except BaseException as error:
                failures.append(error)
                raise
            finally:
                connection.close()

        threads = [threading.Thread(target=visit) for _ in range(visitors)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        asked = Counter({(ask.method, ask.status): 0 for ask in asks})
        for ask in asks:
            asked[(ask.method, ask.status)] += visitors * rounds
        books = self.settle(before, resource, asked.total())
        self.check_complete(resource, books, asked)
        return books

    # ---- whole exchanges

    def test_quick(self) -> None:
        for resource in (self.stage.tunnel_mix, self.stage.local_mix):
            with self.subTest(resource.name):
                self.mix(resource, QUICK, visitors=3, rounds=4)

    def test_slow(self) -> None:
        for resource in (self.stage.tunnel_mix, self.stage.local_mix):
            with self.subTest(resource.name):
                self.mix(resource, SLOW, visitors=4, rounds=1)

    def test_large(self) -> None:
        for resource in (self.stage.tunnel_mix, self.stage.local_mix):
            with self.subTest(resource.name):
                self.mix(resource, LARGE, visitors=1, rounds=1)

    def test_durations(self) -> None:
        """One visitor alone. A machine that is busy with something else gets three chances."""
        for resource in (self.stage.tunnel_mix, self.stage.local_mix):
            with self.subTest(resource.name):
                for _ in range(3):
                    far = self.far_durations(resource, self.mix(resource, QUICK + SLOW, visitors=1, rounds=2))
                    if far is None:
                        break
                self.assertIsNone(far)

    def test_websockets(self) -> None:
        for resource in (self.stage.tunnel_mix, self.stage.local_mix):
            with self.subTest(resource.name):
                before = self.read(resource)
                for number in range(5):
                    connection = self.connect(resource)
                    connection.begin(Ask(how="websocket"), *UPGRADE)
                    self.assertEqual(connection.read_head()[0], 101)
                    connection.socket.sendall(b"GET / HTTP/1.1\r\n\r\n" * number + b"HTTP/1.1 500 No\r\n\r\n")
                    connection.receive()
                    connection.close()
                books = self.settle(before, resource, 5)
                self.check_complete(resource, books, Counter({("GET", 101): 5}))

    # ---- exchanges that somebody ends early

    def leave(self, resource: Resource, ask: Ask, seconds: float, received: int = 0) -> None:
        """The client ends the connection so long after it has so many bytes of the answer."""
        connection = self.connect(resource)
        connection.begin(ask)
        while len(connection.buffer) < received:
            connection.receive()
        time.sleep(seconds)
        connection.close()

    def begin_upload(self, resource: Resource) -> None:
        connection = self.connect(resource)
        connection.begin(Ask("PUT", 201, send=MIB, send_how="expect"))
        self.assertEqual(connection.read_head()[0], 100)
        connection.socket.sendall(bytes(MIB // 2))
        time.sleep(0.3)
        connection.close()

    def cut(self, resource: Resource, ask: Ask) -> None:
        with self.assertRaises(EOFError):
            self.connect(resource).exchange(ask)

    def vanish(self, resource: Resource, method: str) -> None:
        answered = self.connect(resource).exchange(Ask(method, 502, size=11, how="vanish"))
        self.assertEqual(answered.status, 502)

    def test_ended_early(self) -> None:
        """By the client before and in the answer and in its own request; by the backend before and in the answer."""
        for resource in (self.stage.tunnel_left, self.stage.local_left):
            with self.subTest(resource.name):
                before = self.read(resource)
                for _ in range(3):
                    self.leave(resource, Ask(wait=1.5), 0.2)
                    self.leave(resource, Ask("POST", wait=1.5, send=KIB), 0.2)
                    self.begin_upload(resource)
                    self.leave(resource, Ask(size=MIB, pace=0.2), 0.1, received=1000)
                    self.leave(resource, Ask(size=MIB, pace=0.2, how="chunked"), 0.1, received=1000)
                    self.leave(resource, Ask(size=1000, pace=0.2, how="events"), 0.3, received=100)
                    self.cut(resource, Ask(status=206, size=MIB, how="stop"))
                    self.vanish(resource, "GET")
                    self.vanish(resource, "POST")
                books = self.settle(before, resource, 27)
                self.assertEqual(
                    books.backend.requests,
                    Counter({("GET", 0): 6, ("POST", 0): 6, ("PUT", 0): 3, ("GET", 200): 9, ("GET", 206): 3}),
                )
                self.assertEqual(books.exporter.requests, http_books.folded(books.backend.requests))
                # Traefik counts what has no answer by its own, and forgets what has half of one. Of a client that leaves
                # in the middle of its request it learns in either of two ways.
                uploads = [books.traefik.requests.pop(("PUT", status), 0) for status in (499, 502)]
                self.assertEqual(sum(uploads), 3)
                self.assertEqual(
                    books.traefik.requests,
                    Counter({("GET", 499): 3, ("POST", 499): 3, ("GET", 502): 3, ("POST", 502): 3}),
                )
                self.assertEqual(books.exporter.durations.count, 0, "no answer had its last byte")
                self.assertEqual(
                    self.exporter.scrape().total(
                        "pangolin_resource_requests_aborted_total", resource_id=resource.nice_id
                    ),
                    27,
                )
                self.assertEqual(books.exporter.responses, 12)

    # ---- load

    def test_wrk(self) -> None:
        """As many requests as can be made, on connections that are kept, each counted."""
        for resource in (self.stage.tunnel_fast, self.stage.local_fast):
            with self.subTest(resource.name):
                before = self.read(resource)
                report = self.stage.wrk(resource, threads=8, connections=8, seconds=20, requests=1000)
                self.assertEqual(report.requests, 8 * 1000, "in 20 seconds")
                time.sleep(2.5)
                books = self.read(resource) - before
                expected = Counter({("GET", 200): report.requests})
                self.assertEqual(books.backend.requests, expected)
                self.assertEqual(books.exporter.requests, http_books.folded(expected))
                self.assertEqual(books.traefik.requests, expected)
                self.assertEqual(books.exporter.response_bytes, books.backend.response_bytes)
                self.assertEqual(books.backend.body, books.traefik.response_bytes)
                print(f"{resource.name}: {report}", flush=True)

    def tearDown(self) -> None:
        lost = {
            (having["map"], having["reason"]): value
            for having, value in self.exporter.scrape().select("pangolin_exporter_lost_updates_total")
            if having["map"].startswith("http") and value
        }
        self.assertEqual(lost, {})


if __name__ == "__main__":
    harness.main()
