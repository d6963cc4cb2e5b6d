#!/usr/bin/env python3
"""All of Pangolin's 46 metrics from one endpoint: each with the catalogue's type and labels, and with the value that
this test caused. ROWS says for each how it is caused and who else knows the value.

With Traefik where scripts/traefik has built one, else the test dials in its stead.

A real Prometheus scrapes it all, and is asked what the dashboards and the alerting rules ask.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import answers
import harness
import questions
import traffic
from accounts import host_end, site_end
from all_metrics_world import DAY_MS, ROUND_TRIP, AllMetricsWorld, built_traefik
from exposition import Samples
from harness import wait_for
from pangolin_server import EXTERNAL, INTEGRATION, INTERNAL
from prometheus_server import Prometheus
from resource_world import exchange

TAG = "all"
MOVING_SECONDS = 3 * harness.SLOWNESS  # how old what the exporter knows of a clock may be


@dataclass(frozen=True)
class Between:
    least: float
    most: float

    def __contains__(self, value: float) -> bool:
        return self.least <= value <= self.most


@dataclass(frozen=True)
class Durations:
    """A histogram: its count and its sum."""

    count: float | Between
    total: Between


@dataclass(frozen=True)
class Moment:
    """What others say at one time."""

    log: dict  # Pangolin's, since its last start
    transfer: dict[str, tuple[int, int]]  # WireGuard's
    clock: float
    wall: float

    def exchanges(self, path: str, *statuses: int) -> list[dict]:
        return [
            each
            for each in self.log["exchanges"]
            if each["path"].endswith(path) and (not statuses or each["status"] in statuses)
        ]


class Reading:
    """A scrape, and what others said right before and right after it."""

    def __init__(self, stage: AllMetricsWorld, exporter: harness.Exporter) -> None:
        self.stage, self.facts = stage, stage.facts
        self.early = self._moment()
        self.samples = exporter.scrape()
        self.late = self._moment()

    def _moment(self) -> Moment:
        return Moment(self.stage.server.log(), self.stage.transfer(), time.monotonic(), time.time())

    def range(self, of: Callable[[Moment], float], below: float = 0, above: float = 0) -> Between:
        return Between(of(self.early) - below, of(self.late) + above)

    # ---- expectations that several rows share

    def sites(self) -> list[str]:
        return [site.nice_id for site in self.stage.world.sites]

    def tunnels(self) -> dict:
        one, slow, renewed, removed = self.sites()
        return {(site, "wireguard"): 1 for site in (one, slow, renewed)} | {(removed, "wireguard"): 0}

    def visits(self, *parts: str) -> Counter:
        """What nginx served, by these of its words."""
        return Counter(tuple(str(getattr(each, part)) for part in parts) for each in self.stage.nginx.exchanges())

    def web(self) -> tuple[str, str, str]:
        (target,) = self.stage.web.targets
        return target.place.nice_id, self.stage.web.nice_id, target.backend

    def handshakes(self) -> dict:
        times = self.facts.handshakes
        tolerance = 0.005 * harness.SLOWNESS * len(times)
        return {
            (self.sites()[1], "wireguard"): Durations(
                len(times), Between(sum(times) - tolerance, sum(times) + tolerance)
            )
        }

    def logged(self, *paths_and_statuses: tuple, key: tuple = ()) -> dict:
        """A histogram of what Pangolin says that its answers took, as far as its own event loop had time to say so."""

        def exchanges(moment: Moment) -> list[dict]:
            return [
                each for path, *statuses in paths_and_statuses for each in moment.exchanges(path, *statuses)
            ]

        count = self.range(lambda moment: len(exchanges(moment)))
        seconds = self.range(
            lambda moment: sum(each["seconds"] for each in exchanges(moment)),
            below=0.03 * count.most * harness.SLOWNESS,
            above=0.03 * count.most * harness.SLOWNESS,
        )
        return {key: Durations(count, seconds)}

    def polls(self) -> Between:
        return self.range(lambda moment: len(moment.exchanges("/traefik-config", 200)))

    def days_left(self, domain: str) -> Between:
        slack = MOVING_SECONDS / 86400
        end = self.facts.certificates[domain]
        return Between((end - self.late.wall) / 86400 - slack, (end - self.early.wall) / 86400 + slack)


@dataclass(frozen=True)
class Row:
    metric: str
    cause: str
    witness: str
    # By label values, in the catalogue's order: growth since the beginning of counters and histograms, gauges as they are.
    expected: Callable[[Reading], dict]
    # Nothing else of the family may have grown, or be other than 0.
    whole: bool = True
    # The feature without which this host cannot have it, and the test that shows it on one that has.
    needs: tuple[str, str] | None = None


def transferred(reading: Reading) -> dict:
    """Where WireGuard's own count stood still between the two moments, exactly that."""
    expected = {}
    for site, start in reading.facts.transfer.items():
        for part, direction in enumerate(("ingress", "egress")):
            expected[(site, "wireguard", direction)] = Between(
                reading.early.transfer[site][part] - start[part],
                reading.late.transfer[site][part] - start[part],
            )
    return expected


