#!/usr/bin/env python3
"""Pangolin's control plane, as the exporter sees it, against the log of a server of Pangolin's shape: every request,
WebSocket and message that the server says it had, and nothing else."""

from __future__ import annotations

import contextlib
from collections import Counter

import harness
from harness import Exporter, wait_for
from lab.outside import CONTAINER_LINK, add_container
from lab.world import World
from pangolin_server import EXTERNAL, INTEGRATION, INTERNAL, NEXT, Client, PangolinServer, run_newt

TAG = "control"
SECRET = "pl4nted-s3cret-0f-the-test"

# Method, path, the route that it is, and the answers to ask for.
EXTERNAL_REQUESTS = [
    ("GET", "/api/v1/site/17", "/api/v1/site/:id", (200, 404)),
    ("GET", "/api/v1/org/acme/site/brave-pangolin", "/api/v1/org/:id/site/:id", (200,)),
    ("POST", "/api/v1/resource/3", "/api/v1/resource/:id", (200, 403)),
    ("DELETE", "/api/v1/target/9", "/api/v1/target/:id", (200,)),
    ("PUT", "/api/v1/org/acme/resource", "/api/v1/org/:id/resource", (201, 400)),
    ("HEAD", "/api/v1/site/17", "/api/v1/site/:id", (200,)),
    ("OPTIONS", "/api/v1/site/17", "/api/v1/site/:id", (204,)),
    ("GET", "/api/v1/../../etc/passwd", "other", (404,)),
    ("GET", f"/{SECRET}", "other", (404,)),
    ("GET", f"/api/v1/auth/device-web-auth/poll/{SECRET}", "/api/v1/auth/device-web-auth/poll/:id", (200,)),
]
SIGN_INS = [
    ("/api/v1/auth/login", "password", {200: "success", 202: "challenge", 401: "failure", 500: "error"}),
    ("/api/v1/auth/resource/1/pincode", "pincode", {200: "success", 401: "failure", 429: "failure"}),
    ("/api/v1/auth/resource/1/whitelist", "whitelist", {202: "challenge", 200: "success"}),
    ("/api/v1/auth/idp/1/oidc/validate-callback", "oidc", {201: "success", 502: "error"}),
    ("/api/v1/auth/newt/get-token", "newt", {200: "success", 400: "failure"}),
]


def by(samples, name: str, *labels: str) -> Counter:
    """A family's values that are not 0, by these labels."""
    counts: Counter = Counter()
    for having, value in samples.select(name):
        if value:
            counts[tuple(having.get(label, "") for label in labels)] += value
    return counts


