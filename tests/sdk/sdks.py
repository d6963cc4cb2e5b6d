"""OpenTelemetry's SDKs as scripts/sdks installs them, and the TypeScript module built from this repository."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
MODULE = REPOSITORY / "exporter/clients/typescript"
TESTS = REPOSITORY / "tests/sdk/typescript"


def installed() -> Path:
    """The folder with node_modules/ and python/."""
    answer = subprocess.run([REPOSITORY / "scripts/sdks"], check=True, stdout=subprocess.PIPE, text=True)
    return Path(answer.stdout.strip())


def compile_typescript(sdks: Path, folder: Path) -> None:
    subprocess.run([sdks / "node_modules/.bin/tsc", "--project", folder, "--outDir", folder / "dist"], check=True)


def build(sdks: Path, folder: Path) -> Path:
    """Compiles the module and its tests in `folder`; the compiled tests' folder."""
    module = folder / "module"
    tests = folder / "tests/sdk/typescript"
    shutil.copytree(MODULE, folder / "exporter/clients/typescript", symlinks=True)
    (folder / "exporter/clients/typescript").rename(module)
    shutil.copytree(TESTS, tests)
    (module / "node_modules").symlink_to(sdks / "node_modules")
    compile_typescript(sdks, module)

    # As in an application that has installed it.
    packages = folder / "tests/node_modules"
    packages.mkdir()
    for package in (sdks / "node_modules").iterdir():
        (packages / package.name).symlink_to(package)
    (packages / "pangolin-metrics").symlink_to(module)
    (folder / "exporter/clients/typescript").symlink_to(module)
    (folder / "tests/package.json").write_text('{ "type": "module" }\n')
    compile_typescript(sdks, tests)
    return tests / "dist"


def environment(**more: str) -> dict[str, str]:
    """Without what the machine's own settings say to OpenTelemetry or to its HTTP clients."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("OTEL_") and not name.lower().endswith("_proxy")
    }
    return kept | more
