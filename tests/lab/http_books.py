"""What the exporter, Traefik and the backend have of a resource's HTTP exchanges, in one shape."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from lab.resources import Resource

if TYPE_CHECKING:
    import harness
    from mix_world import MixWorld

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
Requests = Counter  # by method and status; 0 where none came


@dataclass
class Durations:
    """A histogram of one or several families' `le`, cumulated, and its sum."""

    buckets: Counter = field(default_factory=Counter)
    sum: float = 0
    count: int = 0

    def __sub__(self, other: Durations) -> Durations:
        buckets = Counter({bound: count - other.buckets[bound] for bound, count in self.buckets.items()})
        return Durations(buckets, self.sum - other.sum, self.count - other.count)

    def outside(self, lowest: Sequence[float], highest: Sequence[float]) -> int:
        """How many are not where values between these, taken in their order, would be."""
        low, high = sorted(lowest), sorted(highest)
        wrong = 0
        for bound, count in self.buckets.items():
            most, least = bisect.bisect_right(low, bound), bisect.bisect_right(high, bound)
            wrong = max(wrong, count - most, least - count)
        return wrong


@dataclass
class Totals:
    """Of one witness. What it does not know is 0."""

    requests: Requests = field(default_factory=Counter)
    responses: int = 0
    response_bytes: int = 0
    request_bytes: int = 0
    body: int = 0
    received_body: int = 0
    durations: Durations | list[float] = field(default_factory=Durations)

    def __sub__(self, other: Totals) -> Totals:
        requests = Counter(self.requests)
        requests.subtract(other.requests)
        changed = {
            each.name: getattr(self, each.name) - getattr(other, each.name)
            for each in fields(self)
            if each.name not in ("requests", "durations")
        }
        durations = (
            self.durations[len(other.durations) :]
            if isinstance(self.durations, list)
            else self.durations - other.durations
        )
        return Totals(+requests, durations=durations, **changed)


@dataclass
class Books:
    exporter: Totals
    traefik: Totals
    backend: Totals
    backend_entries: int = 0

    def __sub__(self, other: Books) -> Books:
        return Books(
            self.exporter - other.exporter,
            self.traefik - other.traefik,
            self.backend - other.backend,
            self.backend_entries - other.backend_entries,
        )


def folded(requests: Requests) -> Requests:
    """As the exporter labels them."""
    found: Requests = Counter()
    for (method, status), count in requests.items():
        found[(method if method in METHODS else "other", str(status) if status else "none")] += count
    return found


def as_traefik_counts(requests: Requests) -> Requests:
    found: Requests = Counter()
    for (method, status), count in requests.items():
        found[(method if method in METHODS else "EXTENSION_METHOD", 0 if status == 101 else status)] += count
    return found


def read(stage: MixWorld, exporter: harness.Exporter, resource: Resource, durations: bool = True) -> Books:
    """Traefik's durations are in its access log, which must be whole for them."""
    entries = stage.book(resource)
    traefik = of_traefik(stage, resource)
    if durations:
        traefik.durations = durations_of_traefik(stage, resource)
    return Books(of_exporter(exporter, resource), traefik, of_backend(entries), len(entries))


def of_exporter(exporter: harness.Exporter, resource: Resource) -> Totals:
    samples = exporter.scrape()
    (target,) = resource.targets
    totals = Totals()
    for having, value in samples.select("pangolin_resource_requests_total", resource_id=resource.nice_id):
        totals.requests[(having["method"], having["status"])] += int(value)
    family = "pangolin_resource_request_duration_seconds"
    for having, value in samples.select(f"{family}_bucket", resource_id=resource.nice_id):
        totals.durations.buckets[float(having["le"])] += value
    totals.durations.sum = samples.total(f"{family}_sum", resource_id=resource.nice_id)
    totals.durations.count = samples.total(f"{family}_count", resource_id=resource.nice_id)
    family = "pangolin_backend_response_size_bytes"
    totals.responses = samples.total(f"{family}_count", backend=target.backend)
    totals.response_bytes = samples.total(f"{family}_sum", backend=target.backend)
    return totals


def of_traefik(stage: MixWorld, resource: Resource) -> Totals:
    totals = Totals(durations=[])
    for having, value in stage.traefik.service_samples(resource.service, "traefik_service_requests_total"):
        totals.requests[(having["method"], int(having["code"]))] += int(value)
    counts = stage.traefik.service_counts(resource.service)
    totals.response_bytes = int(counts["response_bytes"])
    totals.request_bytes = int(counts["request_bytes"])
    return totals


def durations_of_traefik(stage: MixWorld, resource: Resource) -> list[float]:
    """Of those that had a whole answer, which was neither an upgrade nor a stream of events (told by the path)."""
    return [
        line["OriginDuration"] / 1e9
        for line in stage.traefik.logged()
        if line.get("ServiceName") == f"{resource.service}@http"
        and line.get("OriginStatus", 0) not in (0, 499)
        and "how=events" not in line["RequestPath"]
        and "how=vanish" not in line["RequestPath"]
    ]


def of_backend(entries: list[dict]) -> Totals:
    totals = Totals()
    for entry in entries:
        totals.requests[(entry["method"], entry["status"])] += 1
        totals.response_bytes += entry["sent"] - entry["interim"]
        totals.body += entry["body"]
        totals.received_body += entry["received_body"]
    return totals
