"""Verifies refs and HEAD byte by byte: what git tolerates is a finding too."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from worker.store.git.refs import MAIN_REF
from worker.store.upkeep.verify_report import Kind, Report

_ID_LINE = re.compile(rb"[0-9a-f]{40}\n")
_HEAD_LINE = re.compile(rb"ref: (refs/heads/[!-~]+)\n|[0-9a-f]{40}\n")
_PACKED_LINE = re.compile(rb"([0-9a-f]{40}) (refs/[^\x00-\x20\x7f~^:?*\[\\]+)\n")
_PEELED_LINE = re.compile(rb"\^[0-9a-f]{40}\n")
_PACKED_HEADERS: Final = frozenset(
    {
        b"# pack-refs with: peeled fully-peeled sorted \n",
        b"# pack-refs with: peeled fully-peeled \n",
        b"# pack-refs with: peeled \n",
    }
)


def check_refs(report: Report) -> dict[str, bytes]:
    """Check HEAD, loose refs and packed refs.

    Returns:
        The ids that refs name, with those of packed refs that a loose one overrides.
    """
    path, tips = report.path, dict[str, bytes]()
    if (path / MAIN_REF).is_dir():
        report.add(Kind.REF, MAIN_REF, "it is a folder")
    for folder, _folders, names in sorted(os.walk(path / "refs")):
        for name in sorted(names):
            file = Path(folder, name)
            place = file.relative_to(path).as_posix()
            if name.endswith(".lock"):
                continue  # a leftover, or somebody's at this moment
            data = _bytes_of(file)
            if data is not None and _ID_LINE.fullmatch(data):
                tips[place] = bytes.fromhex(data.decode("ascii"))
            elif data is not None and (place == MAIN_REF or not data.startswith(b"ref: refs/")):
                report.add(Kind.REF, place, "it does not hold an object's id")
    _check_packed_refs(report, tips)
    head = _bytes_of(path / "HEAD")
    found = None if head is None else _HEAD_LINE.fullmatch(head)
    if head is None or not found:
        report.add(Kind.HEAD, "HEAD", "it names neither a branch nor a commit")
    elif found[1] and found[1].decode("ascii") not in tips and tips:
        report.add(Kind.HEAD, "HEAD", "it names a branch without commits")
    elif not found[1]:
        tips["HEAD"] = bytes.fromhex(head.decode("ascii"))
    return tips


def _check_packed_refs(report: Report, tips: dict[str, bytes]) -> None:
    data = _bytes_of(report.path / "packed-refs") or b""
    for number, line in enumerate(data.splitlines(keepends=True)):
        found = _PACKED_LINE.fullmatch(line)
        if found:
            name = found[2].decode("utf-8", "replace")
            # A loose ref overrides a packed one, which is then old, but not wrong.
            place = f"packed {name}" if name in tips else name
            tips[place] = bytes.fromhex(found[1].decode("ascii"))
        elif not _PEELED_LINE.fullmatch(line) and (number or line not in _PACKED_HEADERS):
            report.add(Kind.REF, "packed-refs", f"line {number + 1} is no ref")


def _bytes_of(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        return None
