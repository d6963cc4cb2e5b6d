"""The TypeScript module: it is what the catalogue says, its types are strict, and its own tests pass on Node."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import sdks

exporter = sdks.REPOSITORY / "build/pangolin_exporter"


class TypeScriptModule(unittest.TestCase):
    def test_is_generated_from_the_catalogue(self):
        generator = sdks.REPOSITORY / "scripts/generate-typescript"
        result = subprocess.run([generator, "--check", "--exporter", exporter], capture_output=True, text=True)
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_lock_file_names_no_registry(self):
        packages = json.loads((sdks.MODULE / "package-lock.json").read_text())["packages"]
        self.assertGreater(len(packages), 10)
        for path, package in packages.items():
            self.assertNotIn("resolved", package, path)
            self.assertTrue(path == "" or package["integrity"].startswith("sha512-"), path)

    def test_compiles_and_passes_its_tests(self):
        with tempfile.TemporaryDirectory(prefix="pangolin_exporter-test-") as folder:
            tests = sdks.build(sdks.installed(), Path(folder))
            # --test-reporter: what a person reads, also without a terminal.
            command = ["node", "--test", "--test-reporter=spec", tests / "module.test.js"]
            result = subprocess.run(
                command, cwd=tests, env=sdks.environment(), capture_output=True, text=True, timeout=120
            )
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
            self.assertRegex(result.stdout, r"pass [1-9]\d*\n", result.stdout)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--exporter", type=Path, default=exporter)
    options, rest = parser.parse_known_args()
    exporter = options.exporter
    unittest.main(argv=[sys.argv[0], *rest])
