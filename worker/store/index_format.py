"""The records of the history index's file and their checksums; pure."""

from __future__ import annotations

import hashlib
import struct
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from isal import isal_zlib

#: Raised with every change of what the rows mean; a file of another format is built anew.
FORMAT: Final = 2

NO_MERGE: Final = -1

BUCKETS: Final = 256
LOG_ROW: Final = 256
BLOCK: Final = 256
UNKNOWN: Final = 0xFFFFFFFF

#: Format, commits, base, tip, next segment, number of segments.
_ROOT = struct.Struct("<IQq20sIH")
#: Number, ids, blocks, CRC-32 of the segment's row.
_SEGMENT = struct.Struct("<IIII")
#: Device, newest position, versions, digest of the newest, last seen in seconds since 1970.
HEAD = struct.Struct("<16sqI8sq")
#: Digest of the version before, commit, time, backup id, flags, then the five details.
VERSION = struct.Struct("<8s20sq16sBIIII")
DETAIL = struct.Struct("<BIIII")
HAS_BACKUP_ID, _HAS_DETAIL, _EXPORT_CHANGED = 1, 2, 4
FIRST = bytes(8)

crc32 = isal_zlib.crc32


class Unusable(Exception):
    """The file is absent, locked, full or not permitted. Never leaves the index."""


class Damaged(Unusable):
    """What the file holds is not what was written, or is of another format: build it anew."""


@dataclass(frozen=True, slots=True)
class Detail:
    """What only a look into the blobs tells about a version."""

    export_changed: bool
    lines_added: int
    lines_removed: int
    export_bytes: int | None
    binary_bytes: int | None

    def pack(self) -> tuple[int, int, int, int, int]:
        return (
            _HAS_DETAIL | (_EXPORT_CHANGED if self.export_changed else 0),
            self.lines_added,
            self.lines_removed,
            UNKNOWN if self.export_bytes is None else self.export_bytes,
            UNKNOWN if self.binary_bytes is None else self.binary_bytes,
        )

    @classmethod
    def unpack(
        cls, flags: int, added: int, removed: int, export_bytes: int, binary_bytes: int
    ) -> Detail | None:
        if not flags & _HAS_DETAIL:
            return None
        return cls(
            bool(flags & _EXPORT_CHANGED),
            added,
            removed,
            None if export_bytes == UNKNOWN else export_bytes,
            None if binary_bytes == UNKNOWN else binary_bytes,
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One version of a device as the index holds it."""

    sha: bytes
    committed_s: int
    backup_id: bytes | None
    message: bytes
    detail: Detail | None

    def without_detail(self) -> Row:
        """What the commit alone tells."""
        return replace(self, detail=None)


@dataclass(frozen=True, slots=True)
class Entry:
    """One commit to be added."""

    sha: bytes
    committed_s: int
    backup_id: bytes | None
    message: bytes
    #: The devices that the commit changed.
    changed: Sequence[bytes]
    #: The device that an unchanged backup is of.
    seen: bytes | None = None
    detail: Detail | None = None

    def as_row(self) -> Row:
        """The version that it is of each device that it changed."""
        return Row(self.sha, self.committed_s, self.backup_id, self.message, self.detail)


@dataclass(frozen=True, slots=True)
class Segment:
    number: int
    count: int
    blocks: int
    crc: int


@dataclass(frozen=True, slots=True)
class Root:
    """What the file is complete for."""

    tip: bytes | None = None
    commits: int = 0
    base: int = NO_MERGE
    next_segment: int = 0
    segments: tuple[Segment, ...] = ()
    buckets: array[int] = field(default_factory=lambda: array("I", bytes(4 * BUCKETS)))

    def pack(self) -> bytes:
        tip = self.tip or bytes(20)
        parts = [
            _ROOT.pack(FORMAT, self.commits, self.base, tip, self.next_segment, len(self.segments)),
            *(_SEGMENT.pack(s.number, s.count, s.blocks, s.crc) for s in self.segments),
            struct.pack(f"<{BUCKETS}I", *self.buckets),
        ]
        data = b"".join(parts)
        return data + hashlib.blake2b(data, digest_size=16).digest()

    @classmethod
    def unpack(cls, record: bytes) -> Root:
        data, digest = record[:-16], record[-16:]
        if hashlib.blake2b(data, digest_size=16).digest() != digest:
            raise Damaged("the root's digest is wrong")
        version, commits, base, tip, next_segment, count = _ROOT.unpack_from(data)
        if version != FORMAT:
            raise Damaged("another format")
        at = _ROOT.size
        end = at + count * _SEGMENT.size
        segments = tuple(Segment(*found) for found in _SEGMENT.iter_unpack(data[at:end]))
        buckets = array("I", struct.unpack_from(f"<{BUCKETS}I", data, end))
        return cls(tip if commits else None, commits, base, next_segment, segments, buckets)


def version_digest(device: bytes, position: int, record: bytes) -> bytes:
    hasher = hashlib.blake2b(device, digest_size=8)
    hasher.update(position.to_bytes(8, "little"))
    hasher.update(record)
    return hasher.digest()


def hash_of(backup_id: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(backup_id, digest_size=8).digest(), "little")


def bucket_of(device: bytes) -> int:
    return int(crc32(device)) % BUCKETS


def integers(record: bytes) -> tuple[Sequence[int], Sequence[int]]:
    """A record's 64-bit numbers, and the 32-bit ones that follow: as many."""
    count = len(record) // 12
    longs, shorts = array("Q"), array("I")
    longs.frombytes(record[: 8 * count])
    shorts.frombytes(record[8 * count :])
    if sys.byteorder == "big":
        longs.byteswap()
        shorts.byteswap()
    return longs, shorts


def find_head(bucket: bytes | bytearray, device: bytes) -> int:
    """Where the device's head begins in its bucket; -1: nowhere."""
    at = bucket.find(device)
    while at >= 0 and at % HEAD.size:
        at = bucket.find(device, at + 1)
    return at


def bucket_crc(number: int, record: bytes) -> int:
    # 0 stands for a bucket that is not there.
    return int(crc32(record, number + 1)) or 1