class ControlPlane(harness.LabTest):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.stack = contextlib.ExitStack()
        cls.addClassCleanup(cls.stack.close)
        cls.world = cls.stack.enter_context(World(1, TAG))
        cls.host = cls.world.host.namespace
        cls.server = PangolinServer(add_container(cls.world), str(CONTAINER_LINK[1].ip))
        cls.server.start()
        cls.stack.callback(cls.server.stop)
        # With a database, that would say which tokens there are.
        cls.world.write_sites_yaml(cls.world.state.folder / "sites.yml")
        cls.world.wait_connected(30 * harness.SLOWNESS)

    def setUp(self) -> None:
        self.server.stop()
        self.server.start()
        self.exporter = Exporter(
            {
                "wireguard": {"netns": self.host.name},
                "metadata": {"sites_file": str(self.world.state.folder / "sites.yml"), "refresh": "1s"},
            }
        )
        self.enterContext(self.exporter)
        self.exporter.wait_ready()
        wait_for("Pangolin is observed", lambda: "observing Pangolin" in self.exporter.log())

    def client(self, port: int, outside: bool) -> Client:
        return self.enterContext(contextlib.closing(Client(self.server, port, self.host if outside else None)))

    def settle(self, expected, counted, what: str):
        """Until both agree; events take a moment. Then the one must stay what the other is."""
        wait_for(what, lambda: expected() == counted(self.exporter.scrape()), timeout=10)

    def test_requests_to_the_dashboard(self) -> None:
        expected: Counter = Counter()
        for outside in (True, False):
            client = self.client(EXTERNAL, outside)
            for method, path, route, answers in EXTERNAL_REQUESTS:
                for answer in answers:
                    client.ask(method, path, answer)
                    expected[(route, method, str(answer))] += outside
            pages = self.client(NEXT, outside)
            for path, route in (
                ("/acme/settings/sites", "/:id/settings/sites"),
                ("/_next/static/chunks/main.js", "static"),
            ):
                for size in ("0", "70000"):
                    pages.ask("GET", path, 200, size=size)
                    expected[(route, "GET", "200")] += outside
            self.client(INTERNAL, outside).ask("GET", "/api/v1/idp")
            self.client(EXTERNAL, outside).ask("GET", "/api/v1/")
        expected = +expected
        self.settle(
            lambda: expected,
            lambda samples: by(samples, "pangolin_ui_requests_total", "endpoint", "method", "status"),
            "the dashboard's requests are counted",
        )
        logged = [
            each
            for each in self.server.log()["exchanges"]
            if each["service"] in ("external", "next") and not each["loopback"] and each["path"] != "/api/v1/"
        ]
        self.assertEqual(len(logged), sum(expected.values()))

    def test_sign_ins_on_loopback(self) -> None:
        results, logged = Counter(), 0
        client = self.client(EXTERNAL, outside=False)
        for path, method, answers in SIGN_INS:
            for answer, result in answers.items():
                client.ask("POST", path, answer, secret=SECRET)
                results[(method, result)] += 1
        client.ask("POST", "/api/v1/auth/logout")
        self.settle(
            lambda: results,
            lambda samples: by(samples, "pangolin_auth_requests_total", "auth_method", "result"),
            "sign-ins are counted",
        )
        samples = self.exporter.scrape()
        self.assertEqual(samples.total("pangolin_token_revoked_total"), 1)
        self.assertEqual(
            samples.total("pangolin_token_issued_total"),
            sum(count for (_, result), count in results.items() if result == "success"),
        )
        logged = sum("/auth/" in each["path"] for each in self.server.log()["exchanges"])
        self.assertEqual(logged, sum(results.values()) + 1)
        self.assertEqual(by(samples, "pangolin_ui_requests_total", "endpoint"), Counter())

    def test_durations_and_the_integration_api(self) -> None:
        client = self.client(INTEGRATION, outside=True)
        for delay in (0, 40, 300):
            client.ask("GET", "/v1/org/acme/sites", 200, delay=str(delay))
        client.ask("GET", "/v1/nothing", 404)
        self.settle(
            lambda: Counter({("/v1/org/:id/sites", "GET", "200"): 3, ("other", "GET", "404"): 1}),
            lambda samples: by(
                samples, "pangolin_integration_api_requests_total", "endpoint", "method", "status"
            ),
            "requests to the integration API are counted",
        )
        samples = self.exporter.scrape()
        seconds = samples.value(
            "pangolin_integration_api_duration_seconds_sum", endpoint="/v1/org/:id/sites", method="GET"
        )
        logged = sum(
            each["seconds"] for each in self.server.log()["exchanges"] if each["path"].endswith("/sites")
        )
        self.assertGreater(seconds, 0.340)
        self.assertAlmostEqual(seconds, logged, delta=0.05 * harness.SLOWNESS)

    def test_what_traefik_badger_and_gerbil_ask(self) -> None:
        client = self.client(INTERNAL, outside=True)
        for answer in (200, 200, 500, 200):
            client.ask("GET", "/api/v1/traefik-config", answer)
        self.server.set_traefik_configuration({"http": {"routers": {"1-shop-router": {"rule": "Host(`a`)"}}}})
        client.ask("GET", "/api/v1/traefik-config")
        for valid in ("true", "false", "false"):
            client.ask("POST", "/api/v1/badger/verify-session", 200, valid=valid)
        for answer in (200, 200, 500):
            client.ask("POST", "/api/v1/gerbil/receive-bandwidth", answer)
        for answer in (200, 404, 500):
            client.ask("POST", "/api/v1/gerbil/update-hole-punch", answer)
        self.settle(
            lambda: Counter({("success",): 1, ("rejected",): 1, ("error",): 1}),
            lambda samples: by(samples, "pangolin_holepunch_orchestration_total", "result"),
            "hole punches are counted",
        )
        samples = self.exporter.scrape()
        self.assertEqual(
            by(samples, "pangolin_background_jobs_total", "job_type", "status"),
            Counter(
                {
                    ("provider_sync", "success"): 4,
                    ("provider_sync", "failure"): 1,
                    ("bandwidth_report", "success"): 2,
                    ("bandwidth_report", "failure"): 1,
                }
            ),
        )
        self.assertEqual(samples.value("pangolin_traefik_provider_sync_seconds_count"), 4)
        self.assertEqual(samples.value("pangolin_traefik_provider_errors_total", error_type="http_5xx"), 1)
        self.assertEqual(samples.value("pangolin_config_reloads_total", result="success"), 1)
        self.assertEqual(
            by(samples, "pangolin_session_checks_total", "result"),
            Counter({("allowed",): 1, ("refused",): 2}),
        )

    def test_websockets(self) -> None:
        key = self.world.sites[0].keys.public
        site = self.world.sites[0].nice_id
        for compression in (False, True):
            run_newt(self.server, self.host, token=f"good-{SECRET}", key=key, rounds=20, compression=compression)
        run_newt(self.server, self.host, token=f"good-{SECRET}", key=key, abrupt=True)
        run_newt(self.server, self.host, token=f"good-{SECRET}", kind="olm")
        self.assertEqual(run_newt(self.server, self.host, token=SECRET), {"refused": 401})
        log = self.server.log()
        known = {"newt/nobody-knows-this": "other"}

        def totals(samples) -> dict[str, int]:
            counts: Counter = Counter()
            for (direction, _), count in by(
                samples, "pangolin_ws_messages_total", "direction", "msg_type"
            ).items():
                counts[direction] += count
            return counts

        expected: Counter = Counter()
        for name, count in self.server.log()["frames"].items():
            expected[name.split()[0]] += count
        self.settle(lambda: expected, totals, "messages are counted, each once")

        samples = self.exporter.scrape()
        types = by(samples, "pangolin_ws_messages_total", "direction", "msg_type")
        compressed = sum(count for (_, name), count in types.items() if name == "compressed")
        short = Counter()
        for name, count in log["frames"].items():
            direction, kind = name.split()
            short[(direction, known.get(kind, kind))] += count
        # What refers to an earlier message's content cannot be told, and is said to be so: no more is missing.
        missing = short - types
        self.assertEqual(sum(missing.values()), compressed, (missing, types - short))
        self.assertEqual(types - short, Counter({k: v for k, v in types.items() if k[1] == "compressed"}))
        self.assertGreater(compressed, 0)
        self.assertGreater(types[("egress", "newt/wg/connect")], 0)

        # newt and Pangolin do without the extension: the key that tells the site is not looked for inside of it,
        # and that one waits for its site.
        self.assertEqual(
            by(samples, "pangolin_ws_connections_total", "site_id", "result"),
            Counter({(site, "success"): 2, ("unassigned", "success"): 1, ("unassigned", "unauthorized"): 1}),
        )
        self.settle(
            lambda: Counter(),
            lambda samples: by(samples, "pangolin_ws_active_connections", "site_id"),
            "no WebSocket is open",
        )

    def test_pangolin_is_started_anew(self) -> None:
        self.client(EXTERNAL, outside=True).ask("GET", "/api/v1/site/17")
        self.server.stop()
        wait_for("Pangolin is missed", lambda: "Pangolin is gone" in self.exporter.log())
        self.server.start()
        wait_for("Pangolin is found again", lambda: self.exporter.log().count("observing Pangolin") == 2)
        self.client(EXTERNAL, outside=True).ask("GET", "/api/v1/site/17")
        self.settle(
            lambda: Counter({("/api/v1/site/:id", "GET", "200"): 2}),
            lambda samples: by(samples, "pangolin_ui_requests_total", "endpoint", "method", "status"),
            "requests before and after are counted",
        )

    def tearDown(self) -> None:
        page = self.exporter.get("/metrics")[1]
        self.assertNotIn(SECRET, page)
        self.assertNotIn(SECRET, self.exporter.log())


if __name__ == "__main__":
    harness.main()
