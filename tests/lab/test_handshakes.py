#!/usr/bin/env python3
"""Handshakes by their outcome: as many as were made are counted, whoever began them, and none besides.

A peer made by hand (noise.py) stands in for the sites and does what no WireGuard would. Once for each place where
the exporter can observe: inside the kernel's module, where there is one, and on the network under the tunnel.
"""

import contextlib
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import harness
import wireguard_messages
from accounts import stage
from harness import wait_for
from lab.wireguard import Implementation
from lab.world import Site, World
from noise import NoAnswer, NoisePeer
from readings import WIREGUARD, Histogram, NeverBackwards, Tally, feature_enabled, no_updates_lost
from underlay import UnderlayWitness
from wireguard_messages import COOKIE_REPLY, INITIATION, Keys
from witness import backlog_drops

TAG = "shake"
RESULTS, LATENCY = "pangolin_wg_handshake_total", "pangolin_site_handshake_latency_seconds"
NOBODY = "unassigned"

LATE = 0.1  # some answers take this long, for the histogram's sake
# Two initiations by one peer must be further apart than this, or WireGuard takes them for a flood (1/50 s).
APART = 0.06 * harness.SLOWNESS
# Nobody answers within this time (REKEY_TIMEOUT and what it may be late), and the next poll has seen it.
GIVEN_UP = 5.5 + 2.5
# More than an eighth of the queue for handshakes, which is what both call load: 4096 in the kernel, 1024 in
# wireguard-go. Fewer than the queue holds, and than fit in each processor's input queue (netdev_max_backlog, 1000):
# what finds one full is dropped unseen.
BURST = {
    Implementation.KERNEL: min(3000, 800 * len(os.sched_getaffinity(0))),
    Implementation.USERSPACE: 900,
}


class Stage:
    """A world whose sites have fallen silent, peers in their place, and the tallies."""

    def __init__(self, test: "Handshakes", world: World, exporter: harness.Exporter, mode: str) -> None:
        self.test, self.world, self.exporter, self.mode = test, world, exporter, mode
        self.resources = contextlib.ExitStack()
        answers, asks = world.sites  # to the first the host is responder, to the second initiator
        for site in world.sites:
            world.hush_site(site)
        self.first = self.peer(answers)
        self.second = self.peer(asks)
        self.stranger = self.peer(answers, Keys.generate())
        self.outbox = self.resources.enter_context(
            world.host.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        )
        time.sleep(GIVEN_UP)  # what the sites began before they fell silent
        self.results = Tally(exporter, RESULTS, "site_id", "result")
        self.latency_before = {site.nice_id: self.latency(site) for site in world.sites}
        self.underlay = {
            site.nice_id: self.resources.enter_context(UnderlayWitness(world, site)) for site in world.sites
        }
        self.started = time.time()

    def peer(self, site: Site, keys: Keys | None = None) -> NoisePeer:
        return self.resources.enter_context(
            NoisePeer(self.world, site, keys, patience=10 + 5 * harness.SLOWNESS)
        )

    def latency(self, site: Site) -> Histogram:
        return Histogram.of(self.exporter.scrape(), LATENCY, site_id=site.nice_id, **WIREGUARD)

    def expect(self, site: Site | None, result: str, count: int = 1) -> None:
        self.results.expect(site.nice_id if site else NOBODY, result, count=count)

    def check(self, what: str, timeout: float = 12) -> None:
        peers = (self.first, self.second, self.stranger)
        self.results.check(f"{what} ({self.mode})", timeout, lambda: "\n  ".join(str(peer) for peer in peers))

    def make_host_ask(self) -> bytes:
        """The host has something to send to the second peer and no session: its initiation."""
        self.world.renew_peer(self.second.site, self.second.endpoint)
        time.sleep(2.5)  # the exporter has seen the peer's endpoint
        self.second.forget_inbox()
        self.outbox.sendto(b"anybody there?", (self.second.site.address, 9))
        return self.second.wait_for(INITIATION)

    def check_witness(self, site: Site) -> None:
        """WireGuard itself must have taken the handshake for a good one just now."""
        patience = 2 + harness.SLOWNESS

        def recent() -> bool:
            return abs(self.latest_handshake(site) - time.time()) <= patience

        wait_for(f"wg says that the handshake with {site.nice_id} is recent", recent, timeout=2)

    def latest_handshake(self, site: Site) -> int:
        return self.world.host.interface.latest_handshakes().get(site.keys.public, 0)


@contextlib.contextmanager
def held_back(world: World) -> Iterator[None]:
    """A wireguard-go on many processors would keep up with any burst: it gets all of it at once."""
    process = world.host.interface.process
    if process is None:
        yield
        return
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


