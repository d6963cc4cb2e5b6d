#!/usr/bin/env python3
"""--web.config.file: TLS, clients' certificates, users, and that no client can use them to harm the endpoint.

    sudo python3 tests/web/test_web_config.py [--exporter build/pangolin_exporter]
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))

import harness  # noqa: E402
from http_client import connect, exchange, receive_all, status_of  # noqa: E402

# Of "secret".
HASH = "$2y$10$abcdefghijklmnopqrstuuqflPDzB6gcMhKa1rZqKiun2YGL5sa2u"
GET_HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
# The endpoint alone: nothing to attach to.
SETTINGS = {"wireguard": {"netns": "host", "interfaces": ["pangolinweb0"]}, "http": {"enabled": False}}
QUICK = 0.2


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Authority:
    """Makes certificates in a folder: NAME.pem and NAME.key."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", f"/CN={name}", "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem",
        )  # fmt: skip

    def issue(self, name: str, *alternative_names: str) -> None:
        request, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
            "-keyout", self.folder / f"{name}.key", "-out", request,
        )  # fmt: skip
        extensions.write_text(f"subjectAltName={','.join(alternative_names)}\n")
        openssl(
            "x509", "-req", "-days", "2", "-in", request, "-extfile", extensions, "-CAcreateserial",
            "-CA", self.folder / f"{self.name}.pem", "-CAkey", self.folder / f"{self.name}.key",
            "-out", self.folder / f"{name}.pem",
        )  # fmt: skip


class WebConfigTest(harness.LabTest):
    folder: Path

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="pangolin_exporter-web.")))
        authority = Authority(cls.folder, "authority")
        authority.issue("server", "DNS:localhost", "IP:127.0.0.1")
        authority.issue("renewed", "DNS:localhost", "IP:127.0.0.1")
        authority.issue("prometheus", "DNS:prometheus.example", "IP:192.0.2.1")
        authority.issue("visitor", "DNS:visitor.example")
        Authority(cls.folder, "stranger").issue("unknown", "DNS:prometheus.example")

    @contextlib.contextmanager
    def serving(self, config: dict):  # noqa: ANN201
        """The exporter with that web configuration, which JSON writes as YAML."""
        path = self.folder / "web.yml"
        path.write_text(json.dumps(config))
        with harness.Exporter(SETTINGS, arguments=[f"--web.config.file={path}"]) as exporter:
            harness.wait_for("it listens", lambda: connect(exporter.port).close() or True)
            yield exporter

    def replace(self, config: dict | str) -> None:
        text = config if isinstance(config, str) else json.dumps(config)
        (self.folder / "web.new").write_text(text)
        os.rename(self.folder / "web.new", self.folder / "web.yml")

    def client(self, certificate: str | None = None, **versions: ssl.TLSVersion) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.folder / "authority.pem"))
        for name, version in versions.items():
            setattr(context, name, version)
        if certificate:
            context.load_cert_chain(self.folder / f"{certificate}.pem", self.folder / f"{certificate}.key")
        return context

    def ask(
        self, port: int, context: ssl.SSLContext | None, request: bytes = GET_HEALTH, password: str | None = None
    ) -> tuple[int | None, bytes]:
        """Status and answer; None when TLS did not come about."""
        if password is not None:
            credentials = base64.b64encode(f"prometheus:{password}".encode())
            request = request[:-2] + b"Authorization: Basic " + credentials + b"\r\n\r\n"
        try:
            with contextlib.ExitStack() as stack:
                connection = stack.enter_context(connect(port))
                if context:
                    connection = stack.enter_context(context.wrap_socket(connection, server_hostname="localhost"))
                connection.sendall(request)
                answer = receive_all(connection)
                return status_of(answer), answer
        except (ssl.SSLError, ConnectionError):
            return None, b""

    def value(self, port: int, name: str, context: ssl.SSLContext | None, password: str | None = None) -> float:
        request = GET_HEALTH.replace(b"/healthz HTTP/1.1", b"/metrics HTTP/1.0")
        _, answer = self.ask(port, context, request, password)
        return next(float(line.split()[1]) for line in answer.decode().splitlines() if line.startswith(name + " "))


TLS = {"cert_file": "server.pem", "key_file": "server.key"}
CLIENTS = {"client_ca_file": "authority.pem"}


