"""Finds the objects of an intact pack whose idx is lost; it only reads."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

from worker.store.git.pack_reader import (
    HASH_BYTES,
    KIND_NAMES,
    OFS_DELTA,
    REF_DELTA,
    BadFile,
    BadObject,
    apply_delta,
    check_trailer,
    distance_back,
)


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
        if kind == OFS_DELTA:
            distance, at = distance_back(data, at)
            base = (offset - distance).to_bytes(8, "big")
        elif kind == REF_DELTA:
            base = data[at : at + HASH_BYTES]
            at += HASH_BYTES
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
