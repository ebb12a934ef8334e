"""Reads an idx that may be damaged: each length is checked before it is used."""

from __future__ import annotations

import hashlib
import struct
import sys
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HASH_BYTES: Final = 20


class BadFile(Exception):
    """An idx is damaged."""


@dataclass(frozen=True, slots=True)
class Idx:
    """The parsed content of an idx of version 2, checked."""

    ids: bytes
    offsets: array[int]

    def __len__(self) -> int:
        return len(self.offsets)

    def id_at(self, number: int) -> bytes:
        """The id with that number in sorted order."""
        return self.ids[number * HASH_BYTES : (number + 1) * HASH_BYTES]


def read_idx(path: Path) -> Idx:
    """Read an idx and check all that can be checked without its pack.

    Raises:
        BadFile: it is damaged, or not of version 2.
    """
    data = path.read_bytes()
    if len(data) < 8 + 1024 + 40 or data[:8] != b"\xfftOc\0\0\0\2":
        raise BadFile("no idx of version 2")
    if hashlib.sha1(data[:-20], usedforsecurity=False).digest() != data[-20:]:
        raise BadFile("its checksum is wrong")
    fanout = struct.unpack(">256L", data[8:1032])
    count = fanout[-1]
    if list(fanout) != sorted(fanout) or len(data) < 1032 + 28 * count + 40:
        raise BadFile("its table of contents is wrong")
    at = 1032 + 20 * count
    ids = data[1032:at]
    short, long = array("I"), array("Q")
    short.frombytes(data[at + 4 * count : at + 8 * count])
    long.frombytes(data[at + 8 * count : -40])
    if sys.byteorder == "little":
        for numbers in (short, long):
            numbers.byteswap()
    offsets = array("Q", bytes(8 * count))
    for number, offset in enumerate(short):
        if offset < 1 << 31:
            offsets[number] = offset
        elif offset & 0x7FFFFFFF < len(long):
            offsets[number] = long[offset & 0x7FFFFFFF]
        else:
            raise BadFile("an offset is wrong")
    return Idx(ids, offsets)