def has_module() -> bool:
    """The module's BTF is there once it is loaded, on kernels that make any for modules."""
    if not Path("/sys/kernel/btf/wireguard").exists():
        os.system("modprobe -q wireguard 2>/dev/null")
    return Path("/sys/kernel/btf/wireguard").exists()


class Handshakes(harness.LabTest):
    def test_underlay(self) -> None:
        self.all_outcomes("underlay")

    def test_module(self) -> None:
        if not has_module():
            self.skipTest("this kernel has no WireGuard module with BTF")
        self.all_outcomes("module")

    def test_automatic(self) -> None:
        """It takes the module where there is one, and does not count while it is off."""
        for mode, expected in (("auto", "module" if has_module() else "underlay"), ("off", None)):
            with self.subTest(mode=mode), stage(1, TAG, {"handshakes": mode}) as (world, _, exporter):
                self.check_features(exporter, expected)
                if mode == "off":
                    self.assertEqual(exporter.scrape().total(RESULTS), 0)
                else:
                    # At a handshake that began before it the exporter may have been late.
                    before = exporter.scrape().value(
                        RESULTS, site_id=world.sites[0].nice_id, result="success"
                    )
                    world.dial(world.sites[0])
                    wait_for(
                        "a real site's handshake is counted",
                        lambda: (
                            exporter.scrape().value(RESULTS, site_id=world.sites[0].nice_id, result="success")
                            == (before or 0) + 1
                        ),
                        timeout=12,
                    )

    def check_features(self, exporter: harness.Exporter, expected: str | None) -> None:
        def right() -> bool:
            samples = exporter.scrape()
            found = {name: feature_enabled(samples, f"handshakes_{name}") for name in ("module", "underlay")}
            assert found == {name: name == expected for name in found}, f"enabled: {found}"
            return True

        wait_for(f"handshakes are observed by {expected}", right, timeout=15)

    def all_outcomes(self, mode: str) -> None:
        with stage(2, TAG, {"handshakes": mode}) as (world, _accounts, exporter):
            self.check_features(exporter, mode)
            steps = Stage(self, world, exporter, mode)
            with steps.resources:
                parts: list[Callable[[Stage], None]] = [
                    self.host_responds,
                    self.nobody_it_knows,
                    self.wrong_mac,
                    self.seen_before,
                    self.never_confirmed,
                    self.host_begins,
                    self.host_is_told_to_come_again,
                    self.host_under_load,
                ]
                for part in parts:
                    started = time.monotonic()
                    part(steps)
                    print(f"    {mode}: {part.__name__}, {time.monotonic() - started:.1f} s", flush=True)
                self.check_latencies(steps)
                steps.results.check_stays("after everything", GIVEN_UP)
                self.assertFalse(no_updates_lost(exporter.scrape()), "the exporter lost updates")

    # ---- over restarts

    def test_counted_while_it_is_away(self) -> None:
        for mode in ("underlay", "module") if has_module() else ("underlay",):
            with self.subTest(mode=mode), stage(2, TAG, {"handshakes": mode}) as (world, _accounts, exporter):
                steps = Stage(self, world, exporter, mode)
                with steps.resources, NeverBackwards(exporter, restarts=True):
                    for end in (exporter.kill, lambda exporter=exporter: exporter.stop(detach=False)):
                        self.all_while_away(steps, end)
                    self.killed_again_and_again(steps)
                    steps.results.check_stays("after the last restart", GIVEN_UP)
                    self.assertFalse(no_updates_lost(exporter.scrape()), "the exporter lost updates")

    def all_while_away(self, steps: Stage, end: Callable[[], None]) -> None:
        """One of each outcome that the host as responder has; one handshake is open when the exporter ends."""
        _, session = steps.first.begin()
        end()
        steps.first.send(session.data())
        time.sleep(APART)
        old = steps.first.handshake()
        time.sleep(APART)
        steps.first.handshake()
        for message in (
            old.message,
            wireguard_messages.corrupt_mac1(steps.first.initiation().message),
        ):
            time.sleep(APART)
            steps.first.send(message)
        for _ in range(2):
            steps.stranger.send(steps.stranger.initiation().message)
            time.sleep(APART)
        steps.first.begin()  # never confirmed
        steps.exporter.start()
        steps.exporter.wait_ready(60)
        steps.expect(steps.first.site, "success", 3)
        steps.expect(steps.first.site, "replay")
        steps.expect(steps.first.site, "timeout")
        steps.expect(None, "invalid_mac")
        steps.expect(None, "unknown_peer", 2)
        steps.check("what happened while the exporter was away", GIVEN_UP + 12)

    def killed_again_and_again(self, steps: Stage) -> None:
        for number in range(6):
            for _ in range(3):
                steps.first.handshake()
                time.sleep(APART + random.random() * 0.3)
            steps.exporter.kill()
            steps.first.handshake()
            time.sleep(APART)
            steps.exporter.start()
            # Some are killed before they have taken over.
            if number % 2:
                steps.exporter.wait_ready(60)
        steps.exporter.wait_ready(60)
        steps.expect(steps.first.site, "success", 6 * 4)
        steps.check("handshakes while the exporter was killed", GIVEN_UP + 12)

    # ---- the host is responder

    def host_responds(self, steps: Stage) -> None:
        for confirm_after in (0, LATE, 0, LATE, 0):
            steps.first.handshake(confirm_after)
            time.sleep(APART)
        steps.check_witness(steps.first.site)
        steps.expect(steps.first.site, "success", 5)
        steps.check("five handshakes by the site")

    def nobody_it_knows(self, steps: Stage) -> None:
        for _ in range(4):
            steps.stranger.send(steps.stranger.initiation().message)
            time.sleep(APART)
        steps.stranger.read_for(0.5)
        self.assertFalse(steps.stranger.received, "the host answered a stranger")
        steps.expect(None, "unknown_peer", 4)
        steps.check("four initiations with a key that the host does not know")

    def wrong_mac(self, steps: Stage) -> None:
        """Not made for this host's key: whoever scans the internet for WireGuard sends such."""
        for peer in (steps.first, steps.stranger):
            for _ in range(3):
                peer.send(wireguard_messages.corrupt_mac1(peer.initiation().message))
                time.sleep(APART)
        response = (2).to_bytes(4, "little") + os.urandom(88)
        steps.stranger.send(response)
        steps.expect(None, "invalid_mac", 7)
        steps.check("six initiations and a response with a wrong mac1")

    def seen_before(self, steps: Stage) -> None:
        old = steps.first.handshake()
        time.sleep(APART)
        steps.first.handshake()
        steps.expect(steps.first.site, "success", 2)
        time.sleep(APART)
        steps.first.forget_inbox()
        responses = steps.first.received[wireguard_messages.RESPONSE]
        for _ in range(3):
            steps.first.send(old.message)
            time.sleep(APART)
        steps.first.read_for(0.5)
        self.assertEqual(
            steps.first.received[wireguard_messages.RESPONSE], responses, "the host answered a replay"
        )
        steps.expect(steps.first.site, "replay", 3)
        steps.check("an initiation three times again, byte for byte")

    def never_confirmed(self, steps: Stage) -> None:
        for _ in range(2):
            steps.first.begin()
            time.sleep(APART)
        steps.expect(steps.first.site, "timeout", 2)
        steps.check("two responses that nobody confirmed", GIVEN_UP + 4)
        time.sleep(APART)
        steps.first.handshake()
        steps.expect(steps.first.site, "success")
        steps.check("a handshake after those")

    # ---- the host is initiator

    def host_begins(self, steps: Stage) -> None:
        for after in (0, LATE):
            steps.second.answer(steps.make_host_ask(), after)
            steps.check_witness(steps.second.site)
            steps.expect(steps.second.site, "success")
            steps.check("a handshake by the host")
        steps.make_host_ask()  # the first of two that get no answer
        steps.second.wait_for(INITIATION, 8)
        steps.second.answer(steps.second.wait_for(INITIATION, 8))
        steps.expect(steps.second.site, "timeout", 2)
        steps.expect(steps.second.site, "success")
        steps.check("two initiations by the host without an answer, the third with one", GIVEN_UP)

    def host_is_told_to_come_again(self, steps: Stage) -> None:
        cookie = steps.second.reply_with_cookie(steps.make_host_ask())
        again = steps.second.wait_for(INITIATION, 8)
        self.assertTrue(wireguard_messages.has_mac2(again, cookie), "WireGuard did not take the cookie")
        steps.second.answer(again)
        steps.expect(steps.second.site, "cookie_reply")
        steps.expect(steps.second.site, "success")
        steps.check("a cookie reply to the host, and the handshake with that cookie")

    # ---- load

    def host_under_load(self, steps: Stage) -> None:
        """Under load WireGuard answers with cookies; a site that comes with one is let in."""
        size = BURST[steps.world.host.interface.implementation]
        steps.first.forget_inbox()
        burst = [wireguard_messages.nobodys_initiation(steps.stranger.host_public) for _ in range(size)]
        cookies_before = steps.first.received[COOKIE_REPLY] + steps.stranger.received[COOKIE_REPLY]
        backlog_before = backlog_drops()
        with held_back(steps.world):
            steps.stranger.send_burst(burst)
        try:
            cookie = steps.first.cookie_after_initiation()
            second_try = steps.first.initiation(cookie)
            _, session = steps.first.begin(second_try)
            steps.first.send(session.data())
            steps.expect(steps.first.site, "success")
        except NoAnswer as error:
            raise AssertionError(f"the host could not be brought under load: {error}") from error
        finally:
            steps.stranger.read_until_quiet()
        steps.first.read_until_quiet(0.3)
        self.assertEqual(steps.stranger.lost() + steps.first.lost(), 0, "the test's own socket lost replies")
        self.assertEqual(backlog_drops(), backlog_before, "the test's own packets were lost on their way")
        cookies = steps.first.received[COOKIE_REPLY] + steps.stranger.received[COOKIE_REPLY] - cookies_before
        self.assertGreater(cookies, size // 10, f"hardly under load: {steps.stranger}")
        print(f"    {cookies} cookie replies to {size + 1} initiations", flush=True)
        steps.expect(None, "cookie_reply", cookies)
        steps.expect(None, "unknown_peer", size + 1 - cookies)
        steps.check(f"{size} initiations at once", 20)
        if steps.mode == "module":
            self.too_often(steps)

    def too_often(self, steps: Stage) -> None:
        """Who has a cookie may come 20 times a second; the rest of a flood is refused before it is looked at."""
        size = BURST[steps.world.host.interface.implementation]
        burst = [wireguard_messages.nobodys_initiation(steps.stranger.host_public) for _ in range(size)]
        flooder = steps.peer(steps.first.site, Keys.generate())  # with a socket that is not full of cookies
        flood = [flooder.initiation().message[:-16] for _ in range(40)]
        cookies_before = steps.stranger.received[COOKIE_REPLY]
        steps.stranger.send_burst(burst)
        cookie = flooder.cookie_after_initiation()  # it lasts for a second
        flooder.send_burst([message + wireguard_messages.mac_of(cookie, message) for message in flood])
        steps.stranger.read_until_quiet()
        flooder.read_for(0.5)
        self.assertEqual(
            flooder.received[COOKIE_REPLY], 1, f"the host did not take its own cookie: {flooder}"
        )
        cookies = steps.stranger.received[COOKIE_REPLY] - cookies_before
        before = steps.results.expected[NOBODY, "unknown_peer"]
        steps.expect(None, "cookie_reply", cookies + 1)

        def refused() -> bool:
            found = steps.results.found()
            limited = found.get((NOBODY, "rate_limited"), 0)
            unknown = found.get((NOBODY, "unknown_peer"), 0) - before
            looked_at = size - cookies  # of the burst: before it was load
            assert limited + unknown == looked_at + len(flood), (
                f"{limited} rate limited and {unknown} unknown are not {looked_at} + {len(flood)}: {flooder}"
            )
            assert limited >= len(flood) // 2, (
                f"only {limited} of {len(flood)} were refused, or the host was no longer under load: {flooder}"
            )
            steps.results.expected[NOBODY, "rate_limited"] = limited
            steps.results.expected[NOBODY, "unknown_peer"] = found[NOBODY, "unknown_peer"]
            return True

        wait_for("a flood with a valid cookie is rate limited", refused, timeout=12)
        print(f"    {steps.results.expected[NOBODY, 'rate_limited']} of {len(flood)} refused", flush=True)
        steps.check("a flood with a valid cookie")

    # ---- how long they took

    def check_latencies(self, steps: Stage) -> None:
        """One latency for each success, and each in its place."""
        for site, truth in ((steps.first.site, "as_responder"), (steps.second.site, "as_initiator")):
            with self.subTest(site=site.nice_id, mode=steps.mode):
                grown = steps.latency(site) - steps.latency_before[site.nice_id]
                values = getattr(steps.underlay[site.nice_id], truth)(steps.started)
                wrong = grown.misplaced(values, 0.002 * harness.SLOWNESS)
                self.assertFalse(
                    wrong, f"{wrong}; on the cable {[round(v, 4) for v in sorted(values)]}, counted {grown}"
                )
                self.assertEqual(grown.count, steps.results.expected[site.nice_id, "success"])
                self.assertLess(abs(grown.sum - sum(values)), 0.002 * harness.SLOWNESS * len(values), grown)


if __name__ == "__main__":
    harness.main()
