#!/usr/bin/env python3
"""What the exporter says and does when its input is wrong.

    python3 tests/cli/test_bad_input.py [--exporter build/pangolin_exporter]

Exit codes: 0 ended as asked or switched off, 1 something failed, 2 command line or configuration is wrong. A source
of sites that cannot be read ends nothing: it is reported, and read again.
"""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import urllib.error
import urllib.request

import program

# Attaches to nothing of this machine.
QUIET = """
metrics:
  wireguard: { netns: host, interfaces: [none-such] }
  metadata: { refresh: 1s, %s }
  state_dir: %s
  pin_dir: ""
"""

TABLES = """
CREATE TABLE "sites" ("siteId" integer PRIMARY KEY, "orgId" text, "niceId" text, "name" text, "exitNodeSubnet" text);
INSERT INTO "sites" VALUES (1, 'org', 's-abc', 'Home', '100.89.128.4/30');
"""


class CommandLine(program.ProgramTest):
    def test_mistakes(self):
        for arguments, part in [
            (["--config.fil=x"], "Did you mean '--config.file'?"),
            (["chekc"], "Did you mean 'check'?"),
            (["--web.listen-address=9464"], "'9464' is not an address to listen on"),
            (["--web.listen-address=:99999"], "the port is not a number"),
            (["--web.listen-address=[::1"], "']' is missing"),
            (["--web.telemetry-path=metrics"], "'metrics' is not a path"),
            (["--log.level=loud"], "--log.level: unknown value 'loud'"),
            (["--log.format=xml"], "--log.format: unknown value 'xml'"),
            (["catalog", "--format=csv"], "--format: unknown value 'csv'"),
            (["top", "--interval=1"], "'1' is not a duration"),
            (["--config.file"], "--config.file"),
            (["\x1b[31m"], r"'\x1b[31m'"),
        ]:
            with self.subTest(arguments):
                result = self.run_program(*arguments)
                self.assert_one_error(result, 2, part)
                self.assertEqual(result.stdout, "")

    def test_help_and_version_are_no_mistakes(self):
        for option in ("--help", "--version"):
            result = self.run_program(option)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            self.assertIn("pangolin_exporter", result.stdout)

    def test_the_catalogue_needs_neither_configuration_nor_privileges(self):
        self.write("config.yml", "metrics: {prot: 1}\n")
        result = self.run_program("catalog")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertIn("pangolin_site_bandwidth_bytes_total", result.stdout)