def early_closes(reading: Reading) -> int:
    (target,) = reading.stage.dead.targets
    return reading.stage.newt.counts(target)["accepted"]


def sizes(reading: Reading) -> dict:
    site, _, backend = reading.web()
    sent = sum(each.sent for each in reading.stage.nginx.exchanges())
    return {(backend, site): Durations(sum(reading.visits("method").values()), Between(sent, sent))}


def durations_of_visits(reading: Reading) -> dict:
    """By the visitors' clocks, which see Traefik's part as well."""
    expected = {}
    for (method,), count in reading.visits("method").items():
        seconds = [took for made, _, took in reading.facts.visits if made == method]
        most = sum(seconds)
        expected[(*reading.web(), method)] = Durations(count, Between(most - 0.05 * count * harness.SLOWNESS, most))
    return expected


def jobs(reading: Reading) -> dict:
    blueprints = reading.facts.blueprints
    return {
        ("bandwidth_report", "success"): 2,
        ("bandwidth_report", "failure"): 1,
        ("provider_sync", "success"): reading.polls(),
        ("provider_sync", "failure"): len(reading.late.exchanges("/traefik-config", 404, 500)),
        ("blueprint", "success"): blueprints["success"],
        ("blueprint", "failure"): blueprints["failure"],
    }


def signs_in(reading: Reading) -> dict:
    return {
        ("", "password", "success"): 1,
        ("", "password", "challenge"): 1,
        ("", "password", "failure"): 2,
        (reading.sites()[0], "pincode", "failure"): 1,
    }


def sign_in_durations(reading: Reading) -> dict:
    found = {}
    for method, result, path, statuses in (
        ("password", "success", "/auth/login", (200,)),
        ("password", "challenge", "/auth/login", (202,)),
        ("password", "failure", "/auth/login", (401,)),
        ("pincode", "failure", "/pincode", (401,)),
    ):
        found |= reading.logged((path, *statuses), key=(method, result))
    return found


def frames(reading: Reading) -> dict:
    return {tuple(name.split()): count for name, count in reading.late.log["frames"].items()}


