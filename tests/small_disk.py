"""Starts a program that sees a small disk in the place of a folder: a tmpfs in a mount namespace of its own.

However the program ends, the disk goes with it. `of` is the folder as the program sees it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

#: The script's own exit code where the disk cannot be mounted.
_NO_DISK = 77
_SCRIPT = 'mount -t tmpfs -o "$0" confkeep-test "$1" || exit {}; shift; exec "$@"'


def command(folder: Path, options: str, program: Sequence[str | Path]) -> list[str]:
    """The command that runs `program` with a small disk in the place of `folder`.

    Args:
        options: of the mount, such as `size=1m`.
    """
    if os.geteuid() or shutil.which("unshare") is None:
        pytest.skip("mounting a small disk needs root and unshare: THE FULL DISK IS NOT TESTED")
    alone = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
    words = [*alone, _SCRIPT.format(_NO_DISK), options, str(folder), *map(str, program)]
    tried = subprocess.run(
        [*words[:9], "true"], capture_output=True, text=True, check=False, timeout=30
    )
    if tried.returncode == _NO_DISK or "unshare" in tried.stderr:
        pytest.skip(f"no small disk can be mounted: THE FULL DISK IS NOT TESTED: {tried.stderr}")
    return words


def of(pid: int, folder: Path) -> Path:
    """The small disk of a process that runs."""
    return Path(f"/proc/{pid}/root", *folder.absolute().parts[1:])


def fill(folder: Path) -> Path:
    """Fill the disk to the last byte; returns the file to remove."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    return ballast
