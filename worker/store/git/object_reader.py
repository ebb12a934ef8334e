"""Reads git's objects from damaged files without harm: own parsers, no libgit2, no mmap; never writes.

libgit2 maps packs into memory, caches them by path, and trusts some files that git does not; a
truncated mapping ends the process. Here every length is checked before it is used, and whatever
is wrong becomes `BadObject` or `BadFile`.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from worker.store.git.pack_reader import (
    BLOB,
    HASH_BYTES,
    KIND_NAMES,
    OFS_DELTA,
    REF_DELTA,
    BadObject,
    PackReader,
    apply_delta,
    distance_back,
    inflate,
)

#: Bytes of objects that are kept because they may be the base of the next delta.
_CACHE_BYTES: Final = 64 << 20


class ObjectReader:
    """All objects of a repository, each checked against its id as it is read."""

    def __init__(self, objects: Path) -> None:
        self._objects = objects
        self.packs: list[PackReader] = []
        #: Where each packed object stands; the first of several.
        self._where: dict[bytes, tuple[int, int]] = {}
        self._cache: OrderedDict[tuple[int, int], tuple[int, bytes]] = OrderedDict()
        self._cached_bytes = 0
        #: Asked before an object is called missing: adds packs that are new, and says whether there were
        #: any. A repack may have packed it since.
        self.look_again: Callable[[], bool] = lambda: False

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
            try:
                names = sorted(os.listdir(folder))
            except FileNotFoundError:
                continue  # Git removes folders that it empties.
            for name in names:
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
        return id_ in self._where or self._loose_path(id_).is_file() or self._is_new(id_)

    def _is_new(self, id_: bytes) -> bool:
        """Whether an object is in a pack after all."""
        return id_ in self._where or (self.look_again() and id_ in self._where)

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
            if self._is_new(id_):
                return self.read_at(*self._where[id_])
            raise BadObject("it is missing") from error
        header, _, data = inflate(packed, None).partition(b"\0")
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
            if kind == OFS_DELTA:
                distance, at = distance_back(entry, at)
                base = (pack, offset - distance)
            elif kind == REF_DELTA:
                found = self._where.get(entry[at : at + HASH_BYTES])
                at += HASH_BYTES
                if found is None:
                    raise BadObject("the base of its delta is missing")
                base = found
            else:
                data = inflate(entry[at:], size)
                if kind not in KIND_NAMES:
                    raise BadObject("it is of no known kind")
                self._keep((pack, offset), kind, data)
                break
            pending.append((offset, inflate(entry[at:], size)))
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
