"""Git's pack, idx and tree formats as pure functions over bytes.

A pack is `PACK`, version 2, a count, that many entries and the SHA-1 of all that. An entry is a
header (kind and inflated size), for a delta the distance back to its base's entry, and a zlib
stream. The idx (version 2) lists id, CRC-32 and offset of each entry, sorted by id. Both are
described in `git help gitformat-pack`; trees in `git help gitrepository-layout`'s companions
and, in one line, here: `mode SP name NUL id`, sorted as if each folder's name ended in "/".
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from isal import isal_zlib

COMMIT: Final = 1
TREE: Final = 2
BLOB: Final = 3
_OFS_DELTA: Final = 6

#: Git's names of the kinds, as in an object's header.
KIND_NAMES: Final = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob"}

#: igzip's level: 1 leaves random bytes as they are at 1.5 GB/s; 2 and 3 gain 1 % on exports.
_LEVEL: Final = 1

#: Bytes deflated in one piece.
PIECE_BYTES: Final = 1 << 20

#: Bytes of each sample that tells whether deflating is worthwhile.
_SAMPLE_BYTES: Final = 1024

#: A sample whose deflated size is above this is treated as random bytes.
_RANDOM_BYTES: Final = 1280

#: Data up to this size, mostly ids, is not worth deflating.
_TINY_BYTES: Final = 96

#: Data up to this size, usually a commit, is deflated at level 0: 0.5 us instead of 3.5 at level 1,
#: which builds its own code and saves 100 bytes.
_SMALL_BYTES: Final = 1024

#: Shorter pieces are copied together, not yielded one by one.
_JOINED_BYTES: Final = 4096

#: The longest stored block of a deflate stream.
_STORED_MAX: Final = 0xFFFF

#: The longest run that one copy instruction of a delta can name (three bytes of size).
_COPY_MAX: Final = 0xFFFFFF

#: Offsets from here on stand in the idx's table of 8-byte offsets.
_OFFSET_31_BITS: Final = 0x80000000

FOLDER_MODE: Final = b"40000"


def object_id(kind: int, data: bytes | bytearray) -> bytes:
    """The id of an object that we made, 20 bytes.

    Not for bytes that come from devices: `hashlib` does not notice crafted SHA-1 collisions.
    """
    digest = hashlib.sha1(b"%s %d\0" % (KIND_NAMES[kind], len(data)), usedforsecurity=False)
    digest.update(data)
    return digest.digest()


@dataclass(slots=True)
class PackObject:
    """An object to be written to a pack."""

    kind: int
    #: The object's id, 20 bytes.
    id: bytes
    #: Its bytes; for a delta, the delta's instructions.
    data: bytes | memoryview
    #: The id of an earlier object in the same pack, against which `data` is a delta.
    base_id: bytes | None = None
    #: `data` as a zlib stream, if it was deflated already.
    deflated: Sequence[bytes | memoryview] | None = None


class IdxEntry(NamedTuple):
    """Where an object stands in its pack."""

    id: bytes
    crc32: int
    offset: int


class PackEncoder:
    """The bytes of a pack, made while they are iterated over; then its checksum and its idx."""

    def __init__(self, objects: Sequence[PackObject]) -> None:
        """Encode `objects`: no id may be there twice, and a base comes before its deltas."""
        self._objects = objects
        self._entries: list[IdxEntry] = []
        #: The pack's SHA-1 over all that is before it; set when all pieces were taken.
        self.checksum = b""

    def __iter__(self) -> Iterator[bytes | memoryview]:
        digest = hashlib.sha1(usedforsecurity=False)
        header = struct.pack(">4sLL", b"PACK", 2, len(self._objects))
        digest.update(header)
        yield header
        offset = len(header)
        offsets: dict[bytes, int] = {}
        for item in self._objects:
            start = _entry_header(item.kind if item.base_id is None else _OFS_DELTA, len(item.data))
            if item.base_id is not None:
                start += _distance(offset - offsets[item.base_id])
            crc32 = size = 0
            for piece in deflate(item.data) if item.deflated is None else item.deflated:
                if not size and len(piece) < _JOINED_BYTES:
                    # One short piece is cheaper than two.
                    piece = start + piece
                elif not size:
                    digest.update(start)
                    crc32, size = isal_zlib.crc32(start), len(start)
                    yield start
                digest.update(piece)
                crc32, size = isal_zlib.crc32(piece, crc32), size + len(piece)
                yield piece
            self._entries.append(IdxEntry(item.id, crc32, offset))
            offsets[item.id] = offset
            offset += size
        self.checksum = digest.digest()
        yield self.checksum

    def idx(self) -> bytes:
        """The idx of the pack, version 2."""
        return encode_idx(self._entries, self.checksum)


def encode_idx(written: Iterable[IdxEntry], pack_checksum: bytes) -> bytes:
    """The idx, version 2, of a pack."""
    entries = sorted(written)
    counts = [0] * 256
    for entry in entries:
        counts[entry.id[0]] += 1
    total = 0
    fanout = [total := total + count for count in counts]
    short: list[int] = []
    long: list[int] = []
    for entry in entries:
        if entry.offset < _OFFSET_31_BITS:
            short.append(entry.offset)
        else:
            short.append(_OFFSET_31_BITS | len(long))
            long.append(entry.offset)
    count = len(entries)
    body = b"".join(
        (
            b"\xfftOc",
            struct.pack(">L256L", 2, *fanout),
            *(entry.id for entry in entries),
            struct.pack(f">{count}L", *(entry.crc32 for entry in entries)),
            struct.pack(f">{count}L", *short),
            struct.pack(f">{len(long)}Q", *long),
            pack_checksum,
        )
    )
    return body + hashlib.sha1(body, usedforsecurity=False).digest()


def idx_holds_any(idx: bytes, ids: Iterable[bytes]) -> bool:
    """Whether an idx of version 2 lists one of the objects."""
    fanout = (0, *struct.unpack_from(">256L", idx, 8))
    for id_ in ids:
        names = idx[1032 + 20 * fanout[id_[0]] : 1032 + 20 * fanout[id_[0] + 1]]
        if any(names[at : at + 20] == id_ for at in range(0, len(names), 20)):
            return True
    return False


def deflate(data: bytes | memoryview) -> Iterator[bytes | memoryview]:
    """A zlib stream of `data`, in pieces; if it does not shrink, as slices of the data itself."""
    if _is_random(data):
        yield from _store(data)
    elif len(data) <= PIECE_BYTES:
        yield isal_zlib.compress(data, 0 if len(data) <= _SMALL_BYTES else _LEVEL)
    else:
        # So that a large backup is not in memory a second time.
        compressor = isal_zlib.compressobj(_LEVEL)
        with memoryview(data) as view:
            for start in range(0, len(view), PIECE_BYTES):
                yield compressor.compress(view[start : start + PIECE_BYTES])
        yield compressor.flush()


def deflate_part(data: bytes | memoryview) -> bytes:
    """Part of a zlib stream (see `join_parts`); it refers to no other part and ends at a whole byte."""
    part = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -isal_zlib.MAX_WBITS)
    return part.compress(data) + part.flush(isal_zlib.Z_SYNC_FLUSH)


def join_parts(parts: Iterable[bytes], data: bytes) -> list[bytes]:
    """The zlib stream of `data` from those of its parts, in pieces."""
    # An empty last block of the fixed code ends the blocks.
    return [b"\x78\x01", *parts, b"\x03\0" + struct.pack(">L", isal_zlib.adler32(data))]


def _is_random(data: bytes | memoryview) -> bool:
    """Whether no part shrinks, as in an encrypted `.backup` or an id. Takes 6 us; trying takes 30.

    Level 0 uses one fixed code, which makes random bytes a third longer, and compressible ones much
    less so.
    """
    size = len(data)
    if size <= 8 * _SAMPLE_BYTES:
        return size <= _TINY_BYTES
    return all(
        len(isal_zlib.compress(data[start : start + _SAMPLE_BYTES], 0)) > _RANDOM_BYTES
        for start in (0, size // 2, size - _SAMPLE_BYTES)
    )


def _store(data: bytes | memoryview) -> Iterator[bytes | memoryview]:
    """A zlib stream of stored blocks (RFC 1950 and 1951, 3.2.4), without compression."""
    if len(data) <= _TINY_BYTES:
        header = b"\x78\x01" + struct.pack("<BHH", 1, len(data), len(data) ^ 0xFFFF)
        yield b"".join((header, data, struct.pack(">L", isal_zlib.adler32(data))))
        return
    view, start = memoryview(data), b"\x78\x01"
    for at in range(0, len(view), _STORED_MAX):
        block = view[at : at + _STORED_MAX]
        last = at + _STORED_MAX >= len(view)
        yield start + struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF)
        yield block
        start = b""
    yield struct.pack(">L", isal_zlib.adler32(view))


def _entry_header(kind: int, size: int) -> bytes:
    byte, size = (kind << 4) | (size & 15), size >> 4
    header = bytearray()
    while size:
        header.append(byte | 0x80)
        byte, size = size & 0x7F, size >> 7
    header.append(byte)
    return bytes(header)


def _distance(distance: int) -> bytes:
    """The offset encoding of OFS_DELTA: each further byte stands for one more than its bits."""
    encoded = bytearray([distance & 0x7F])
    while distance := distance >> 7:
        distance -= 1
        encoded.append(0x80 | (distance & 0x7F))
    encoded.reverse()
    return bytes(encoded)


@dataclass(frozen=True, slots=True)
class Edit:
    """Replaces `removed` bytes at `offset` of a delta's base by `inserted`."""

    offset: int
    removed: int
    inserted: bytes