ROWS = (
    Row(
        "pangolin_site_active_sites",
        "four sites dial in, the peer of one is removed",
        "wg show latest-handshakes",
        lambda reading: {
            ("eu",): sum(map(bool, reading.stage.world.host.interface.latest_handshakes().values()))
        },
    ),
    Row(
        "pangolin_site_online",
        "Pangolin takes the third site for offline; its tunnel, and not the fourth's, is up",
        "the database as written; wg show",
        lambda reading: reading.tunnels()
        | {(site, "websocket"): int(site != reading.stage.renewed.nice_id) for site in reading.sites()}
        | {(reading.stage.local.nice_id, "local"): 1},
    ),
    Row(
        "pangolin_site_bandwidth_bytes_total",
        "pings to the second site, which has no other traffic; datagrams to the first",
        "their sizes with IP's, ICMP's and UDP's headers, and the answers that came",
        lambda reading: {
            (reading.sites()[1], direction, "icmp"): reading.facts.ping_bytes for direction in ("ingress", "egress")
        }
        | {(reading.sites()[0], direction, "udp"): reading.facts.datagram_bytes for direction in ("ingress", "egress")},
        whole=False,
    ),
    Row(
        "pangolin_site_uptime_seconds_total",
        "the first two tunnels stay up",
        "the clock",
        lambda reading: {
            (site,): reading.range(lambda moment: moment.clock - reading.facts.begin, MOVING_SECONDS, MOVING_SECONDS)
            for site in reading.sites()[:2]
        },
        whole=False,
    ),
    Row(
        "pangolin_site_connection_drops_total",
        "gerbil removes the fourth site's peer",
        "wg show no longer has it",
        lambda reading: {(reading.sites()[3],): 1},
        whole=False,  # the third has no tunnel between its two keys, which a poll may see or not
    ),
    Row(
        "pangolin_site_handshake_latency_seconds",
        f"the second site dials anew through a line of {1000 * ROUND_TRIP:g} ms",
        "time stamps of a packet socket on the cable",
        Reading.handshakes,
        whole=False,
    ),
    Row(
        "pangolin_resource_requests_total",
        "visitors ask for files that there are, that there are not, and upload one; a dead target answers nothing",
        "nginx's log; newt's count of accepted connections",
        lambda reading: {
            (*reading.web(), *key): count for key, count in reading.visits("method", "status").items()
        }
        | {
            (
                reading.sites()[0],
                reading.stage.dead.nice_id,
                reading.stage.dead.targets[0].backend,
                "GET",
                "none",
            ): Between(1, early_closes(reading))  # newt may close before Traefik has asked
        },
    ),
    Row(
        "pangolin_resource_request_duration_seconds",
        "the same; one answer takes seconds",
        "the visitors' clocks",
        durations_of_visits,
    ),
    Row(
        "pangolin_resource_active_connections",
        "three visitors stay connected to a raw resource, one has sent datagrams",
        "the echo server's own count",
        lambda reading: {
            (reading.sites()[0], reading.stage.stream.nice_id, "tcp"): reading.stage.echo.report()[9000]["active"],
            (reading.sites()[0], reading.stage.datagrams.nice_id, "udp"): 1,
        },
    ),
    Row(
        "pangolin_resource_errors_total",
        "requests to a resource behind which nothing listens",
        "the connections that newt accepted for it",
        lambda reading: {
            (
                reading.sites()[0],
                reading.stage.dead.nice_id,
                reading.stage.dead.targets[0].backend,
                "early_close",
            ): early_closes(reading)
        },
    ),
    Row(
        "pangolin_resource_bandwidth_bytes_total",
        "datagrams of known sizes, each echoed",
        "their sizes with IP's and UDP's headers, and the answers that came",
        lambda reading: {
            (reading.sites()[0], reading.stage.datagrams.nice_id, direction): reading.facts.datagram_bytes
            for direction in ("ingress", "egress")
        },
        whole=False,
    ),
    Row(
        "pangolin_tunnel_up",
        "four tunnels are up, then the peer of one is removed",
        "wg show",
        Reading.tunnels,
    ),
    Row(
        "pangolin_tunnel_reconnects_total",
        "the third site comes back with another key",
        "wg show latest-handshakes has the new key",
        lambda reading: {(reading.sites()[2], "wireguard", "key_change"): 1},
    ),
    Row(
        "pangolin_tunnel_latency_seconds",
        "as the handshakes, on a tunnel that has no TCP",
        "time stamps of a packet socket on the cable",
        Reading.handshakes,
        whole=False,
    ),
    Row(
        "pangolin_tunnel_bytes_total",
        "all that went through the first two tunnels",
        "wg show transfer",
        transferred,
        whole=False,
    ),
    Row(
        "pangolin_wg_handshake_total",
        "the second site dials anew, the third with a new key, and initiations are made up",
        "a packet socket on the cable; the datagrams that were sent",
        lambda reading: {
            (reading.sites()[1], "success"): len(reading.facts.handshakes),
            (reading.sites()[2], "success"): 1,
            ("unassigned", "invalid_mac"): reading.facts.forged,
        },
        whole=False,  # WireGuard itself begins anew after two minutes
    ),
    Row(
        "pangolin_backend_health_status",
        "Pangolin checks two targets and finds one ill; requests show a third to be dead",
        "the database as written; newt's count",
        lambda reading: {
            (reading.web()[2], reading.sites()[0]): 1,
            (reading.stage.ill.targets[0].backend, reading.sites()[0]): 0,
            (reading.stage.dead.targets[0].backend, reading.sites()[0]): 0,
        },
        whole=False,
    ),
    Row(
        "pangolin_backend_connection_errors_total",
        "requests to a resource behind which nothing listens",
        "the connections that newt accepted for it",
        lambda reading: {
            (reading.stage.dead.targets[0].backend, reading.sites()[0], "early_close"): early_closes(reading)
        },
    ),
    Row("pangolin_backend_response_size_bytes", "the visitors' requests", "nginx's log of bytes sent", sizes),
    Row(
        "pangolin_auth_requests_total",
        "sign-ins with a password, one with a PIN to a resource of the first site",
        "the requests that were made",
        signs_in,
    ),
    Row(
        "pangolin_auth_request_duration_seconds",
        "the same; one takes 150 ms",
        "Pangolin's log",
        sign_in_durations,
    ),
    Row(
        "pangolin_auth_active_users",
        "two users have sessions, and four newts",
        "the database as written",
        lambda reading: {("password",): 2, ("newt",): 4},
    ),
    Row(
        "pangolin_auth_failure_reasons_total",
        "the sign-ins that fail",
        "the requests that were made",
        lambda reading: {("invalid_credentials", "password"): 2, ("invalid_code", "pincode"): 1},
    ),
    Row(
        "pangolin_token_issued_total",
        "three sessions are new",
        "the database as written",
        lambda reading: {("password",): 3},
    ),
    Row(
        "pangolin_token_revoked_total",
        "one of them is deleted",
        "the database as written",
        lambda reading: {("logout",): 1},
    ),
    Row(
        "pangolin_token_refresh_total",
        "one of them lives longer",
        "the database as written",
        lambda reading: {("success",): 1},
    ),
    Row(
        "pangolin_ui_requests_total",
        "requests to the dashboard's API from outside of the container",
        "the requests that were made",
        lambda reading: {
            ("/api/v1/site/:id", "GET", "200"): 3,
            ("/api/v1/site/:id", "GET", "404"): 1,
            ("other", "GET", "404"): 1,
        },
    ),
    Row(
        "pangolin_ui_active_sessions",
        "three sessions, one of them deleted",
        "the database as written",
        lambda reading: {(): 2},
    ),
    Row(
        "pangolin_config_reloads_total",
        "Traefik gets a resource more; blueprints are applied, one fails",
        "Traefik's API has loaded it; the database as written",
        lambda reading: {
            ("success",): 1 + reading.facts.blueprints["success"],
            ("failure",): reading.facts.blueprints["failure"],
        },
    ),
    Row("pangolin_restart_count_total", "Pangolin is started anew", "its process", lambda reading: {(): 1}),
    Row(
        "pangolin_background_jobs_total",
        "gerbil reports, Traefik polls, blueprints are applied",
        "Pangolin's log; the database as written",
        jobs,
    ),
    Row(
        "pangolin_certificates_expiry_days",
        "acme.json has a certificate for a resource of the local site",
        "openssl x509 -enddate",
        lambda reading: {
            (reading.stage.local.nice_id, reading.stage.secure.nice_id): reading.days_left(
                reading.stage.secure.full_domain
            )
        },
    ),
    Row(
        "pangolin_ws_connections_total",
        "newt opens its WebSocket; another's token is refused",
        "Pangolin's log",
        lambda reading: {
            (reading.sites()[0], "success"): reading.late.log["connections"].count("success"),
            ("unassigned", "unauthorized"): reading.late.log["connections"].count("unauthorized"),
        },
    ),
    Row(
        "pangolin_ws_active_connections",
        "newt's stays open",
        "the socket",
        lambda reading: {(reading.sites()[0],): 1},
    ),
    Row("pangolin_ws_messages_total", "newt registers and is answered", "Pangolin's log", frames),
    Row(
        "pangolin_traefik_provider_sync_seconds",
        "Traefik polls; one answer takes 300 ms",
        "Pangolin's log",
        lambda reading: reading.logged(("/traefik-config", 200)),
    ),
    Row(
        "pangolin_traefik_provider_errors_total",
        "Pangolin answers with errors",
        "Pangolin's log",
        lambda reading: {
            ("http_5xx",): len(reading.late.exchanges("/traefik-config", 500)),
            ("http_4xx",): len(reading.late.exchanges("/traefik-config", 404)),
        },
    ),
    Row(
        "pangolin_plugin_fetch_total",
        "Traefik starts without the Internet",
        "Traefik's log",
        lambda reading: {("badger", "failure"): reading.stage.proxy.plugin_failures()},
    ),
    Row(
        "pangolin_acme_cert_events_total",
        "acme.json: one certificate is renewed, one is new, one is gone",
        "the file as written",
        lambda reading: {
            ("web.lab.example", "renewed"): 1,
            (reading.stage.secure.full_domain, "issued"): 1,
            ("old.lab.example", "removed"): 1,
        },
    ),
    Row(
        "pangolin_acme_cert_expiry_days",
        "acme.json has certificates of 90 and 60 days",
        "openssl x509 -enddate",
        lambda reading: {(domain,): reading.days_left(domain) for domain in reading.facts.certificates},
    ),
    Row(
        "pangolin_db_pool_connections",
        "Pangolin has two connections, one of them in a transaction",
        "what it was told to do",
        lambda reading: {("active",): 1, ("idle",): 1},
    ),
    Row(
        "pangolin_db_wait_seconds_total",
        "Pangolin writes while somebody has the database locked for a second",
        "Pangolin's own clock",
        lambda reading: {
            (): Between(reading.facts.database_wait - 0.15, reading.facts.database_wait + 0.05 * harness.SLOWNESS)
        },
        needs=("database_wait", "database_wait_test"),
    ),
    Row(
        "pangolin_integration_api_requests_total",
        "requests to the integration API",
        "the requests that were made",
        lambda reading: {("/v1/org/:id/sites", "GET", "200"): 2, ("other", "GET", "404"): 1},
    ),
    Row(
        "pangolin_integration_api_duration_seconds",
        "the same; one takes 200 ms",
        "Pangolin's log",
        lambda reading: reading.logged(("/sites",), key=("/v1/org/:id/sites", "GET"))
        | reading.logged(("/v1/nothing",), key=("other", "GET")),
    ),
    Row(
        "pangolin_holepunch_orchestration_total",
        "gerbil reports hole punches",
        "the requests that were made",
        lambda reading: {("success",): 2, ("rejected",): 1, ("error",): 1},
    ),
    Row(
        "pangolin_background_queue_depth",
        "an application pushes it with OpenTelemetry's SDK",
        "the application",
        lambda reading: {("rebuild",): reading.facts.queue_depth},
    ),
)