class Configuration(program.ProgramTest):
    def test_mistakes(self):
        for text, part in [
            ("metrics:\n  prot: 9464\n", ":2:3: unknown key 'prot' under metrics (HINT: Did you mean 'port'?"),
            ("metrics:\n  port: [9464]\n", ":2:9: metrics.port: expected a whole number from 1 to 65535, found a list"),
            ("metrics:\n  port: 0\n", ":2:9: metrics.port: expected a whole number from 1 to 65535, found '0'"),
            ("metrics:\n  enabled: perhaps\n", ":2:12: metrics.enabled: expected true or false"),
            ("metrics:\n  listen: nowhere:x\n", ":2:11: metrics.listen: 'nowhere:x' is not an address"),
            ("metrics:\n  metadata: { refresh: 10 }\n", ":2:24: metrics.metadata.refresh: '10' is not a duration"),
            ("metrics: on\n", ":1:10: metrics: expected keys and values, found 'on'"),
            ("metrics:\n  port: 1\n    enabled: true\n", "not valid YAML"),
            ("metrics: [\n", "not valid YAML"),
            ("metrics: " + "[" * 10000, "not valid YAML"),
            (b"\xff\xfe\x00\x01", "HINT"),
            (b"\x00" * 100, "HINT"),
            ("- a list\n", ":1:1: expected keys and values, found a list"),
        ]:
            with self.subTest(text[:40]):
                file = self.write("config.yml", text)
                for arguments in ([], ["check"], [f"--config.file={file}"]):
                    self.assert_one_error(self.run_program(*arguments), 2, "config.yml", part)

    def test_a_file_that_cannot_be_read(self):
        self.assert_one_error(self.run_program("--config.file=absent.yml"), 2, "absent.yml: No such file")
        self.assert_one_error(self.run_program("--config.file=."), 2, "Is a directory")
        self.assert_one_error(self.run_program("--config.file=/dev/zero"), 2, "larger than")

    def test_switched_off(self):
        for text, part in [
            ("metrics: { enabled: false }\n", "metrics.enabled is false"),
            ("app: { log_level: info }\n", "no section 'metrics'"),
            ("", "no section 'metrics'"),
        ]:
            with self.subTest(text):
                file = self.write("config.yml", text)
                for arguments in ([], [f"--config.file={file}"]):
                    result = self.run_program(*arguments)
                    self.assertEqual(result.returncode, 0, result.stderr)
                    self.assertIn("metrics are switched off", result.stderr)
                    self.assertIn(part, result.stderr)
                    self.assertEqual(len(result.stderr.splitlines()), 1)


    def test_switched_off_follows_the_log_format_but_not_its_level(self):
        self.write("config.yml", "metrics: { enabled: false }\n")
        result = self.run_program("--log.format=json", "--log.level=error")
        self.assertEqual(result.returncode, 0, result.stderr)
        line = json.loads(result.stderr)
        self.assertEqual(line["level"], "info")
        self.assertIn("metrics are switched off", line["msg"])

    def test_the_log_is_json_whatever_it_tells(self):
        result = self.run_program("--log.format=json", b'--config.file=\xff\xed\xa0\x80 "\\ \x1b[2J \xc2\x9b \xc3\xa9')
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertEqual(len(result.stderr.splitlines()), 1)
        self.assertIn('\ufffd' * 4 + ' "\\ \x1b[2J \x9b \xe9', json.loads(result.stderr)["msg"])
        self.assertNotRegex(result.stderr, "[\x1b\x9b]")


