"""Reads git's objects from damaged files without harm: own parsers, no libgit2, no mmap; never writes.

libgit2 maps packs into memory, caches them by path, and trusts some files that git does not; a
truncated mapping ends the process. Here every length is checked before it is used, and whatever
is wrong becomes `BadObject` or `BadFile`.

Formats: git's Documentation/gitformat-pack.txt and gitformat-signature.txt.
"""

from __future__ import annotations

import hashlib
import os
import struct
import sys
import zlib
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

COMMIT, TREE, BLOB, TAG = 1, 2, 3, 4
_OFS_DELTA, _REF_DELTA = 6, 7
KIND_NAMES: Final = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob", TAG: b"tag"}

#: An object of more bytes is not the store's; a damaged length is not to be believed.
_MOST_BYTES: Final = 1 << 30
#: Bytes of objects that are kept because they may be the base of the next delta.
_CACHE_BYTES: Final = 64 << 20
_CHUNK: Final = 1 << 20
_HASH_BYTES: Final = 20


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
        return self.ids[number * _HASH_BYTES : (number + 1) * _HASH_BYTES]


def check_trailer(path: Path) -> bytes:
    """The checksum that a file ends with, if it is that of what stands before.

    Packs, idx files, multi-pack-indexes, commit-graphs, reverse indexes and bitmaps end so.

    Raises:
        BadFile: it is another one.
    """
    hasher = hashlib.sha1(usedforsecurity=False)
    with path.open("rb") as file:
        rest = os.fstat(file.fileno()).st_size - _HASH_BYTES
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
        self._file.seek(max(0, size - _HASH_BYTES))
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
        ends = [*(idx.offsets[number] for number in order[1:]), size - _HASH_BYTES]
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


class ObjectReader:
    """All objects of a repository, each checked against its id as it is read."""

    def __init__(self, objects: Path) -> None:
        self._objects = objects
        self.packs: list[PackReader] = []
        #: Where each packed object stands; the first of several.
        self._where: dict[bytes, tuple[int, int]] = {}
        self._cache: OrderedDict[tuple[int, int], tuple[int, bytes]] = OrderedDict()
        self._cached_bytes = 0

    def add(self, pack: PackReader) -> None:
        """Read from this pack too."""
        number = len(self.packs)
        self.packs.append(pack)
        for at, offset in enumerate(pack.idx.offsets):
            self._where.setdefault(pack.idx.id_at(at), (number, offset))

    def close(self) -> None:
        """Release all files."""
        for pack in self.packs:
            pack.close()

    def loose_ids(self) -> Iterator[bytes]:
        """The ids of all loose objects, as their names give them."""
        for folder in sorted(self._objects.glob("[0-9a-f][0-9a-f]")):
            for name in sorted(os.listdir(folder)):
                if len(name) == 38 and not set(name) - set("0123456789abcdef"):
                    yield bytes.fromhex(folder.name + name)

    def read(self, id_: bytes, kind: int | None = None) -> bytes:
        """An object's bytes.

        Raises:
            BadObject: it is missing, damaged or not of that kind.
        """
        found = self._where.get(id_)
        real, data = self._read_loose(id_) if found is None else self.read_at(*found)
        self.check(id_, real, data)
        if kind is not None and real != kind:
            raise BadObject(f"it is a {KIND_NAMES[real].decode()}")
        return data

    @staticmethod
    def check(id_: bytes, kind: int, data: bytes) -> None:
        """Whether bytes are those that an id stands for."""
        hasher = hashlib.sha1(b"%s %d\0" % (KIND_NAMES[kind], len(data)), usedforsecurity=False)
        hasher.update(data)
        if hasher.digest() != id_:
            raise BadObject("its bytes are not those that its id stands for")

    def __contains__(self, id_: bytes) -> bool:
        return id_ in self._where or self._loose_path(id_).is_file()

    def _loose_path(self, id_: bytes) -> Path:
        text = id_.hex()
        return self._objects / text[:2] / text[2:]

    def read_loose(self, id_: bytes) -> None:
        """Check a loose object, also one that a pack holds as well."""
        self.check(id_, *self._read_loose(id_))

    def _read_loose(self, id_: bytes) -> tuple[int, bytes]:
        try:
            packed = self._loose_path(id_).read_bytes()
        except FileNotFoundError as error:
            raise BadObject("it is missing") from error
        header, _, data = _inflate(packed, None).partition(b"\0")
        for kind, name in KIND_NAMES.items():
            if header == b"%s %d" % (name, len(data)):
                return kind, data
        raise BadObject("its header is wrong")

    def read_at(self, pack: int, offset: int) -> tuple[int, bytes]:
        """Kind and bytes of the packed object at `offset`, its deltas applied; id unchecked."""
        pending: list[tuple[int, bytes]] = []
        seen: set[int] = set()
        while True:
            cached = self._cache.get((pack, offset))
            if cached is not None:
                self._cache.move_to_end((pack, offset))
                kind, data = cached
                break
            if offset in seen:
                raise BadObject("its deltas go in a circle")
            seen.add(offset)
            kind, size, at, entry = self._entry(pack, offset)
            if kind == _OFS_DELTA:
                distance, at = _distance(entry, at)
                base = (pack, offset - distance)
            elif kind == _REF_DELTA:
                found = self._where.get(entry[at : at + _HASH_BYTES])
                at += _HASH_BYTES
                if found is None:
                    raise BadObject("the base of its delta is missing")
                base = found
            else:
                data = _inflate(entry[at:], size)
                if kind not in KIND_NAMES:
                    raise BadObject("it is of no known kind")
                self._keep((pack, offset), kind, data)
                break
            pending.append((offset, _inflate(entry[at:], size)))
            if base[0] != pack:
                # Only thin packs that git completed refer across; none of ours does.
                raise BadObject("the base of its delta is in another pack")
            offset = base[1]
        while pending:
            offset, delta = pending.pop()
            data = apply_delta(data, delta)
            self._keep((pack, offset), kind, data)
        return kind, data

    def _entry(self, pack: int, offset: int) -> tuple[int, int, int, bytes]:
        entry = self.packs[pack].entry(offset)
        byte, at = entry[0], 1
        kind, size, shift = byte >> 4 & 7, byte & 15, 4
        while byte & 0x80:
            if at >= len(entry) or shift > 40:
                raise BadObject("its header is wrong")
            byte = entry[at]
            size |= (byte & 0x7F) << shift
            shift += 7
            at += 1
        return kind, size, at, entry

    def _keep(self, key: tuple[int, int], kind: int, data: bytes) -> None:
        if len(data) > _CACHE_BYTES // 8 or key in self._cache or kind == BLOB:
            return
        self._cache[key] = (kind, data)
        self._cached_bytes += len(data)
        while self._cached_bytes > _CACHE_BYTES:
            _key, (_kind, dropped) = self._cache.popitem(last=False)
            self._cached_bytes -= len(dropped)