class Verdicts(WebConfigTest):
    def test_as_promtool(self) -> None:
        """Each file is right or wrong as for the exporter-toolkit itself, which promtool has."""
        pem = {name: (self.folder / name).read_text() for name in ("server.pem", "server.key")}
        (self.folder / "empty.pem").write_text("")
        rows: list[tuple[object, bool]] = [
            ({}, True),
            ({"tls_server_config": TLS}, True),
            ({"tls_server_config": {**TLS, "cert_file": str(self.folder / "server.pem")}}, True),
            ({"tls_server_config": {**TLS, "key_file": "renewed.key"}}, False),
            ({"tls_server_config": {**TLS, "cert_file": "absent.pem"}}, False),
            ({"tls_server_config": {**TLS, "cert_file": "empty.pem"}}, False),
            ({"tls_server_config": {**TLS, "key_file": "server.pem"}}, False),
            ({"tls_server_config": {"cert_file": "server.pem"}}, False),
            ({"tls_server_config": {"key_file": "server.key"}}, False),
            ({"tls_server_config": {**TLS, "certificate": "x"}}, False),
            ({"tls_server_config": {**TLS, "min_version": "TLS13"}}, True),
            ({"tls_server_config": {**TLS, "min_version": "TLS10"}}, True),
            ({"tls_server_config": {**TLS, "min_version": "1.3"}}, False),
            ({"tls_server_config": {**TLS, "curve_preferences": ["X25519", "CurveP521"]}}, True),
            ({"tls_server_config": {**TLS, "curve_preferences": ["P-256"]}}, False),
            ({"tls_server_config": {**TLS, "cipher_suites": ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]}}, True),
            ({"tls_server_config": {**TLS, "cipher_suites": ["ECDHE-RSA-AES128-GCM-SHA256"]}}, False),
            ({"tls_server_config": {**TLS, "prefer_server_cipher_suites": False}}, True),
            ({"tls_server_config": {**TLS, **CLIENTS, "client_auth_type": "RequireAndVerifyClientCert"}}, True),
            ({"tls_server_config": {**TLS, **CLIENTS, "client_auth_type": "VerifyClientCertIfGiven"}}, True),
            ({"tls_server_config": {**TLS, "client_auth_type": "RequestClientCert"}}, True),
            ({"tls_server_config": {**TLS, "client_auth_type": "RequireClientCert"}}, True),
            ({"tls_server_config": {**TLS, "client_auth_type": "Always"}}, False),
            ({"tls_server_config": {**TLS, **CLIENTS}}, False),
            ({"tls_server_config": {**TLS, "client_ca_file": "absent", "client_auth_type": "RequestClientCert"}}, False),
            ({"basic_auth_users": {"a": HASH}}, True),
            ({"basic_auth_users": {"a": "secret"}}, False),
            ({"basic_auth_users": {"a": HASH, "b": "$2y$99$" + HASH[7:]}}, False),
            ({"http_server_config": {"http2": False}}, True),
            ({"http_server_config": {"http3": False}}, False),
            ({"http_server_config": {"headers": {"X-Frame-Options": "deny"}}}, True),
            ({"http_server_config": {"headers": {"X-Frame-Options": "never"}}}, False),
            ({"http_server_config": {"headers": {"X-Content-Type-Options": "nosniff", "X-XSS-Protection": "1"}}}, True),
            ({"http_server_config": {"headers": {"Server": "x"}}}, False),
            ({"basic_auth": {}}, False),
            ("tls_server_config: [\n", False),
        ]  # fmt: skip
        # Where this exporter differs. Neither promtool of Debian 12 nor its toolkit has the first three yet; TLS settings
        # without a certificate mean an open endpoint there, and a list of authorities that holds none locks out everybody.
        ours: list[tuple[object, bool]] = [
            ({"tls_server_config": {"cert": pem["server.pem"], "key": pem["server.key"]}}, True),
            ({"rate_limit": {"interval": "1s", "burst": 3}}, True),
            ({"rate_limit": {"interval": "1s", "burst": 0}}, False),
            ({"tls_server_config": {"min_version": "TLS13"}}, False),
            ({"tls_server_config": {**TLS, "client_ca_file": "empty.pem", "client_auth_type": "RequireAnyClientCert"}}, False),
            ({"tls_server_config": {**TLS, "min_version": "TLS13", "max_version": "TLS12"}}, False),
        ]  # fmt: skip
        path = self.folder / "web.yml"
        settings = self.folder / "config.yml"
        settings.write_text(json.dumps({"metrics": SETTINGS}))
        for number, (content, good) in enumerate(rows + ours):
            with self.subTest(content=content):
                path.write_text(content if isinstance(content, str) else json.dumps(content))
                if number < len(rows) and shutil.which("promtool"):
                    witness = subprocess.run(["promtool", "check", "web-config", str(path)], capture_output=True)
                    self.assertEqual(witness.returncode == 0, good, witness.stderr)
                check = subprocess.run(
                    [harness.exporter_path, f"--config.file={settings}", f"--web.config.file={path}", "check"],
                    capture_output=True, text=True, timeout=60,
                )  # fmt: skip
                self.assertEqual(check.returncode != 2, good, check.stderr)
                if not good:
                    self.assertIn("(HINT: ", check.stderr)


