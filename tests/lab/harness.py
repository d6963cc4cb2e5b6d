"""What every lab test needs: the exporter as a process, its answers, and the rules for skipping."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "scripts"))

import exposition  # noqa: E402  (the path above is for `lab`, which these and the tests import)

# Slower machines (emulated ones) get more time for everything.
SLOWNESS = float(os.environ.get("PANGOLIN_EXPORTER_LAB_SLOWNESS", "1"))
# And memory, of programs that a sanitizer watches.
HEAVINESS = int(os.environ.get("PANGOLIN_EXPORTER_LAB_HEAVINESS", "1"))
exporter_path = REPOSITORY / "build/pangolin_exporter"

# What no healthy run prints on standard error.
ALARMING = (
    "terminate called",
    "Assertion",
    "AddressSanitizer",
    "LeakSanitizer",
    "UndefinedBehavior",
    "runtime error",
    "ThreadSanitizer",
    "Segmentation",
    "libbpf: prog",
    "libbpf: failed",
    "lost updates",
)


def wait_for(what: str, condition: Callable[[], object], timeout: float = 30, every: float = 0.2) -> object:
    """Until the condition's answer is true, which is then returned. What it raises meanwhile counts as not yet."""
    deadline = time.monotonic() + timeout * SLOWNESS
    last: object = None
    while True:
        try:
            last = condition()
            if last:
                return last
        except (AssertionError, OSError, urllib.error.URLError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(
                f"still not after {timeout * SLOWNESS:.0f} s: {what}"
                + (f" ({last})" if isinstance(last, Exception) else "")
            )
        time.sleep(every)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Exporter:
    """The exporter in the root namespace, on a port of its own, with a `metrics:` section given as a dictionary.

    What it pins is below a root of its own and does not outlive it: stop() detaches. Tests of restarts use kill(),
    or stop() without `detach`, and start().
    """

    instances = 0
    # What starts it, in front of its own path.
    launcher: Sequence[str] = ()

    def __init__(self, metrics: dict, arguments: Sequence[str] = (), folder: Path | None = None) -> None:
        self.own_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="pangolin_exporter-test-"))
        self.port = free_port()
        self.arguments = list(arguments)
        Exporter.instances += 1
        self.program = exporter_path
        self.metrics = {
            "state_dir": str(self.folder / "state"),
            "pin_dir": f"/sys/fs/bpf/pangolin_exporter_test-{os.getpid()}-{Exporter.instances}",
            "application": {"otlp": {"enabled": False}},
        } | metrics
        self.process: subprocess.Popen | None = None
        self.log_path = self.folder / "exporter.log"

    def __enter__(self) -> Exporter:
        self.start()
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        try:
            self.stop(strict=error_type is None)
        finally:
            self.detach()
            if error_type is not None:
                print(f"--- the exporter said ---\n{self.log()[-6000:]}\n---", file=sys.stderr)
            if self.own_folder:
                shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        """Of the running exporter itself, whatever started it."""
        return self.process.pid

    def write_configuration(self) -> Path:
        configuration = self.folder / "config.yml"
        configuration.write_text(json.dumps({"metrics": self.metrics}, indent=2))  # JSON is YAML
        return configuration

    def start(self) -> None:
        configuration = self.write_configuration()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [
                    *self.launcher,
                    str(self.program),
                    f"--config.file={configuration}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    *self.arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def get(self, path: str, timeout: float = 30) -> tuple[int, str]:
        if self.process.poll() is not None:
            raise RuntimeError(
                f"the exporter ended with status {self.process.returncode}:\n{self.log()[-3000:]}"
            )
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}{path}", timeout=timeout * SLOWNESS
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")

    def wait_alive(self) -> None:
        wait_for("/healthz answers 200", lambda: self.get("/healthz")[0] == 200)

    def wait_ready(self, timeout: float = 30) -> None:
        wait_for("/readyz answers 200", lambda: self.get("/readyz")[0] == 200, timeout)

    def scrape(self) -> exposition.Samples:
        status, text = self.get("/metrics")
        if status != 200:
            raise AssertionError(f"/metrics answered {status}: {text[:300]}")
        return exposition.parse(text)

    def kill(self) -> None:
        process, self.process = self.process, None
        process.kill()
        process.wait()

    def detach(self) -> None:
        """Removes what it left attached."""
        configuration = self.folder / "config.yml"
        if self.process is None and configuration.exists():
            subprocess.run(
                [str(self.program), f"--config.file={configuration}", "--detach"],
                stdout=subprocess.DEVNULL,
                check=True,
                timeout=60 * SLOWNESS,
            )
            # It leaves a folder that was made for another user's exporter.
            with contextlib.suppress(OSError):
                os.rmdir(self.metrics["pin_dir"])

    def stop(self, strict: bool = True, by: signal.Signals = signal.SIGTERM, detach: bool = True) -> None:
        """Ends it and, when strict, insists on a clean end: status 0, nothing alarming said, nothing left running."""
        if self.process is None:
            return
        try:
            self._end(strict, by)
        finally:
            if detach:
                self.detach()

    def _end(self, strict: bool, by: signal.Signals) -> None:
        process, self.process = self.process, None
        process.send_signal(by)
        try:
            status = process.wait(timeout=20 * SLOWNESS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the exporter did not end after {by.name}:\n{self.log()[-3000:]}") from None
        if not strict or by is signal.SIGKILL:
            return
        assert status == 0, f"the exporter ended with status {status}:\n{self.log()[-3000:]}"
        alarms = [line for line in self.log().splitlines() if any(word in line for word in ALARMING)]
        assert not alarms, "the exporter said: " + "\n".join(alarms[:20])
        left = self.processes_left(process.pid)
        assert not left, f"processes of the exporter's session are left: {left}"

    @staticmethod
    def processes_left(session: int) -> list[int]:
        left = []
        for entry in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = entry.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] not in "ZX":
                left.append(int(entry.parent.name))
        return left


