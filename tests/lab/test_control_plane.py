#!/usr/bin/env python3
"""Pangolin's control plane, as the exporter sees it, against the log of a server of Pangolin's shape: every request,
WebSocket and message that the server says it had, and nothing else."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections import Counter
from pathlib import Path

import harness
from harness import wait_for
from pangolin_server import EXTERNAL, INTEGRATION, INTERNAL, NEXT, Client, run_newt
from pangolin_world import PangolinTest

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


# The newt of the world's first site.
NEWT = "k3rn3ln3wt0001"


def question(host: str, method: str = "GET", path: str = "/", **more: object) -> dict:
    """What badger asks, in the order of the fields of its VerifyBody."""
    return {
        "sessions": {"p_session_token": SECRET, "host": SECRET, 'p_"host":"evil': SECRET},
        "originalRequestURL": f"https://{host}{path}?token={SECRET}",
        "scheme": "https",
        "host": host,
        "path": path,
        "method": method,
        "tls": True,
        "requestIp": "203.0.113.7:4711",
        "headers": {"Authorization": f"Basic {SECRET}", "host": "nobody.example.com"},
        "query": {"token": SECRET, "host": "nobody.example.com"},
        "badgerVersion": "1.6.1",
    } | more


def by(samples, name: str, *labels: str) -> Counter:
    """A family's values that are not 0, by these labels."""
    counts: Counter = Counter()
    for having, value in samples.select(name):
        if value:
            counts[tuple(having.get(label, "") for label in labels)] += value
    return counts


