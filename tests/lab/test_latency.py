#!/usr/bin/env python3
"""Tunnels over links of a known delay: the histograms must show it.

The delays are round-trip times; line.py says on which way they lie. What exactly a handshake took is read from a
packet socket at the host's end of the cable, what TCP thinks of its round trips from TCP_INFO.
"""

import contextlib
import statistics
import time

import harness
import traffic
from accounts import host_end, site_end, stage
from harness import wait_for
from lab.world import Site, World
from line import Line, smoothed_round_trip
from readings import WIREGUARD, Histogram, feature_enabled
from underlay import UnderlayWitness

TAG = "lag"
ROUND_TRIPS = (0.005, 0.05, 0.2)
HANDSHAKES = 7
TCP_SECONDS = 10
HANDSHAKE, TUNNEL = "pangolin_site_handshake_latency_seconds", "pangolin_tunnel_latency_seconds"


def allowed(value: float) -> float:
    """How far a median may be off: a tenth, which is what the buckets promise, and a millisecond of the machine's own."""
    return 0.1 * value + 0.001 * harness.SLOWNESS


class Link:
    """One site behind its delay."""

    def __init__(self, world: World, site: Site, round_trip: float, resources: contextlib.ExitStack) -> None:
        self.world, self.site, self.round_trip = world, site, round_trip
        self.witness = resources.enter_context(UnderlayWitness(world, site))
        self.line = resources.enter_context(contextlib.closing(Line(world, site, round_trip)))

    def wait_handshakes(self, count: int, since: float) -> None:
        wait_for(
            f"{count} handshakes of {self.site.nice_id} on the cable",
            lambda: len(self.witness.as_responder(since)) >= count,
            timeout=15,
            every=0.05,
        )

    def histogram(self, exporter: harness.Exporter, name: str) -> Histogram:
        return Histogram.of(exporter.scrape(), name, site_id=self.site.nice_id, **WIREGUARD)


class Latency(harness.LabTest):
    def test_histograms_show_the_delay(self) -> None:
        with (
            stage(len(ROUND_TRIPS), TAG) as (world, _accounts, exporter),
            contextlib.ExitStack() as resources,
        ):
            samples = exporter.scrape()
            self.assertTrue(
                any(feature_enabled(samples, f"handshakes_{place}") for place in ("module", "underlay")),
                "handshakes are not observed",
            )
            begin = time.time()
            links = [
                Link(world, site, round_trip, resources) for site, round_trip in zip(world.sites, ROUND_TRIPS)
            ]
            print(f"    the delay: {links[0].line}", flush=True)
            for link in links:
                link.wait_handshakes(1, begin)
            time.sleep(4 * harness.SLOWNESS)  # counted
            self.handshakes(exporter, links)
            self.assertTrue(feature_enabled(exporter.scrape(), "tcp"), "TCP is not observed")
            self.tcp(exporter, links)

    def handshakes(self, exporter: harness.Exporter, links: list[Link]) -> None:
        """No TCP in the tunnels: the handshakes are the tunnels' latency, too."""
        before = {
            (link.site.nice_id, name): link.histogram(exporter, name)
            for link in links
            for name in (HANDSHAKE, TUNNEL)
        }
        begin = time.time()
        for number in range(1, HANDSHAKES + 1):
            for link in links:
                link.world.dial(link.site)
            for link in links:
                link.wait_handshakes(number, begin)
            time.sleep(0.1)
        for link in links:
            truth = link.witness.as_responder(begin)
            self.believe(link, statistics.median(truth), "the handshakes on the cable")
            for name in (HANDSHAKE, TUNNEL):
                with self.subTest(metric=name, site=link.site.nice_id, round_trip=link.round_trip):

                    def counted(link: Link = link, name: str = name) -> Histogram | None:
                        now = link.histogram(exporter, name) - before[link.site.nice_id, name]
                        assert now.count >= HANDSHAKES, f"{now} of {HANDSHAKES}"
                        return now

                    found = wait_for(f"{HANDSHAKES} handshakes are in {name}", counted, timeout=12)
                    self.compare(found, truth)
                    # Between the cable and the end of a handshake lies decryption, which takes milliseconds of
                    # its own where the machine is emulated.
                    wrong = found.misplaced(truth, 0.001) if harness.SLOWNESS == 1 else []
                    self.assertFalse(
                        wrong,
                        f"{wrong}; on the cable {[round(v, 5) for v in sorted(truth)]}, counted {found}",
                    )

    def tcp(self, exporter: harness.Exporter, links: list[Link]) -> None:
        """Small questions and answers on one connection of each site; TCP's own smoothed round trips."""
        before = {link.site.nice_id: link.histogram(exporter, TUNNEL) for link in links}

        def talk(link: Link) -> list[float]:
            seen = []
            end = time.monotonic() + TCP_SECONDS * min(harness.SLOWNESS, 2)
            dialler, accepted = traffic.tcp_connection(host_end(link.world), site_end(link.site))
            with dialler, accepted:
                while time.monotonic() < end:
                    dialler.sendall(b"question")
                    accepted.recv(64)
                    accepted.sendall(b"answer")
                    dialler.recv(64)
                    seen.append(smoothed_round_trip(dialler))
                    time.sleep(0.05)
            return seen

        truths = traffic.together([lambda link=link: talk(link) for link in links])
        time.sleep(3 * harness.SLOWNESS)
        for link, truth in zip(links, truths):
            found = link.histogram(exporter, TUNNEL) - before[link.site.nice_id]
            self.believe(link, statistics.median(truth), "TCP's round trips")
            with self.subTest(metric=TUNNEL, site=link.site.nice_id, round_trip=link.round_trip):
                self.assertGreaterEqual(found.count, 4, f"hardly sampled in {TCP_SECONDS} s: {found}")
                self.assertLessEqual(found.count, 3 * TCP_SECONDS * harness.SLOWNESS, f"{found}")
                self.compare(found, truth)
                slack = 0.001 * harness.SLOWNESS
                outside = [
                    bound
                    for bound, up_to in found.cumulative.items()
                    if (bound < min(truth) - slack and up_to)
                    or (bound > max(truth) + slack and up_to != found.count)
                ]
                self.assertFalse(
                    outside, f"values that TCP never had ({min(truth):.5f} to {max(truth):.5f} s): {found}"
                )

    def believe(self, link: Link, median: float, what: str) -> None:
        """The lab itself must have made the delay that it promises; an emulated machine adds a lot of its own."""
        more = median - link.round_trip
        self.assertTrue(
            -0.0005 < more < 0.1 * link.round_trip + 0.003 * harness.SLOWNESS**2,
            f"{what} took {median:.4f} s instead of {link.round_trip} s: this run says nothing of the exporter",
        )

    def compare(self, found: Histogram, truth: list[float]) -> None:
        median = statistics.median(truth)
        self.assertLess(
            abs(found.quantile(0.5) - median),
            allowed(median),
            f"the median is {median:.5f} s, the histogram says {found.quantile(0.5):.5f}: {found}",
        )


if __name__ == "__main__":
    harness.main()
