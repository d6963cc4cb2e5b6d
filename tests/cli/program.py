"""Runs the exporter for the tests in this folder."""

import argparse
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
TIME_LIMIT = 30.0

exporter = REPOSITORY / "build" / "pangolin_exporter"


def main():
    """Takes --exporter from the command line and leaves the rest to unittest."""
    global exporter
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--exporter", type=pathlib.Path, default=exporter)
    options, rest = parser.parse_known_args()
    exporter = options.exporter.resolve()
    if not exporter.is_file():
        sys.exit(f"{exporter} is missing: build it first, or name it with --exporter")
    unittest.main(argv=[sys.argv[0], *rest], module="__main__")


class ProgramTest(unittest.TestCase):
    """A scratch folder for each test, and what is true of every end of the program."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="pangolin_exporter_cli_"))
        # The unprivileged user of some tests reads here.
        self.folder.chmod(0o755)
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def need_root(self):
        if os.geteuid() == 0:
            return
        if os.environ.get("CI") == "true":
            self.fail("needs root, and with CI=true nothing may be skipped")
        self.skipTest("needs root")

    def run_program(self, *arguments, command=None):
        """The ended process; a crash or a hang is a failure of the test."""
        result = subprocess.run([*(command or [exporter]), *arguments], cwd=self.folder, capture_output=True, text=True,
                                errors="backslashreplace", timeout=TIME_LIMIT, check=False)
        self.assert_no_crash(result.returncode, result.stderr)
        return result

    def assert_no_crash(self, code, errors):
        self.assertIn(code, (0, 1, 2), errors)
        for trace in ("Sanitizer", "terminate called", "runtime error", "Assertion"):
            self.assertNotIn(trace, errors)

    def assert_one_error(self, result, code, *parts):
        """Exactly one line tells what is wrong and what to do."""
        self.assertEqual(result.returncode, code, result.stdout + result.stderr)
        told = [line for line in result.stderr.splitlines() if "level=info" not in line]
        self.assertEqual(len(told), 1, result.stderr)
        self.assertRegex(told[0], r"\(HINT: .+\)")
        for part in parts:
            self.assertIn(part, told[0])


class RunningExporter:
    """An exporter that serves on a port of its own choice. Use as a context; ends by SIGTERM."""

    def __init__(self, test, configuration):
        self.test = test
        self.log_path = test.folder / "log"
        file = test.write("config.yml", configuration)
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([exporter, f"--config.file={file}", "--web.listen-address=127.0.0.1:0"],
                                            cwd=test.folder, stdout=log, stderr=log)

    def __enter__(self):
        try:
            self.url = "http://127.0.0.1:" + self._wait_for(self._port, "the line that names the port")
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(TIME_LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        self.test.assert_no_crash(code, self.log())
        self.test.assertEqual(code, 0, self.log())

    def log(self):
        return self.log_path.read_text(errors="backslashreplace")

    def source_up(self, source):
        """The value of pangolin_exporter_source_up, None while the sample is not there."""
        try:
            with urllib.request.urlopen(self.url + "/metrics", timeout=TIME_LIMIT) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError:
            return None
        found = re.search(rf'^pangolin_exporter_source_up\{{source="{source}"\}} (\S+)$', text, re.MULTILINE)
        return float(found[1]) if found else None

    def wait_until_source_is(self, source, value):
        self._wait_for(lambda: self.source_up(source) == value, f"source_up of {source} to be {value}")

    def _port(self):
        found = re.search(r"serving \S+ on 127\.0\.0\.1:(\d+)", self.log())
        return found[1] if found else None

    def _wait_for(self, condition, what):
        end = time.monotonic() + TIME_LIMIT
        while time.monotonic() < end and self.process.poll() is None:
            result = condition()
            if result:
                return result
            time.sleep(0.05)
        self.test.fail(f"waited in vain for {what}; exit code {self.process.poll()}\n{self.log()}")
