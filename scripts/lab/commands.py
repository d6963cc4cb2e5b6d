"""Running other programs, and the one error that the lab shows to people."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence


class LabError(Exception):
    """Something the lab cannot do here; the text says what, and what to do about it."""


# The package that has the program, for the hint when it is missing.
PACKAGE_OF = {"ip": "iproute2", "wg": "wireguard-tools", "wireguard-go": "wireguard-go", "nginx": "nginx"}


def require_program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise LabError(f"{name} is not installed. HINT: Run apt-get install {PACKAGE_OF.get(name, name)}.")
    return path


def run(
    arguments: Sequence[str], *, standard_input: str | None = None, check: bool = True, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end, output captured as text; a failure becomes a LabError with what it said."""
    result = subprocess.run(
        list(arguments), input=standard_input, text=True, capture_output=True, timeout=timeout
    )
    if check and result.returncode != 0:
        said = (result.stderr or result.stdout).strip()
        raise LabError(f"`{' '.join(arguments)}` failed with status {result.returncode}: {said}")
    return result
