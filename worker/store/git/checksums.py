"""Checks files that end with their checksum: packs, idx files, and those that make git faster."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def trailer_problem(file: Path) -> str | None:
    """Why a file does not end with its checksum; None if it does, or was removed."""
    hasher = hashlib.sha1(usedforsecurity=False)
    try:
        with file.open("rb") as opened:
            rest = os.fstat(opened.fileno()).st_size - 20
            if rest < 0:
                return "too short"
            while rest and (chunk := opened.read(min(1 << 20, rest))):
                hasher.update(chunk)
                rest -= len(chunk)
            return None if opened.read() == hasher.digest() else "its checksum is wrong"
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        return "it is a folder"


def end_of(file: Path, size: int) -> bytes:
    """The last bytes of a file, or all of a shorter one."""
    with file.open("rb") as opened:
        opened.seek(-min(size, os.fstat(opened.fileno()).st_size), os.SEEK_END)
        return opened.read()


def unreadable_pack(folder: Path) -> str | None:
    """The name of an idx or pack whose objects may seem to be missing; None if there is none.

    Reads each idx, which names its objects, and of a pack what a torn one lacks: its two ends.
    """
    for idx in sorted(folder.glob("pack-*.idx")):
        if trailer_problem(idx) is not None:
            return idx.name
        pack = idx.with_suffix(".pack")
        try:
            with pack.open("rb") as opened:
                begins = opened.read(4) == b"PACK"
            if not begins or end_of(pack, 20) != end_of(idx, 40)[:20]:
                return pack.name
        except FileNotFoundError:
            # A repack removes the idx first.
            if idx.exists():
                return pack.name
    return None