class Output(program.ProgramTest):
    """Standard output and error that take nothing, or are not there."""

    def setUp(self):
        super().setUp()
        self.write("config.yml", QUIET % ("sites_file: sites.yml", self.folder))

    def run_to(self, redirection, *arguments):
        command = ["sh", "-c", f'exec "$0" "$@" {redirection}', program.exporter]
        return self.run_program(*arguments, command=command)

    def assert_output_failed(self, result, reason):
        self.assert_one_error(result, 1, "cannot write to standard output: " + reason)

    def test_output_that_fails(self):
        for arguments in (["catalog"], ["catalog", "--format=json"], ["check"], ["--help"], ["--version"]):
            for redirection, reason in [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")]:
                with self.subTest(arguments=arguments, redirection=redirection):
                    self.assert_output_failed(self.run_to(redirection, *arguments), reason)

    def test_a_reader_that_went_away(self):
        reader, writer = os.pipe()
        os.close(reader)
        try:
            result = subprocess.run([program.exporter, "catalog"], cwd=self.folder, stdout=writer,
                                    stderr=subprocess.PIPE, text=True, timeout=program.TIME_LIMIT, check=False)
        finally:
            os.close(writer)
        result.stdout = ""
        self.assert_output_failed(result, "Broken pipe")

    def test_errors_that_nobody_can_read(self):
        for redirection in ("2>/dev/full", "2>&-", "<&- >&- 2>&-"):
            with self.subTest(redirection):
                self.assertEqual(self.run_to(redirection, "--config.file=absent.yml").returncode, 2)

    def test_top_ends_with_its_output(self):
        self.need_root()
        for redirection, reason in [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")]:
            with self.subTest(redirection):
                self.assert_output_failed(self.run_to(redirection, "top", "--log.level=error"), reason)

        with subprocess.Popen([program.exporter, "top", "--interval=100ms", "--log.level=error"], cwd=self.folder,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as top:
            top.stdout.readline()
            top.stdout.close()
            errors = top.stderr.read()
            code = top.wait(program.TIME_LIMIT)
        self.assert_output_failed(subprocess.CompletedProcess(top.args, code, "", errors), "Broken pipe")

    def test_top_shows_names_and_errors_in_a_harmless_form(self):
        self.need_root()
        names = r"\e]0;x\a\x9b2J", "home"
        sites = ", ".join(f'{{ site_id: "{name}", type: local }}' for name in names)
        self.write("sites.yml", f"sites: [{sites}]\n")
        with subprocess.Popen([program.exporter, "top", "--interval=60s"], cwd=self.folder, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL) as top:
            try:
                lines = [top.stdout.readline() for _ in range(4)]
            finally:
                top.send_signal(signal.SIGHUP)
            top.stdout.read()
            self.assertEqual(top.wait(program.TIME_LIMIT), 0)
        self.assertEqual([line[:31] for line in lines[1:]],
                         [b"SITE                     TUNNEL", b"\\x1b]0;x\\x07\\xc2\\x9b2J   -     ",
                          b"home                     -     "])


class Host(program.ProgramTest):
    def test_the_terminal_was_closed(self):
        self.need_root()
        running = program.RunningExporter(self, QUIET % ("sites_file: sites.yml", self.folder))
        with running:
            running.process.send_signal(signal.SIGHUP)
            self.assertEqual(running.process.wait(program.TIME_LIMIT), 0, running.log())
        self.assertIn("ending: detaching", running.log())

    def test_nohup(self):
        self.need_root()
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            running = program.RunningExporter(self, QUIET % ("sites_file: sites.yml", self.folder))
        finally:
            signal.signal(signal.SIGHUP, before)
        with running:
            running.process.send_signal(signal.SIGHUP)
            running.wait_until_source_is("sites_file", 0)

    def test_port_in_use(self):
        self.need_root()
        self.write("config.yml", QUIET % ("sites_file: sites.yml", self.folder))
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            result = self.run_program(f"--web.listen-address=127.0.0.1:{port}")
        self.assert_one_error(result, 1, f"port {port} on 127.0.0.1 is in use")

    def test_no_btf(self):
        """A kernel without type information: traffic is counted all the same."""
        self.need_root()
        hide = 'mount -t tmpfs none /sys/kernel/btf && exec "$0" "$@"'
        command = ["unshare", "--mount", "sh", "-c", hide, program.exporter]
        self.write("config.yml", QUIET % ("sites_file: sites.yml", self.folder))
        result = self.run_program("check", f"--config.file={self.folder / 'config.yml'}", command=command)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertRegex(result.stdout, r"(?m)^missing +btf ")
        self.assertRegex(result.stdout, r"(?m)^ok +bpf ")

    def test_no_wireguard(self):
        """It waits for one, says so once, and is not ready."""
        self.need_root()
        self.write("sites.yml", "sites: []\n")
        with program.RunningExporter(self, QUIET % ("sites_file: sites.yml", self.folder)) as running:
            running.wait_until_source_is("wireguard", 0)
            running.wait_until_source_is("sites_file", 1)
            told = [line for line in running.log().splitlines() if "no WireGuard interface" in line]
            self.assertEqual(len(told), 1, running.log())
            self.assertRegex(told[0], r"\(HINT: .+\)")
            with self.assertRaises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(running.url + "/readyz", timeout=program.TIME_LIMIT)
            self.assertEqual(refused.exception.code, 503)
            self.assertIn("no WireGuard interface", refused.exception.read().decode())

    def test_no_privileges(self):
        self.need_root()
        copy = self.folder / "pangolin_exporter"
        shutil.copy(program.exporter, copy)
        copy.chmod(0o755)
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", copy]
        self.write("config.yml", QUIET % ("sites_file: sites.yml", self.folder))
        self.assert_one_error(self.run_program("--web.listen-address=127.0.0.1:0", command=command), 1)
        secret = self.write("secret.yml", "metrics: {}\n")
        secret.chmod(0o600)
        self.assert_one_error(self.run_program(f"--config.file={secret}", command=command), 2, "Permission denied")


class Sites(program.ProgramTest):
    def setUp(self):
        super().setUp()
        self.need_root()

    def assert_source_is_down(self, source, setting, part):
        """The exporter serves on, says once why, and `check` says it as well."""
        configuration = QUIET % (setting, self.folder)
        with program.RunningExporter(self, configuration) as running:
            running.wait_until_source_is(source, 0)
            for _ in range(3):
                self.assertEqual(running.source_up(source), 0)
            told = [line for line in running.log().splitlines() if part in line]
            self.assertEqual(len(told), 1, running.log())
            self.assertRegex(told[0], r"\(HINT: .+\)")
        checked = self.run_program("check", f"--config.file={self.folder / 'config.yml'}")
        told = [line for line in checked.stdout.splitlines() if part in line]
        self.assertEqual(len(told), 1, checked.stdout)
        self.assertIn("HINT", told[0])
        self.assertTrue(told[0].startswith("missing"), told[0])

    def test_databases(self):
        self.write("text.sqlite", "not a database, " * 100)
        self.write("empty.sqlite", "")
        sqlite3.connect(self.folder / "other.sqlite").execute("CREATE TABLE other (x)").connection.close()
        for setting, part in [
            ("sqlite: absent.sqlite", "absent.sqlite: No such file"),
            ("sqlite: .", "it is a directory"),
            ("sqlite: empty.sqlite", "empty.sqlite: it is empty"),
            ("sqlite: text.sqlite", "file is not a database"),
            ("sqlite: other.sqlite", "it lacks table sites"),
        ]:
            with self.subTest(setting):
                self.assert_source_is_down("sqlite", setting, part)

    def test_sites_files(self):
        self.write("broken.yml", "sites: [\n")
        self.write("typo.yml", "sites:\n  - site_id: a\n    tunel: 10.0.0.0/30\n")
        self.write("key.yml", "sites:\n  - site_id: a\n    public_key: secret\n")
        for setting, part in [
            ("sites_file: absent.yml", "absent.yml: No such file"),
            ("sites_file: .", "Is a directory"),
            ("sites_file: broken.yml", "not valid YAML"),
            ("sites_file: typo.yml", "Did you mean 'tunnel'?"),
            ("sites_file: key.yml", "not a WireGuard public key"),
        ]:
            with self.subTest(setting):
                self.assert_source_is_down("sites_file", setting, part)

    def test_a_database_that_is_locked_for_a_while(self):
        path = self.folder / "db.sqlite"
        pangolin = sqlite3.connect(path, isolation_level=None, timeout=0)
        self.addCleanup(pangolin.close)
        pangolin.executescript(TABLES)
        with program.RunningExporter(self, QUIET % ("sqlite: db.sqlite", self.folder)) as running:
            running.wait_until_source_is("sqlite", 1)
            for _ in range(5):
                # No lock is left behind by the exporter's reads, or Pangolin would have to wait here.
                pangolin.execute("PRAGMA busy_timeout=200")
                pangolin.execute("BEGIN EXCLUSIVE")
                pangolin.execute("COMMIT")
            pangolin.execute("PRAGMA busy_timeout=2000")
            pangolin.execute("BEGIN EXCLUSIVE")
            running.wait_until_source_is("sqlite", 0)
            self.assertIn("database is locked", running.log())
            pangolin.execute("COMMIT")
            running.wait_until_source_is("sqlite", 1)

    def test_a_file_that_is_mended_while_running(self):
        path = self.write("sites.yml", "sites: [\n")
        with program.RunningExporter(self, QUIET % ("sites_file: sites.yml", self.folder)) as running:
            running.wait_until_source_is("sites_file", 0)
            path.write_text("sites: [{ site_id: a, tunnel: 100.89.128.4/30 }]\n")
            running.wait_until_source_is("sites_file", 1)


if __name__ == "__main__":
    program.main()
