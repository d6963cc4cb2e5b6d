"""What stands behind resources: nginx with files and an access log, and echo servers (echo.py)."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .commands import LabError, require_program, run
from .namespace import Namespace

# Bytes of the files that every nginx here serves, by path.
FILES = {"empty": 0, "small": 1_000, "page": 60_000, "large": 3_000_000}
SLOW_BYTES_A_SECOND = 12_000

NGINX_CONFIGURATION = """\
daemon off;
master_process off;
user root;
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
    log_format exchange escape=json '{{"time":$msec,"host":"$host","method":"$request_method","uri":"$uri",'
        '"status":$status,"received":$request_length,"sent":$bytes_sent,"body":$body_bytes_sent,'
        '"connection":$connection,"request_of_connection":$connection_requests,"completion":"$request_completion"}}';
    access_log {folder}/access.log exchange;
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/unused;
    fastcgi_temp_path {folder}/unused;
    uwsgi_temp_path {folder}/unused;
    scgi_temp_path {folder}/unused;
    default_type application/octet-stream;
    sendfile on;
    keepalive_timeout {keepalive};
    keepalive_requests 1000000;
    client_max_body_size 0;
    root {folder}/files;
    server {{
{listens}
        location /slow/ {{ alias {folder}/files/; limit_rate {slow}; }}
        location /upload/ {{ alias {folder}/uploads/; dav_methods PUT DELETE; }}
    }}
}}
"""


@dataclass(frozen=True)
class Exchange:
    """One line of the access log. Bytes are those of the connection: heads and bodies."""

    host: str
    method: str
    uri: str
    status: int
    received: int
    sent: int
    body: int
    connection: int
    complete: bool


class Nginx:
    """Debian's nginx, one process, listening at these addresses (ADDRESS:PORT) of the namespace; with TLS at those that
    are `secure`, by a certificate that nobody knows."""

    def __init__(
        self,
        namespace: Namespace,
        name: str,
        listens: Sequence[str],
        keepalive: str = "300s",
        secure: Sequence[str] = (),
    ) -> None:
        self.program = require_program("nginx")
        self.namespace = namespace
        self.listens = [*listens, *secure]
        self.folder = namespace.state.folder / f"nginx-{name}"
        self.process: subprocess.Popen | None = None
        (self.folder / "files").mkdir(parents=True)
        (self.folder / "uploads").mkdir()
        for file, size in FILES.items():
            (self.folder / "files" / file).write_bytes(bytes(range(256)) * (size // 256) + bytes(size % 256))
        lines = [f"        listen {address};" for address in listens]
        if secure:
            self._make_certificate()
            lines += [f"        listen {address} ssl;" for address in secure]
            lines += [f"        ssl_certificate{kind} {self.folder}/server.pem;" for kind in ("", "_key")]
        (self.folder / "nginx.conf").write_text(
            NGINX_CONFIGURATION.format(
                folder=self.folder,
                keepalive=keepalive,
                slow=SLOW_BYTES_A_SECOND,
                listens="\n".join(lines),
            )
        )
        self.start()

    def _make_certificate(self) -> None:
        file = str(self.folder / "server.pem")
        request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        run([require_program("openssl"), *request, "-subj", "/CN=lab", "-keyout", file, "-out", f"{file}.part"])
        with open(file, "a") as whole:
            whole.write(Path(f"{file}.part").read_text())

    def start(self) -> None:
        with open(self.folder / "output.log", "ab") as output:
            self.process = self.namespace.start(
                [self.program, "-e", f"{self.folder}/error.log", "-c", f"{self.folder}/nginx.conf"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            for address in self.listens:
                wait_listening(self.namespace, int(address.rpartition(":")[2]), self.process)
        except LabError as error:
            raise LabError(f"{error}: {(self.folder / 'error.log').read_text()[-600:]}") from None

    def stop(self) -> None:
        """At once; its clients see their connections end."""
        self.namespace.state.stop_process(self.process.pid)
        self.process = None

    def exchanges(self, host: str | None = None) -> list[Exchange]:
        """All that it has served and logged, in order; of one Host only, if asked."""
        return [exchange for exchange in self._read() if host in (None, exchange.host)]

    def _read(self) -> Iterator[Exchange]:
        for line in (self.folder / "access.log").read_text().splitlines():
            entry = json.loads(line)
            yield Exchange(
                entry["host"],
                entry["method"],
                entry["uri"],
                entry["status"],
                entry["received"],
                entry["sent"],
                entry["body"],
                entry["connection"],
                entry["completion"] == "OK",
            )


class Echo:
    """TCP and UDP echo servers in one process."""

    def __init__(self, namespace: Namespace, tcp: Sequence[str] = (), udp: Sequence[str] = ()) -> None:
        self.namespace = namespace
        arguments = [sys.executable, str(Path(__file__).with_name("echo.py"))]
        arguments += [part for address in tcp for part in ("--tcp", address)]
        arguments += [part for address in udp for part in ("--udp", address)]
        self.process = namespace.start(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            raise LabError(f"the echo server in {namespace.name} did not start")

    def report(self) -> dict[int, dict[str, int]]:
        """By port: connections, active, datagrams, bytes_received, bytes_sent."""
        self.process.stdin.write("report\n")
        self.process.stdin.flush()
        return {int(port): counts for port, counts in json.loads(self.process.stdout.readline()).items()}

    def close(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=20)
        self.namespace.state.stop_process(self.process.pid)


def wait_listening(
    namespace: Namespace, port: int, process: subprocess.Popen, timeout: float = 20
) -> None:
    """Until a TCP socket of the namespace listens on the port; an error when the process ends before."""
    deadline = time.monotonic() + timeout
    while not is_listening(namespace, port):
        if process.poll() is not None:
            raise LabError(f"{process.args[-1]} ended with status {process.returncode}")
        if time.monotonic() > deadline:
            raise LabError(f"nothing listens on port {port} of {namespace.name} after {timeout:.0f} s")
        time.sleep(0.05)


def is_listening(namespace: Namespace, port: int) -> bool:
    for table in ("tcp", "tcp6"):
        for line in namespace.read_file(f"/proc/thread-self/net/{table}").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                return True
    return False