def encode_delta(base_size: int, edits: Iterable[Edit]) -> bytes:
    """The instructions that turn a base of `base_size` bytes into the edited one.

    Args:
        edits: sorted by offset, without overlaps; each inserts 1 to 127 bytes.
    """
    body = bytearray()
    done = result_size = 0
    for edit in edits:
        _copy(body, done, edit.offset - done)
        body.append(len(edit.inserted))
        body += edit.inserted
        result_size += edit.offset - done + len(edit.inserted)
        done = edit.offset + edit.removed
    _copy(body, done, base_size - done)
    result_size += base_size - done
    return _delta_size(base_size) + _delta_size(result_size) + bytes(body)


def _copy(body: bytearray, offset: int, size: int) -> None:
    while size > 0:
        run = min(size, _COPY_MAX)
        # Write all four bytes of the offset and all three of the size, even zeros: that makes the
        # delta a few bytes longer, and takes a tenth of the time.
        body += struct.pack("<BIHB", 0xFF, offset, run & 0xFFFF, run >> 16)
        offset += run
        size -= run


def _delta_size(size: int) -> bytes:
    encoded = bytearray()
    while size > 0x7F:
        encoded.append(0x80 | (size & 0x7F))
        size >>= 7
    encoded.append(size)
    return bytes(encoded)


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One entry of a tree."""

    mode: bytes
    name: bytes
    id: bytes

    @property
    def is_blob(self) -> bool:
        return self.mode.startswith((b"100", b"120"))

    @property
    def sort_key(self) -> bytes:
        """Git sorts a folder as if its name ended in a slash."""
        return self.name + b"/" if self.mode in (FOLDER_MODE, b"040000") else self.name


_ENTRY = re.compile(rb"([0-7]{5,6}) ([^\0]+)\0(.{20})", re.DOTALL)


def parse_tree(data: bytes | bytearray) -> list[TreeEntry]:
    """A tree's entries in their order.

    Raises:
        ValueError: not a tree.
    """
    entries = []
    position = 0
    for match in _ENTRY.finditer(data):
        if match.start() != position:
            break
        position = match.end()
        entries.append(TreeEntry(*match.groups()))
    if position != len(data):
        raise ValueError(f"not a tree: no entry at byte {position}")
    return entries


def encode_tree(entries: Iterable[TreeEntry]) -> bytes:
    """A tree object, sorted by git's rule."""
    ordered = sorted(entries, key=lambda entry: entry.sort_key)
    return b"".join(b"%s %s\0%s" % (entry.mode, entry.name, entry.id) for entry in ordered)


def folder_entry(name: bytes, id_: bytes) -> bytes:
    """The bytes of one folder's entry."""
    return b"%s %s\0%s" % (FOLDER_MODE, name, id_)