def _distance(entry: bytes, at: int) -> tuple[int, int]:
    """How far back a delta's base stands, and where that number ends."""
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


def _inflate(packed: bytes, size: int | None) -> bytes:
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


def _inflate_from(data: bytes, at: int) -> tuple[bytes, int]:
    """What is deflated from `at` on, and where that ends."""
    inflater, parts = zlib.decompressobj(), []
    try:
        while not inflater.eof:
            window = data[at : at + 4096]
            if not window:
                raise BadObject("the pack ends early")
            parts.append(inflater.decompress(window))
            at += len(window)
    except zlib.error as error:
        raise BadObject("it cannot be inflated") from error
    return b"".join(parts), at - len(inflater.unused_data)


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


def entries_without_idx(path: Path) -> list[tuple[bytes, int, int]]:
    """Id, offset and CRC-32 of each object of an intact pack, found without its idx.

    Raises:
        BadFile: the pack's own checksum is wrong.
        BadObject: an object in it makes no sense.
    """
    check_trailer(path)
    data = path.read_bytes()
    if data[:8] != b"PACK\0\0\0\2":
        raise BadFile("no pack of version 2")
    known: dict[int, tuple[int, bytes]] = {}
    by_id: dict[bytes, int] = {}
    spans: list[tuple[bytes, int, int]] = []
    waiting: list[tuple[int, int, bytes, bytes]] = []
    at = 12

    def add(offset: int, end: int, kind: int, content: bytes) -> None:
        head = b"%s %d\0" % (KIND_NAMES[kind], len(content))
        id_ = hashlib.sha1(head + content, usedforsecurity=False).digest()
        known[offset] = (kind, content)
        by_id[id_] = offset
        spans.append((id_, offset, zlib.crc32(data[offset:end])))

    for _ in range(int.from_bytes(data[8:12], "big")):
        offset = at
        byte = data[at]
        kind = byte >> 4 & 7
        at += 1
        while byte & 0x80:
            byte = data[at]
            at += 1
        base: bytes = b""
        if kind == _OFS_DELTA:
            distance, at = _distance(data, at)
            base = (offset - distance).to_bytes(8, "big")
        elif kind == _REF_DELTA:
            base = data[at : at + _HASH_BYTES]
            at += _HASH_BYTES
        content, at = _inflate_from(data, at)
        if base:
            waiting.append((offset, at, base, content))
        else:
            add(offset, at, kind, content)
    while waiting:
        left = []
        for offset, end, base, delta in waiting:
            at_base = int.from_bytes(base, "big") if len(base) == 8 else by_id.get(base, -1)
            if at_base in known:
                kind, content = known[at_base]
                add(offset, end, kind, apply_delta(content, delta))
            else:
                left.append((offset, end, base, delta))
        if len(left) == len(waiting):
            raise BadObject("the base of a delta is missing")
        waiting = left
    return spans
