"""Traefik in the host's namespace, set up as Pangolin's installer does, and the server that it polls."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .commands import LabError, run
from .namespace import Namespace
from .web_client import Answer, fetch, samples
from .wireguard import SCRIPTS

WEB_PORT, SECURE_PORT, API_PORT = 80, 443, 8080
# Further settings: an access log in JSON, in Traefik's own folder.
ACCESS_LOG = {"accessLog": {"filePath": "logs/access.log", "format": "json"}}
PROVIDER_PORT, PROVIDER_PATH = 3001, "/api/v1/traefik-config"


def built_traefik() -> str | None:
    """Path of a Traefik if there is one already."""
    path = os.environ.get("PANGOLIN_EXPORTER_TRAEFIK")
    return path or run([str(SCRIPTS / "traefik"), "--if-built"], check=False).stdout.strip() or None


def traefik_program() -> str:
    """Path of a Traefik: from the environment, or as scripts/traefik finds or builds it."""
    path = os.environ.get("PANGOLIN_EXPORTER_TRAEFIK")
    if path:
        return path
    lines = run([str(SCRIPTS / "traefik")], timeout=3600).stdout.split()
    if not lines or not os.access(lines[-1], os.X_OK):
        raise LabError("scripts/traefik named no program that can be run")
    return lines[-1]


class Provider:
    """Pangolin's internal API as far as Traefik asks it: the dynamic configuration, on the host's loopback."""

    url = f"http://127.0.0.1:{PROVIDER_PORT}{PROVIDER_PATH}"

    def __init__(self, namespace: Namespace) -> None:
        self.configuration: dict = {}
        self.polls = 0
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                found = self.path == PROVIDER_PATH
                body = json.dumps(provider.configuration if found else {}).encode()
                provider.polls += found
                self.send_response(200 if found else 404)
                self.send_header("Content-Type", "application/json; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", f'W/"{hashlib.sha1(body).hexdigest()}"')
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", PROVIDER_PORT), Handler, bind_and_activate=False)
        self.server.daemon_threads = True
        self.server.socket.close()
        self.server.socket = namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.server.server_bind()
        self.server.server_activate()
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.1,), name="provider", daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Traefik:
    """One Traefik with its provider. Raw resources need their ports here: entrypoints are static in Traefik.

    `poll` is 5 s on a Pangolin host. `dial_timeout` (seconds) is Traefik's own 30 s when not given. `provider` has what
    Provider has: its `configuration`, its `url`, and close(). `settings` are further ones of the static configuration.
    """

    def __init__(
        self,
        namespace: Namespace,
        *,
        tcp_ports: Sequence[int] = (),
        udp_ports: Sequence[int] = (),
        poll: str = "1s",
        dial_timeout: float | None = None,
        provider: Provider | None = None,
        settings: dict | None = None,
    ) -> None:
        self.program = traefik_program()
        self.namespace = namespace
        self.folder = namespace.state.folder / "traefik"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.access_log = self.folder / ACCESS_LOG["accessLog"]["filePath"]
        self.process: subprocess.Popen | None = None
        self.provider = provider or Provider(namespace)
        static = static_configuration(self.provider.url, tcp_ports, udp_ports, poll, dial_timeout) | (settings or {})
        (self.folder / "traefik_config.yml").write_text(json.dumps(static, indent=2))  # JSON is YAML

    def start(self, timeout: float = 60) -> None:
        with open(self.folder / "traefik.log", "ab") as output:
            self.process = self.namespace.start(
                [self.program, f"--configFile={self.folder}/traefik_config.yml"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
            )
        self._wait("Traefik answers /ping", lambda: self.get(WEB_PORT, "/ping").status == 200, timeout)
        self.wait_loaded(timeout)

    def apply(self, configuration: dict, timeout: float = 30) -> None:
        """Serves this configuration from now on, and waits until Traefik goes by it if it runs."""
        self.provider.configuration = configuration
        if self.process is not None:
            self.wait_loaded(timeout)

    def wait_loaded(self, timeout: float = 30) -> None:
        self._wait("Traefik has loaded its configuration", self._loaded, timeout)

    def _loaded(self) -> bool:
        """Its services are exactly the provider's, with their servers, and no router has a fault."""
        raw = self.api("/api/rawdata")
        for kind, prefix in (("http", ""), ("tcp", "tcp"), ("udp", "udp")):
            wanted = self.provider.configuration.get(kind, {})
            services = raw.get(f"{prefix}Services" if prefix else "services", {})
            routers = raw.get(f"{prefix}Routers" if prefix else "routers", {})
            theirs = {
                name.removesuffix("@http"): service.get("loadBalancer", {}).get("servers")
                for name, service in services.items()
                if name.endswith("@http")
            }
            ours = {
                name: service["loadBalancer"]["servers"] for name, service in wanted.get("services", {}).items()
            }
            if theirs != ours:
                return False
            found = {name: router for name, router in routers.items() if name.endswith("@http")}
            if {name.removesuffix("@http") for name in found} != set(wanted.get("routers", {})):
                return False
            faulty = {name: router.get("error") for name, router in found.items() if router["status"] != "enabled"}
            if faulty:
                raise LabError(f"Traefik does not accept routers: {faulty}")
        return True

    def _wait(self, what: str, condition, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while True:
            try:
                if condition():
                    return
            except OSError:
                pass
            if self.process.poll() is not None:
                raise LabError(f"Traefik ended with status {self.process.returncode}: {self.log()[-800:]}")
            if time.monotonic() > deadline:
                raise LabError(f"still not after {timeout:.0f} s: {what}: {self.log()[-800:]}")
            time.sleep(0.1)

    def get(self, port: int, path: str) -> Answer:
        """From the host's loopback."""
        return fetch(self.namespace, "127.0.0.1", port, path, timeout=10)

    def api(self, path: str) -> dict:
        answer = self.get(API_PORT, path)
        if answer.status != 200:
            raise LabError(f"Traefik's API answers {answer.status} for {path}")
        return json.loads(answer.body)

    def service_counts(self, service: str) -> dict[str, float]:
        """Its own view of an HTTP service since its start: requests, and bytes of the bodies."""
        page = self.get(API_PORT, "/metrics").body.decode()

        def total(metric: str) -> float:
            return sum(value for _, value in samples(page, metric, service=f"{service}@http"))

        return {
            "requests": total("traefik_service_requests_total"),
            "request_bytes": total("traefik_service_requests_bytes_total"),
            "response_bytes": total("traefik_service_responses_bytes_total"),
        }

    def requests_by_code(self, service: str) -> dict[str, float]:
        page = self.get(API_PORT, "/metrics").body.decode()
        found: dict[str, float] = {}
        for labels, value in samples(page, "traefik_service_requests_total", service=f"{service}@http"):
            found[labels["code"]] = found.get(labels["code"], 0) + value
        return found

    def service_samples(self, service: str, metric: str) -> list[tuple[dict[str, str], float]]:
        """The series of a metric that are of this HTTP service."""
        page = self.get(API_PORT, "/metrics").body.decode()
        return samples(page, metric, service=f"{service}@http")

    def logged(self) -> list[dict]:
        """The lines of its access log."""
        return [json.loads(line) for line in self.access_log.read_text().splitlines()]

    def open_connections(self, entrypoint: str) -> float:
        page = self.get(API_PORT, "/metrics").body.decode()
        return sum(value for _, value in samples(page, "traefik_open_connections", entrypoint=entrypoint))

    def reopen_access_log(self) -> None:
        """What logrotate tells it after having renamed the file."""
        self.process.send_signal(signal.SIGUSR1)

    def log(self) -> str:
        return (self.folder / "traefik.log").read_text(errors="replace")

    def stop(self) -> None:
        if self.process is not None:
            self.namespace.state.stop_process(self.process.pid, patience=15)
            self.process = None

    def close(self) -> None:
        self.stop()
        self.provider.close()


def static_configuration(
    endpoint: str, tcp_ports: Sequence[int], udp_ports: Sequence[int], poll: str, dial_timeout: float | None
) -> dict:
    """The installer's, without what needs the Internet (the badger plugin, certificates), and with metrics."""
    dialling = {} if dial_timeout is None else {"dialTimeout": f"{round(dial_timeout * 1000)}ms"}
    return {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "log": {"level": "INFO", "format": "common"},
        "api": {"insecure": True, "dashboard": True},
        "ping": {"entryPoint": "web"},
        "providers": {"http": {"endpoint": endpoint, "pollInterval": poll}},
        "entryPoints": {
            "web": {"address": f":{WEB_PORT}"},
            "websecure": {
                "address": f":{SECURE_PORT}",
                "transport": {"respondingTimeouts": {"readTimeout": "30m"}},
            },
            **{f"tcp-{port}": {"address": f":{port}/tcp"} for port in tcp_ports},
            **{f"udp-{port}": {"address": f":{port}/udp"} for port in udp_ports},
        },
        "serversTransport": {
            "insecureSkipVerify": True,
            **({"forwardingTimeouts": dialling} if dialling else {}),
        },
        **({"tcpServersTransport": dialling} if dialling else {}),
        "metrics": {
            "prometheus": {"addServicesLabels": True, "addRoutersLabels": True, "addEntryPointsLabels": True}
        },
    }