class Served(WebConfigTest):
    def test_versions(self) -> None:
        only_12 = {"maximum_version": ssl.TLSVersion.TLSv1_2}
        for limits, tls_12, tls_13 in (
            ({}, 200, 200),
            ({"min_version": "TLS13"}, None, 200),
            ({"max_version": "TLS12"}, 200, None),
            ({"cipher_suites": ["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"]}, 200, 200),
            ({"cipher_suites": ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]}, None, 200),
        ):
            with self.subTest(limits=limits), self.serving({"tls_server_config": {**TLS, **limits}}) as exporter:
                self.assertEqual(self.ask(exporter.port, self.client(**only_12))[0], tls_12)
                context = self.client(minimum_version=ssl.TLSVersion.TLSv1_3)
                self.assertEqual(self.ask(exporter.port, context)[0], tls_13)
                self.assertEqual(status_of(exchange(exporter.port, GET_HEALTH)), 400)

    def test_clients_certificates(self) -> None:
        sans = {"client_allowed_sans": ["prometheus.example"]}
        address = {"client_allowed_sans": ["192.0.2.1"]}
        #                                                none  prometheus visitor unknown
        for policy, more, expected in (
            ("RequestClientCert", {},                   (200, 200, 200, 200)),
            ("RequireAnyClientCert", {},                (None, 200, 200, 200)),
            ("VerifyClientCertIfGiven", CLIENTS,        (200, 200, 200, None)),
            ("RequireAndVerifyClientCert", CLIENTS,     (None, 200, 200, None)),
            ("RequireAndVerifyClientCert", {**CLIENTS, **sans}, (None, 200, None, None)),
            ("RequireAndVerifyClientCert", {**CLIENTS, **address}, (None, 200, None, None)),
            ("RequireAnyClientCert", sans,              (None, 200, None, 200)),
        ):  # fmt: skip
            config = {"tls_server_config": {**TLS, "client_auth_type": policy, **more}}
            with self.subTest(policy=policy, more=more), self.serving(config) as exporter:
                found = tuple(
                    self.ask(exporter.port, self.client(name))[0]
                    for name in (None, "prometheus", "visitor", "unknown")
                )
                self.assertEqual(found, expected)

    def test_users_and_headers(self) -> None:
        headers = {"X-Frame-Options": "deny", "Content-Security-Policy": "default-src 'self'"}
        config = {"basic_auth_users": {"prometheus": HASH}, "http_server_config": {"headers": headers}}
        with self.serving(config) as exporter:
            for password, status in (("secret", 200), ("secret", 200), ("wrong", 401), ("", 401), (None, 401)):
                found, answer = self.ask(exporter.port, None, password=password)
                self.assertEqual(found, status, password)
                self.assertIn(b"\r\nX-Frame-Options: deny\r\n", answer)
                self.assertIn(b"\r\nContent-Security-Policy: default-src 'self'\r\n", answer)
                self.assertEqual(b"\r\nWWW-Authenticate: Basic " in answer, status == 401)
            self.assertNotIn("secret", exporter.log())

    def test_rate(self) -> None:
        with self.serving({"rate_limit": {"interval": "1h", "burst": 5}}) as exporter:
            statuses = [self.ask(exporter.port, None)[0] for _ in range(12)]
            self.assertEqual(statuses, [200] * 5 + [429] * 7)

    def test_changes(self) -> None:
        config = {"tls_server_config": TLS, "basic_auth_users": {"prometheus": HASH}}
        success = "pangolin_exporter_web_config_last_reload_successful"
        with self.serving(config) as exporter:
            port = exporter.port

            def state() -> tuple[str, float]:
                with self.client().wrap_socket(connect(port), server_hostname="localhost") as connection:
                    name = dict(pair[0] for pair in connection.getpeercert()["subject"])["commonName"]
                return name, self.value(port, success, self.client(), "secret")

            self.assertEqual(state(), ("server", 1))
            renewed = {"cert_file": "renewed.pem", "key_file": "renewed.key"}
            self.replace({**config, "tls_server_config": renewed})
            self.assertEqual(state(), ("renewed", 1))
            # A certificate that is renewed in its own file, and half of one.
            shutil.copy(self.folder / "server.key", self.folder / "renewed.key")
            self.assertEqual(state(), ("renewed", 0))
            shutil.copy(self.folder / "server.pem", self.folder / "renewed.pem")
            self.assertEqual(state(), ("server", 1))
            for broken in ("", "tls_server_config: [", {}, {"basic_auth_users": {"prometheus": HASH}}):
                self.replace(broken)
                self.assertEqual(state(), ("server", 0), broken)
            self.assertIn("web configuration stays as it was", exporter.log())
            # A user who goes is out at once.
            self.replace({**config, "basic_auth_users": {"somebody": HASH}})
            self.assertEqual(self.ask(port, self.client(), password="secret")[0], 401)

    @harness.unittest.skipUnless(shutil.which("prometheus"), "needs prometheus")
    def test_prometheus_scrapes(self) -> None:
        config = {
            "tls_server_config": {**TLS, **CLIENTS, "client_auth_type": "RequireAndVerifyClientCert"},
            "basic_auth_users": {"prometheus": HASH},
        }
        with self.serving(config) as exporter:
            job = {
                "job_name": "pangolin",
                "scrape_interval": "1s",
                "scheme": "https",
                "static_configs": [{"targets": [f"127.0.0.1:{exporter.port}"]}],
                "basic_auth": {"username": "prometheus", "password": "secret"},
                "tls_config": {
                    "ca_file": str(self.folder / "authority.pem"),
                    "cert_file": str(self.folder / "prometheus.pem"),
                    "key_file": str(self.folder / "prometheus.key"),
                },
            }
            (self.folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": [job]}))
            port = harness.free_port()
            process = subprocess.Popen(
                ["prometheus", f"--config.file={self.folder}/prometheus.yml", f"--web.listen-address=127.0.0.1:{port}",
                 f"--storage.tsdb.path={self.folder}/tsdb"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:

                def up() -> bool:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?query=up", timeout=5) as answer:
                        result = json.load(answer)["data"]["result"]
                    return bool(result) and result[0]["value"][1] == "1"

                harness.wait_for("Prometheus says that it is up", up)
            finally:
                process.terminate()
                process.wait(30)


class Hostile(WebConfigTest):
    def scrape_time(self, port: int, context: ssl.SSLContext) -> float:
        begin = time.monotonic()
        request = GET_HEALTH.replace(b"/healthz", b"/metrics")
        self.assertEqual(self.ask(port, context, request, "secret")[0], 200)
        return time.monotonic() - begin

    def test_handshakes_that_stop(self) -> None:
        config = {"tls_server_config": TLS, "basic_auth_users": {"prometheus": HASH}}
        with self.serving(config) as exporter, contextlib.ExitStack() as stack:
            context = self.client()
            self.scrape_time(exporter.port, context)
            hello = self.client_hello()
            for number in range(300):
                client = stack.enter_context(connect(exporter.port))
                client.sendall(hello[: number % len(hello)])
            self.assertLess(min(self.scrape_time(exporter.port, context) for _ in range(5)), QUICK * harness.SLOWNESS)
            memory = self.value(exporter.port, "process_resident_memory_bytes", context, "secret")
            self.assertLess(memory, (128 << 20) * harness.HEAVINESS)
            harness.wait_for(
                "they are given up",
                lambda: self.value(exporter.port, "pangolin_exporter_http_connections", context, "secret") < 5,
                timeout=20,
            )

    def client_hello(self) -> bytes:
        """What a client sends first."""
        outgoing = ssl.MemoryBIO()
        connection = self.client().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
        with contextlib.suppress(ssl.SSLWantReadError):
            connection.do_handshake()
        return outgoing.read()

    def test_garbage_for_tls(self) -> None:
        with self.serving({"tls_server_config": TLS}) as exporter:
            for number in range(200):
                garbage = bytes((number * 7 + i * i) % 256 for i in range(number + 1))
                self.assertIn(status_of(exchange(exporter.port, garbage)), (None, 400))
            self.assertEqual(self.ask(exporter.port, self.client())[0], 200)

    def test_wrong_passwords_do_not_keep_out_the_right_one(self) -> None:
        config = {"tls_server_config": TLS, "basic_auth_users": {"prometheus": HASH}}
        with self.serving(config) as exporter, ThreadPoolExecutor(40) as pool:
            context = self.client()
            self.scrape_time(exporter.port, context)
            guesses = [pool.submit(self.ask, exporter.port, context, password=f"guess {i}") for i in range(200)]
            times = [self.scrape_time(exporter.port, context) for _ in range(5)]
            self.assertLess(min(times), 2 * QUICK * harness.SLOWNESS)
            statuses = [guess.result()[0] for guess in guesses]
            self.assertEqual(set(statuses) - {401, 429}, set())
            self.assertGreater(statuses.count(401), 20)


if __name__ == "__main__":
    harness.main()
