"""What tests read from /metrics beyond bytes and packets: histograms, outcomes of handshakes, counters that may grow."""

from __future__ import annotations

import collections
import http.client
import math
import threading
import time
from collections.abc import Callable, Sequence

import harness
from exposition import Samples
from harness import wait_for

Counts = collections.Counter[tuple[str, ...]]

# WireGuard's own counters by key, as other WireGuard exporters give them: they begin anew with the interface.
MAY_BEGIN_ANEW = "pangolin_wg_peer_"
WIREGUARD = {"transport": "wireguard"}


class NeverBackwards:
    """Scrapes all the time and insists that no counter ever falls. With `restarts` the exporter may be away at
    times, and what it counts of itself begins anew."""

    def __init__(self, exporter: harness.Exporter, restarts: bool = False) -> None:
        self.exporter = exporter
        self.restarts = restarts
        self.exempt = (MAY_BEGIN_ANEW, "pangolin_exporter_", "process_") if restarts else (MAY_BEGIN_ANEW,)
        self.complaints: list[str] = []
        self.scrapes = 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name="never backwards")

    def _run(self) -> None:
        highest: dict = {}
        while not self.stopping.wait(0.2):
            try:
                counters = self.exporter.scrape().counters()
            except (AssertionError, OSError, RuntimeError, AttributeError, http.client.HTTPException) as error:
                if self.restarts:
                    continue
                self.complaints.append(f"a scrape failed: {error}")
                continue
            self.scrapes += 1
            for key, value in counters.items():
                if value < highest.get(key, 0) and not key[0].startswith(self.exempt):
                    self.complaints.append(f"{key[0]}{dict(key[1])} fell from {highest[key]} to {value}")
                highest[key] = value

    def __enter__(self) -> NeverBackwards:
        self.thread.start()
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        self.stopping.set()
        self.thread.join()
        if error_type is None:
            assert not self.complaints, "\n".join(self.complaints[:10])
            assert self.scrapes > 0, "it never looked"


class Histogram:
    """One series of a histogram; without samples it is empty."""

    def __init__(self, cumulative: dict[float, float], total: float = 0) -> None:
        self.cumulative = dict(sorted(cumulative.items()))
        self.sum = total

    @classmethod
    def of(cls, samples: Samples, name: str, **labels: str) -> Histogram:
        cumulative = {
            float(found["le"].replace("Inf", "inf")): value
            for found, value in samples.select(f"{name}_bucket", **labels)
        }
        count = samples.value(f"{name}_count", **labels) or 0
        assert cumulative.get(math.inf, 0) == count, f"{name}_count is {count}, the last bucket is not"
        return cls(cumulative, samples.value(f"{name}_sum", **labels) or 0)

    def __sub__(self, other: Histogram) -> Histogram:
        return Histogram(
            {bound: value - other.cumulative.get(bound, 0) for bound, value in self.cumulative.items()},
            self.sum - other.sum,
        )

    @property
    def count(self) -> float:
        return self.cumulative.get(math.inf, 0)

    def quantile(self, quantile: float) -> float:
        """As PromQL's histogram_quantile: linear within the bucket."""
        rank, lower, below = quantile * self.count, 0.0, 0.0
        for bound, up_to in self.cumulative.items():
            if up_to >= rank and up_to > below:
                if bound == math.inf:
                    return lower
                return lower + (bound - lower) * (rank - below) / (up_to - below)
            lower, below = bound, up_to
        return math.nan

    def misplaced(self, truth: Sequence[float], tolerance: float) -> list[str]:
        """What is wrong with it if these were the values, each known to within `tolerance`; empty for nothing."""
        complaints = []
        if self.count != len(truth):
            complaints.append(f"{self.count} values instead of {len(truth)}")
        for bound, up_to in self.cumulative.items():
            least = sum(value + tolerance <= bound for value in truth)
            most = sum(value - tolerance <= bound for value in truth)
            if not least <= up_to <= most:
                complaints.append(f"{up_to} values up to {bound}, expected {least} to {most}")
        return complaints

    def __str__(self) -> str:
        lower, below, parts = 0.0, 0.0, []
        for bound, up_to in self.cumulative.items():
            if up_to != below:
                parts.append(f"{up_to - below:g} in ({lower:g}, {bound:g}]")
            lower, below = bound, up_to
        return f"{self.count:g} values, sum {self.sum:.6f}: " + (", ".join(parts) or "none")


def counts_of(samples: Samples, name: str, *labels: str) -> Counts:
    """All series of a counter by the values of these labels; those that are zero are left out."""
    counts: Counts = collections.Counter()
    for found, value in samples.select(name):
        counts[tuple(found[label] for label in labels)] += value
    return +counts


def grown(after: Counts, before: Counts) -> dict[tuple[str, ...], float]:
    return {
        key: after[key] - before[key] for key in after.keys() | before.keys() if after[key] != before[key]
    }


def compare(expected: dict, found: dict) -> str:
    """A table of what differs; empty when nothing does."""
    return "\n".join(
        f"  {' '.join(key)}: expected {expected.get(key, 0):g}, counted {found.get(key, 0):g}"
        for key in sorted(expected.keys() | found.keys())
        if expected.get(key, 0) != found.get(key, 0)
    )


class Tally:
    """A counter family since the tally was made, against what should have happened.

    Expectations add up, so that what grows without being expected is found by the next check at the latest.
    """

    def __init__(self, exporter: harness.Exporter, name: str, *labels: str) -> None:
        self.exporter, self.name, self.labels = exporter, name, labels
        self.start = self.read()
        self.expected: Counts = collections.Counter()

    def read(self) -> Counts:
        return counts_of(self.exporter.scrape(), self.name, *self.labels)

    def found(self) -> dict:
        return grown(self.read(), self.start)

    def expect(self, *key: str, count: float = 1) -> None:
        self.expected[key] += count

    def difference(self) -> str:
        return compare(self.expected, self.found())

    def check(self, what: str, timeout: float = 12, explain: Callable[[], object] = lambda: "") -> None:
        """Waits until all that was expected is counted, and nothing else."""
        try:
            wait_for(what, lambda: not self.difference(), timeout, every=0.3)
        except AssertionError as error:
            raise AssertionError(
                f"{what}: {self.name} is wrong\n{self.difference()}\n  {explain()}"
            ) from error

    def check_stays(self, what: str, seconds: float) -> None:
        time.sleep(seconds * min(harness.SLOWNESS, 2))
        difference = self.difference()
        assert not difference, f"{what}: {self.name} was right and then went on\n{difference}"


def feature_enabled(samples: Samples, feature: str) -> bool:
    return samples.value("pangolin_exporter_feature_enabled", feature=feature) == 1


def no_updates_lost(samples: Samples) -> list[str]:
    return [
        f"{labels}: {value}"
        for labels, value in samples.select("pangolin_exporter_lost_updates_total")
        if value
    ]
