"""A server of Pangolin's shape as a process in a namespace, and newt's WebSocket towards it."""

from __future__ import annotations

import json
import os
import subprocess
from http.client import HTTPResponse
from pathlib import Path

from harness import wait_for
from lab.namespace import Namespace
from lab.web_client import Connection

HERE = Path(__file__).resolve().parent
LOG_PORT = 3999
EXTERNAL, INTERNAL, NEXT, INTEGRATION = 3000, 3001, 3002, 3003
# Where Debian puts the packages of Node that it has.
ENVIRONMENT = os.environ | {"NODE_PATH": "/usr/share/nodejs"}


class PangolinServer:
    """pangolin_server.js; see there for how little of Pangolin it is. `address` is one of the namespace's."""

    def __init__(self, namespace: Namespace, address: str) -> None:
        self.namespace = namespace
        self.address = address
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        self.process = self.namespace.start(
            ["node", str(HERE / "pangolin_server.js"), "0.0.0.0", str(LOG_PORT)],
            stdin=subprocess.DEVNULL,
            env=ENVIRONMENT,
        )
        wait_for("the server of Pangolin's shape answers", self.log)

    def stop(self) -> None:
        if self.process is not None:
            self.namespace.state.stop_process(self.process.pid)
            self.process = None

    def log(self) -> dict:
        """What it did since its start: the book by which the exporter is judged."""
        return self._own("GET")

    def set_traefik_configuration(self, configuration: dict) -> None:
        self._own("PUT", json.dumps(configuration).encode())

    def answer_traefik(self, status: int) -> None:
        """From now on its requests for its configuration; 0: they wait for ever."""
        self._own("PUT", path=f"/{status}")

    def _own(self, method: str, body: bytes | None = None, path: str = "/") -> dict:
        connection = Connection(self.namespace, "127.0.0.1", LOG_PORT, timeout=5)
        try:
            connection.request(method, path, body=body)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


class Client:
    """One keep-alive connection to one of its ports, from outside (the host's namespace) or on its loopback."""

    def __init__(self, server: PangolinServer, port: int, outside: Namespace | None = None) -> None:
        self.connection = Connection(
            outside or server.namespace, server.address if outside else "127.0.0.1", port, timeout=20
        )

    def ask(
        self, method: str, path: str, answer: int = 200, *, body: object = None, **headers: str
    ) -> HTTPResponse:
        fields = {f"x-{name}": value for name, value in headers.items()} | {"x-answer": str(answer)}
        has_body = method in ("POST", "PUT", "PATCH")
        content = json.dumps(body or {}, separators=(",", ":")).encode() if has_body else None
        self.connection.request(method, path, body=content, headers=fields)
        response = self.connection.getresponse()
        response.read()
        assert response.status == answer, f"{method} {path}: {response.status}"
        return response

    def close(self) -> None:
        self.connection.close()


def run_newt(
    server: PangolinServer,
    outside: Namespace,
    *,
    token: str,
    key: str = "",
    kind: str = "newt",
    rounds: int = 10,
    compression: bool = False,
    abrupt: bool = False,
) -> dict:
    """One WebSocket from its opening to its end; what the client says of it."""
    query = f"token={token}&clientType={kind}&compression={int(compression)}"
    done = outside.command(
        [
            "node",
            str(HERE / "websocket_client.js"),
            f"ws://{server.address}:{EXTERNAL}/api/v1/ws?{query}",
            key,
            str(rounds),
            str(int(compression)),
            "abrupt" if abrupt else "clean",
        ]
    )
    output = subprocess.run(done, capture_output=True, text=True, timeout=60, env=ENVIRONMENT, check=True)
    return json.loads(output.stdout)