class ControlPlane(PangolinTest):
    tag = "control"

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.name_newt(cls.sites_file)

    @classmethod
    def name_newt(cls, sites: Path) -> None:
        """Its newt's id."""
        first = cls.world.sites[0]
        lines = []
        for line in sites.read_text().splitlines():
            lines.append(line)
            if line.lstrip("- ").startswith("site_id:") and first.nice_id in line:
                indent = " " * (len(line) - len(line.lstrip("- ")))
                lines.append(f"{indent}newt_id: {NEWT}")
        sites.write_text("\n".join(lines) + "\n")

    def setUp(self) -> None:
        self.server.stop()
        self.server.start()
        self.exporter = self.start_exporter()

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

    def test_requests_that_are_refused(self) -> None:
        site = self.world.sites[0]
        domain = f"web{site.index}.lab.example"
        client = self.client(INTERNAL, outside=True)
        path = "/api/v1/badger/verify-session"
        login = "https://pangolin.example.com/auth/resource/2ab7"
        for method in ("GET", "GET", "POST"):
            client.ask("POST", path, body=question(domain, method), valid="false", redirect=login)
        client.ask("POST", path, body=question(f"{domain.upper()}:8443", "DELETE"), valid="false")
        client.ask("POST", path, 500, body=question(domain, "PROPFIND"), valid="false")
        client.ask("POST", path, body=question(domain), valid="true")
        # Longer than a segment, and than what is read at a time.
        long = question(domain, "PUT") | {"sessions": {f"p_session_{i}": SECRET * 20 for i in range(20)}}
        client.ask("POST", path, body=long, valid="false")
        client.ask("POST", path, body=question("nobody.example.com"), valid="false")
        labels = ("site_id", "resource_id", "backend", "method", "status")
        self.settle(
            lambda: Counter(
                {
                    (site.nice_id, f"{site.nice_id}-web", "", "GET", "302"): 2,
                    (site.nice_id, f"{site.nice_id}-web", "", "POST", "302"): 1,
                    (site.nice_id, f"{site.nice_id}-web", "", "DELETE", "401"): 1,
                    (site.nice_id, f"{site.nice_id}-web", "", "other", "500"): 1,
                    (site.nice_id, f"{site.nice_id}-web", "", "PUT", "401"): 1,
                }
            ),
            lambda samples: by(samples, "pangolin_resource_requests_total", *labels),
            "refused requests are counted",
        )
        self.assertEqual(
            self.exporter.scrape().value(
                "pangolin_exporter_lost_updates_total", map="refused_requests", reason="unknown_resource"
            ),
            1,
        )

    def test_a_token_tells_the_site(self) -> None:
        site = self.world.sites[0].nice_id
        client = self.client(EXTERNAL, outside=True)
        ask = "/api/v1/auth/newt/get-token"
        for newt, answer in ((NEWT, 200), (NEWT, 400), ("somebody-else", 400)):
            client.ask("POST", ask, answer, body={"newtId": newt, "secret": SECRET}, secret=f"good-{SECRET}-1")
        client.ask("POST", ask, body={"secret": SECRET, "newtId": NEWT}, secret=f"{SECRET}-2")
        # No key in its messages: the token alone tells.
        run_newt(self.server, self.host, token=f"good-{SECRET}-1")
        # Issued, but not good any more; and one that nobody knows.
        run_newt(self.server, self.host, token=f"{SECRET}-2")
        run_newt(self.server, self.host, token=f"{SECRET}-3")
        self.settle(
            lambda: Counter({(site, "success"): 1, (site, "unauthorized"): 1, ("unassigned", "unauthorized"): 1}),
            lambda samples: by(samples, "pangolin_ws_connections_total", "site_id", "result"),
            "WebSockets have the site of their token",
        )
        samples = self.exporter.scrape()
        self.assertEqual(
            by(samples, "pangolin_auth_requests_total", "site_id", "auth_method", "result"),
            Counter({(site, "newt", "success"): 2, (site, "newt", "failure"): 1, ("", "newt", "failure"): 1}),
        )
        self.assertEqual(
            samples.value("pangolin_site_handshake_latency_seconds_count", site_id=site, transport="websocket"), 1
        )

    def test_configurations_of_equal_size(self) -> None:
        client = self.client(INTERNAL, outside=True)
        for name in "aabba":
            rule = {"http": {"routers": {"1-shop-router": {"rule": f"Host(`{name}`)"}}}}
            self.server.set_traefik_configuration(rule)
            client.ask("GET", "/api/v1/traefik-config")
        self.settle(
            lambda: Counter({("success",): 2}),
            lambda samples: by(samples, "pangolin_config_reloads_total", "result"),
            "each change is counted",
        )

    def memory(self) -> bytes:
        """Of the exporter: all that it can write to, and the ring of events, which it maps."""
        pid = self.exporter.process.pid
        parts = []
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
            for line in maps:
                begin, end, access = re.match(r"(\w+)-(\w+) (\S+)", line).groups()
                if "r" not in access or "[vvar" in line or "[vsyscall" in line:
                    continue
                if "w" not in access and "bpf" not in line:
                    continue
                with contextlib.suppress(OSError):
                    memory.seek(int(begin, 16))
                    parts.append(memory.read(int(end, 16) - int(begin, 16)))
        return b"".join(parts)

    def kernel_maps(self) -> bytes:
        """The content of all hashes that the exporter has."""
        numbers = set()
        for file in Path(f"/proc/{self.exporter.process.pid}/fdinfo").iterdir():
            numbers |= set(re.findall(r"^map_id:\s*(\d+)$", file.read_text(), re.M))
        parts = []
        for number in numbers:
            dump = subprocess.run(["bpftool", "-j", "map", "dump", "id", number], capture_output=True, text=True)
            # Bytes as "0x70".
            parts.append(bytes(int(byte, 16) for byte in re.findall(r'"0x([0-9a-f]{2})"', dump.stdout)))
        return b"".join(parts)

    def test_nothing_secret_is_kept(self) -> None:
        """Neither in the kernel, while connections stay open, nor in the exporter, nor in what it says."""
        planted = SECRET.encode()
        client = self.client(EXTERNAL, outside=False)
        client.ask("GET", f"/api/v1/auth/device-web-auth/poll/{SECRET}?token={SECRET}", cookie=SECRET)
        client.ask("POST", "/api/v1/auth/login", 401, body={"email": SECRET, "password": SECRET}, secret=SECRET)
        body = {"newtId": NEWT, "secret": SECRET}
        client.ask("POST", "/api/v1/auth/newt/get-token", 200, body=body, secret=f"good-{SECRET}")
        client.ask("GET", f"/{SECRET}", 404)
        internal = self.client(INTERNAL, outside=True)
        redirect = f"https://a.example.com/?{SECRET}"
        internal.ask("POST", "/api/v1/badger/verify-session", body=question("a.example.com"), redirect=redirect)
        # One whose answer does not come meanwhile.
        waiting = self.client(EXTERNAL, outside=False)
        waiting.connection.putrequest("GET", f"/api/v1/site/17?token={SECRET}")
        waiting.connection.putheader("Authorization", f"Bearer {SECRET}")
        waiting.connection.putheader("x-delay", "60000")
        waiting.connection.endheaders()
        run_newt(self.server, self.host, token=f"good-{SECRET}", key=SECRET, rounds=3)
        wait_for(
            "all of it was seen",
            lambda: self.exporter.scrape().value("pangolin_auth_requests_total", auth_method="newt", result="success")
            == 1,
        )
        # What is looked for is found where it is: a site's id, and the path that waits for its answer.
        self.assertTrue(self.world.sites[0].nice_id.encode() in self.memory())
        self.assertTrue(b"/api/v1/site/17" in self.kernel_maps())
        time.sleep(5 * harness.SLOWNESS)
        self.assertFalse(planted in self.kernel_maps(), "in the kernel's maps")
        self.assertFalse(planted in self.memory(), "in the exporter's memory")

    def test_websockets(self) -> None:
        key = self.world.sites[0].keys.public
        site = self.world.sites[0].nice_id
        token = f"good-{SECRET}"
        # Masked one way and not the other, in fragments both ways, without and with permessage-deflate.
        clients = [
            run_newt(self.server, self.host, token=token, key=key, rounds=20, compression=compression)
            for compression in (False, True)
        ]
        clients.append(run_newt(self.server, self.host, token=token, key=key, abrupt=True))
        clients.append(run_newt(self.server, self.host, token=token, kind="olm"))
        self.assertEqual(run_newt(self.server, self.host, token=SECRET), {"refused": 401})
        log = self.server.log()
        for direction, side in (("ingress", "sent"), ("egress", "received")):
            self.assertEqual(
                sum((Counter(client[side]) for client in clients), Counter()),
                Counter(
                    {
                        name.split()[1]: count
                        for name, count in log["frames"].items()
                        if name.startswith(direction) and " ws_" not in name
                    }
                ),
                f"client and server, {direction}",
            )
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