def reason_to_skip() -> str | None:
    if os.geteuid() != 0:
        return "needs root: it makes network namespaces"
    if not os.access(exporter_path, os.X_OK):
        return f"needs the exporter at {exporter_path}"
    for program in ("ip", "wg", "tc"):
        if shutil.which(program) is None:
            return f"needs the program {program}"
    if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode != 0:
        return "needs the privilege to make network namespaces"
    return None


def mount_bpf_filesystem() -> None:
    """As systemd does on ordinary hosts; a bare container or an emulated machine may be without it."""
    if Path("/sys/fs/bpf").is_dir() and not os.path.ismount("/sys/fs/bpf"):
        subprocess.run(["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"], check=False, capture_output=True)


class LabTest(unittest.TestCase):
    """Base of all lab tests: without what they need they skip and say why; with CI=true that is a failure."""

    maxDiff = None

    @classmethod
    def setUpClass(cls) -> None:
        reason = reason_to_skip()
        if reason and os.environ.get("CI") == "true":
            raise AssertionError(f"with CI=true nothing may be skipped, but this {reason}")
        if reason:
            raise unittest.SkipTest(reason)
        mount_bpf_filesystem()


def main() -> None:
    """Runs the tests of the calling script and closes with one line of numbers."""
    global exporter_path
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--exporter", type=Path, default=exporter_path)
    known, rest = options.parse_known_args()
    exporter_path = known.exporter.resolve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that everything is taken down
    program = unittest.main("__main__", argv=[sys.argv[0], *rest], exit=False, verbosity=2)
    result = program.result
    failed = result.failures + result.errors + [(test, "") for test in result.unexpectedSuccesses]
    bad = len(
        {getattr(test, "test_case", test).id() for test, _ in failed}
    )  # a subtest names the test it is part of
    skipped = len(result.skipped)
    print(f"{max(0, result.testsRun - bad - skipped)} passed, {bad} failed, {skipped} skipped", flush=True)
    if not result.wasSuccessful():
        sys.exit(1)
    sys.exit(77 if result.testsRun == 0 and skipped else 0)  # 77: everything was skipped
