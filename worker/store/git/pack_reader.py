"""Reads packs and idx files that may be damaged: each length is checked before it is used; never writes.

Formats: git's Documentation/gitformat-pack.txt and gitformat-signature.txt.
"""

from __future__ import annotations

import hashlib
import os
import struct
import sys
import zlib
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Final

COMMIT, TREE, BLOB, TAG = 1, 2, 3, 4
OFS_DELTA, REF_DELTA = 6, 7
KIND_NAMES: Final = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob", TAG: b"tag"}

#: An object of more bytes is not the store's; a damaged length is not to be believed.
_MOST_BYTES: Final = 1 << 30
_CHUNK: Final = 1 << 20
HASH_BYTES: Final = 20


class BadFile(Exception):
    """A pack, idx or other file of git's is not what it was when it was written."""


class BadObject(Exception):
    """An object is missing, or its bytes are not those that its id stands for."""


@dataclass(frozen=True, slots=True)
class Idx:
    """An idx of version 2, checked."""

    pack_checksum: bytes
    ids: bytes
    offsets: array[int]
    crcs: array[int]

    def __len__(self) -> int:
        return len(self.offsets)

    def id_at(self, number: int) -> bytes:
        """The id with that number in sorted order."""
        return self.ids[number * HASH_BYTES : (number + 1) * HASH_BYTES]


def check_trailer(path: Path) -> bytes:
    """The checksum that a file ends with, if it is that of what stands before.

    Packs, idx files, multi-pack-indexes, commit-graphs, reverse indexes and bitmaps end so.

    Raises:
        BadFile: it is another one.
    """
    hasher = hashlib.sha1(usedforsecurity=False)
    with path.open("rb") as file:
        rest = os.fstat(file.fileno()).st_size - HASH_BYTES
        if rest < 0:
            raise BadFile("too short")
        while rest:
            chunk = file.read(min(_CHUNK, rest))
            if not chunk:
                raise BadFile("it ends early")
            hasher.update(chunk)
            rest -= len(chunk)
        trailer = file.read()
    if trailer != hasher.digest():
        raise BadFile("its checksum is wrong")
    return trailer


def read_idx(path: Path) -> Idx:
    """An idx with all that can be checked without its pack.

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
    crcs, short, long = array("I"), array("I"), array("Q")
    crcs.frombytes(data[at : at + 4 * count])
    short.frombytes(data[at + 4 * count : at + 8 * count])
    long.frombytes(data[at + 8 * count : -40])
    if sys.byteorder == "little":
        for numbers in (crcs, short, long):
            numbers.byteswap()
    offsets = array("Q", bytes(8 * count))
    for number, offset in enumerate(short):
        if offset < 1 << 31:
            offsets[number] = offset
        elif offset & 0x7FFFFFFF < len(long):
            offsets[number] = long[offset & 0x7FFFFFFF]
        else:
            raise BadFile("an offset is wrong")
    return Idx(data[-40:-20], ids, offsets, crcs)


class PackReader:
    """One pack with its idx. Raises `BadFile` if the two do not belong together."""

    def __init__(self, path: Path, idx: Idx) -> None:
        self.path = path
        self.idx = idx
        self._file = path.open("rb")
        size = os.fstat(self._file.fileno()).st_size
        header = self._file.read(12)
        self._file.seek(max(0, size - HASH_BYTES))
        if (
            size < 32
            or header[:8] != b"PACK\0\0\0\2"
            or int.from_bytes(header[8:], "big") != len(idx)
        ):
            self.close()
            raise BadFile("no pack of version 2 with as many objects as its idx")
        if self._file.read() != idx.pack_checksum:
            self.close()
            raise BadFile("its idx is of another pack")
        order = sorted(range(len(idx)), key=idx.offsets.__getitem__)
        #: The numbers of the objects in the order in which they stand in the pack.
        self.order: list[int] = order
        ends = [*(idx.offsets[number] for number in order[1:]), size - HASH_BYTES]
        self._end = {idx.offsets[number]: end for number, end in zip(order, ends, strict=True)}
        self._number = {idx.offsets[number]: number for number in order}

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def entry(self, offset: int) -> bytes:
        """The bytes of the entry at `offset`."""
        end = self._end.get(offset)
        if end is None or not 12 <= offset < end:
            raise BadObject("no entry begins there")
        data = os.pread(self._file.fileno(), end - offset, offset)
        if len(data) != end - offset:
            raise BadObject("the pack ends early")
        number = self._number[offset]
        if zlib.crc32(data) != self.idx.crcs[number]:
            raise BadObject("its bytes in the pack are not those that the idx vouches for")
        return data


def distance_back(entry: bytes, at: int) -> tuple[int, int]:
    """How far back a delta's base stands, and where that number ends.

    Raises:
        BadObject: it does not end.
    """
    try:
        byte = entry[at]
        distance = byte & 0x7F
        while byte & 0x80:
            at += 1
            byte = entry[at]
            distance = (distance + 1) << 7 | byte & 0x7F
    except IndexError as error:
        raise BadObject("its header is wrong") from error
    return distance, at + 1


def inflate(packed: bytes, size: int | None) -> bytes:
    """What is deflated, which must be `size` bytes; None: any number that is to be believed.

    Raises:
        BadObject: it is damaged, or of another size.
    """
    if size is not None and size > _MOST_BYTES:
        raise BadObject("its length is not to be believed")
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(packed, (_MOST_BYTES if size is None else size) + 1)
    except zlib.error as error:
        raise BadObject("it cannot be inflated") from error
    if not inflater.eof or inflater.unused_data or (size is not None and len(data) != size):
        raise BadObject("its length is wrong")
    return data


def apply_delta(base: bytes, delta: bytes) -> bytes:
    """The object that a delta makes of its base.

    Raises:
        BadObject: an instruction reaches outside.
    """
    try:
        base_size, at = _delta_size(delta, 0)
        size, at = _delta_size(delta, at)
        if base_size != len(base):
            raise BadObject("its delta is of another base")
        parts: list[bytes] = []
        while at < len(delta):
            code = delta[at]
            at += 1
            if code & 0x80:
                offset = length = 0
                for bit in range(4):
                    if code & 1 << bit:
                        offset |= delta[at] << 8 * bit
                        at += 1
                for bit in range(3):
                    if code & 0x10 << bit:
                        length |= delta[at] << 8 * bit
                        at += 1
                length = length or 0x10000
                if offset + length > base_size:
                    raise BadObject("its delta reaches outside its base")
                parts.append(base[offset : offset + length])
            elif code and at + code <= len(delta):
                parts.append(delta[at : at + code])
                at += code
            else:
                raise BadObject("its delta is damaged")
    except IndexError as error:
        raise BadObject("its delta is damaged") from error
    data = b"".join(parts)
    if len(data) != size:
        raise BadObject("its delta is damaged")
    return data


def _delta_size(delta: bytes, at: int) -> tuple[int, int]:
    size = shift = 0
    while True:
        byte = delta[at]
        size |= (byte & 0x7F) << shift
        shift += 7
        at += 1
        if not byte & 0x80:
            return size, at