def instruments() -> set[str]:
    """The metrics of the user's document, as MetricsService has them."""
    header = (harness.REPOSITORY / "exporter/metrics_service.h").read_text()
    return {f"pangolin_{name}" for name in re.findall(r"^ *each\(\w+, ([a-z_]+)\)", header, re.MULTILINE)}


class AllMetrics(harness.LabTest):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.stage = cls.enterClassContext(AllMetricsWorld(TAG))
        otlp = f"127.0.0.1:{harness.free_port()}"
        cls.otlp = f"http://{otlp}/v1/metrics"
        cls.exporter = cls.enterClassContext(harness.Exporter(cls.stage.settings(otlp)))
        cls.exporter.wait_ready(60)
        wait_for("Pangolin is observed", lambda: "observing Pangolin" in cls.exporter.log())
        catalogue = subprocess.run(
            [harness.exporter_path, "catalog", "--format", "json"], check=True, capture_output=True, text=True
        ).stdout
        cls.catalogue = {row["name"]: row for row in json.loads(catalogue)}
        # Under two names, as several exporters that know the same sites.
        targets = [f"{name}:{cls.exporter.port}" for name in ("127.0.0.1", "localhost")]
        cls.prometheus = cls.enterClassContext(Prometheus(cls.exporter.folder, targets, [questions.RULES]))
        wait_for("Prometheus scrapes", lambda: cls.prometheus.value('sum(up{job="pangolin"})') == len(targets))
        print(f"    in front of the resources: {'Traefik' if built_traefik() else 'the test'}", flush=True)

    # ---- causes

    def begin(self) -> Samples:
        stage = self.stage
        one, slow = (site.nice_id for site in stage.world.sites[:2])

        def known(samples: Samples) -> bool:
            wanted = (
                samples.value("pangolin_tunnel_up", site_id=slow) == 1,
                samples.value("pangolin_auth_active_users", auth_method="newt") == 4,
                samples.value("pangolin_acme_cert_events_total", domain="old.lab.example", event="removed") == 0,
                samples.value("pangolin_restart_count_total") == 0,
            )
            return all(wanted)

        wait_for("what there is is known", lambda: known(self.exporter.scrape()))

        def quiet() -> Samples | None:
            """A scrape at which WireGuard had counted what the exporter had."""
            reading = Reading(stage, self.exporter)
            same = reading.early.transfer == reading.late.transfer
            stage.facts.transfer, stage.facts.begin = reading.late.transfer, reading.late.clock
            return reading.samples if same else None

        samples = wait_for("a moment without traffic", quiet, every=0.5)
        self.assertIsNotNone(samples.value("pangolin_tunnel_bytes_total", site_id=one, direction="ingress"))
        return samples

    def restart_pangolin(self) -> None:
        self.stage.server.stop()
        self.stage.server.start()
        wait_for("Pangolin is found again", lambda: self.exporter.log().count("observing Pangolin") == 2)

    def visit(self) -> None:
        stage = self.stage

        def fetch(path: str, wanted: int, **options) -> None:
            begin = time.monotonic()
            self.assertEqual(stage.proxy.fetch(stage.web, path, timeout=60 * harness.SLOWNESS, **options), wanted)
            stage.facts.visits.append((options.get("method", "GET"), path, time.monotonic() - begin))

        for path, wanted in (("/small", 200), ("/large", 200), ("/missing", 404), ("/missing", 404)):
            fetch(path, wanted)
        fetch("/upload/a", 201, method="PUT", body=bytes(100_000))
        fetch("/slow/page", 200)
        for _ in range(4):
            self.assertIn(stage.proxy.fetch(stage.dead, "/"), (500, 502))

    def send_datagrams(self, keep: contextlib.ExitStack) -> None:
        made = keep.enter_context(self.stage.proxy.socket(self.stage.datagrams, socket.SOCK_DGRAM))
        for size in (1, 100, 1200):
            made.send(bytes(size))
            self.assertEqual(len(made.recv(65536)), size)
            self.stage.facts.datagram_bytes += 20 + 8 + size

    def ping(self) -> None:
        lengths = [56] * 10 + [1000] * 3
        traffic.echo(host_end(self.stage.world), site_end(self.stage.slow_site), lengths)
        self.stage.facts.ping_bytes = sum(20 + 8 + length for length in lengths)

    def ask_pangolin(self) -> None:
        ask = self.stage.ask
        for answer in (200, 200, 200, 404):
            ask(EXTERNAL, "GET", "/api/v1/site/17", answer)
        ask(EXTERNAL, "GET", "/etc/passwd", 404)
        for answer, delay in ((200, 150), (202, 0), (401, 0), (401, 0)):
            ask(EXTERNAL, "POST", "/api/v1/auth/login", answer, inside=True, delay=str(delay))
        ask(EXTERNAL, "POST", f"/api/v1/auth/resource/{self.stage.web.identity}/pincode", 401, inside=True)
        for answer, delay in ((200, 200), (200, 0)):
            ask(INTEGRATION, "GET", "/v1/org/acme/sites", answer, delay=str(delay))
        ask(INTEGRATION, "GET", "/v1/nothing", 404)
        for answer, delay in ((200, 300), (500, 0), (500, 0), (404, 0)):
            ask(INTERNAL, "GET", "/api/v1/traefik-config", answer, delay=str(delay))
        for answer in (200, 200, 500):
            ask(INTERNAL, "POST", "/api/v1/gerbil/receive-bandwidth", answer)
        for answer in (200, 200, 404, 500):
            ask(INTERNAL, "POST", "/api/v1/gerbil/update-hole-punch", answer)

    def change_database(self) -> None:
        execute = self.stage.execute
        expiry = int(time.time() * 1000) + DAY_MS
        for user in ("a", "b"):
            execute('INSERT INTO "user" ("id", "username", "type") VALUES (?, ?, ?)', user, user, "internal")
        for session, user in (("1", "a"), ("2", "a"), ("3", "b")):
            execute('INSERT INTO "session" ("id", "userId", "expiresAt") VALUES (?, ?, ?)', session, user, expiry)
        for number, succeeded in enumerate((1, 1, 0), 1):
            execute(
                'INSERT INTO "blueprints" ("blueprintId", "orgId", "name", "source", "createdAt", "succeeded", '
                '"contents") VALUES (?, ?, ?, ?, ?, ?, ?)',
                *(number, "home-lab", "b", "API", 0, succeeded, "{}"),
            )
            self.stage.facts.blueprints["success" if succeeded else "failure"] += 1
        wait_for(
            "the sessions are seen",
            lambda: self.exporter.scrape().value("pangolin_token_issued_total", auth_method="password") == 3,
        )
        execute('DELETE FROM "session" WHERE "id" = ?', "1")
        execute('UPDATE "session" SET "expiresAt" = ? WHERE "id" = ?', expiry + DAY_MS, "3")

    def cause_everything(self, keep: contextlib.ExitStack) -> None:
        stage = self.stage
        self.restart_pangolin()
        stage.start_proxy()
        visitor = threading.Thread(target=self.collecting_errors(self.visit))
        visitor.start()
        self.send_datagrams(keep)
        self.ping()
        stage.new_handshakes(4)
        stage.new_key()
        stage.remove_peer()
        stage.forge_initiations(5)
        self.ask_pangolin()
        self.assertIsNone(stage.open_websocket("bad-token"))
        keep.enter_context(stage.open_websocket("good-token"))
        self.change_database()
        stage.change_certificates()
        stage.push(self.otlp, 7)
        visitor.join()
        self.assertFalse(self.errors, self.errors)
        for _ in range(3):
            exchange(keep.enter_context(stage.proxy.socket(stage.stream, socket.SOCK_STREAM)), b"in use")
        stage.plan.http("One more", stage.one.target(8097))
        stage.proxy.reconfigure()
        stage.lock_database(1.0)
        stage.server.database_command("hold")

    def collecting_errors(self, action: Callable[[], None]) -> Callable[[], None]:
        self.errors: list[BaseException] = []

        def run() -> None:
            try:
                action()
            except BaseException as error:
                self.errors.append(error)

        return run

    def check_owners(self, before: Samples) -> None:
        """The application pushed a family that is measured here, too: its samples are counted as turned away."""
        samples, name = self.exporter.scrape(), "pangolin_exporter_application_samples_rejected_total"
        for having, value in samples.select(name):
            # push.py has that counter with three statuses, and pushes when it is told to and at its end.
            expected = 2 * 3 if having["reason"] == "owned_by_exporter" else 0
            self.assertEqual(value - (before.value(name, **having) or 0), expected, having)

    # ---- the verdict

    def complaints(self, row: Row, before: Samples, reading: Reading) -> list[str]:
        entry = self.catalogue[row.metric]
        samples, labels = reading.samples, entry["labels"]
        wrong = []
        if samples.types.get(row.metric) != entry["type"]:
            wrong.append(f"type {samples.types.get(row.metric)} instead of {entry['type']}")
        is_histogram = entry["type"] == "histogram"

        def values(of: Samples, suffix: str = "") -> dict[tuple, float]:
            found = {}
            for having, value in of.select(row.metric + suffix):
                if set(having) != set(labels):
                    wrong.append(f"labels {sorted(having)} instead of {labels}")
                found[tuple(having.get(label, "") for label in labels)] = value
            return found

        def grown(suffix: str = "") -> dict[tuple, float]:
            old = {} if entry["type"] == "gauge" else values(before, suffix)
            return {key: value - old.get(key, 0) for key, value in values(samples, suffix).items()}

        found, sums = grown("_count" if is_histogram else ""), grown("_sum") if is_histogram else {}
        expected = row.expected(reading)
        if not any(expected.values()):
            wrong.append("nothing is expected but 0")
        for key, value in expected.items():
            if key not in found:
                wrong.append(f"{key} is missing")
            elif isinstance(value, Durations):
                if not matches(value.count, found[key]) or not matches(value.total, sums[key]):
                    wrong.append(f"{key}: {value} expected, count {found[key]} sum {sums[key]}")
            elif not matches(value, found[key]):
                wrong.append(f"{key}: {value} expected, {found[key]} found")
        if row.whole:
            wrong += [f"{key}: {value}, which nobody caused" for key, value in found.items() if value and key not in expected]
        return wrong

    def test_all_of_them(self) -> None:
        self.assertEqual({row.metric for row in ROWS}, instruments())
        self.assertEqual(len(ROWS), 46)
        with contextlib.ExitStack() as keep:
            before = self.begin()
            self.cause_everything(keep)
            left = [row for row in ROWS if not self.is_elsewhere(row, before)]

            def wrong() -> str:
                reading = Reading(self.stage, self.exporter)
                found = {row.metric: self.complaints(row, before, reading) for row in left}
                return "\n".join(f"{name}: {'; '.join(each)}" for name, each in found.items() if each)

            # All of them in one scrape, and then in another.
            for patience in (20, 8):
                deadline = time.monotonic() + patience * harness.SLOWNESS
                while (complaints := wrong()) and time.monotonic() < deadline:
                    time.sleep(0.3)
                self.assertFalse(complaints, complaints)
                time.sleep(1)
            self.check_owners(before)
            self.check_dashboards({row.metric for row in ROWS} - {row.metric for row in left})
            self.check_alerts()

    def check_dashboards(self, elsewhere: set[str]) -> None:
        stage = self.stage

        def answered() -> bool:
            self.assertEqual(list(answers.complaints(self.prometheus, elsewhere)), [])
            return True

        wait_for("Prometheus has an answer to each question", answered, 20)
        sites = answers.choices(self.prometheus, "pangolin-site: $site_id")
        world = {site.nice_id: site.name for site in stage.world.sites}
        self.assertEqual({key: sites.get(key) for key in world}, world)
        resources = answers.choices(self.prometheus, "pangolin-resource: $resource_id")
        in_database = stage.plan.resources[:-1]  # the last is made for Traefik alone
        self.assertEqual(resources, {each.nice_id: each.name for each in in_database})

    def check_alerts(self) -> None:
        """What this world deserves, and nothing else."""
        expected = {
            ("PangolinTunnelDead", self.stage.removed.nice_id),
            ("PangolinResourceDown", self.stage.dead.nice_id),
            ("PangolinResourceDown", self.stage.ill.nice_id),
            ("PangolinConfigReloadFailed",),
        }

        def alerted() -> bool:
            self.assertEqual(answers.alerts(self.prometheus), expected)
            return True

        wait_for("the alerts that this world deserves", alerted, 20)
        self.assertEqual(list(answers.rule_complaints(self.prometheus)), [])

    def is_elsewhere(self, row: Row, samples: Samples) -> bool:
        if row.needs is None:
            return False
        feature, where = row.needs
        if samples.value("pangolin_exporter_feature_enabled", feature=feature) == 1:
            return False
        print(f"    {row.metric} cannot be caused here: see {where}", flush=True)
        return True


def matches(expected: float | Between, found: float) -> bool:
    if isinstance(expected, Between):
        return found in expected
    return found == expected


if __name__ == "__main__":
    harness.main()
