"""A tenant's root tree, changed in place from commit to commit.

A root tree has one entry per device: 63 bytes each, 630 KB at 10,000 devices. A commit changes 20
of them, or inserts one entry. So the bytes are changed in place, the hash is continued from a
checkpoint before the change, and the tree is stored as a delta against an earlier one of the same
pack. The first tree of a pack is whole; it is deflated in parts, and those that did not change are
not deflated again.
"""

from __future__ import annotations

import bisect
import hashlib
from typing import Final

from worker.store.git import pack
from worker.store.git.pack import Edit, PackObject

#: Bytes of an entry whose name is a UUID: "40000 ", 36, NUL and 20.
_STRIDE: Final = 63
_NAME: Final = slice(6, 42)
_ID_AT: Final = 43

#: Bytes of a part: between two checkpoints of the hash, and deflated by itself.
_PART: Final = 32768


class RootTree:
    """The root tree of the newest commit of a batch.

    The invariant: `data` is a tree that git accepts, if the initial tree is; only entries given to
    `put` change.
    """

    def __init__(self, data: bytes) -> None:
        """Start from a tree's raw bytes.

        Raises:
            ValueError: not a tree.
        """
        self._start(bytearray(data))

    def _start(self, data: bytearray) -> None:
        self._data = data
        #: Sort keys and offsets of all entries if some are not devices; otherwise None.
        self._keys: list[bytes] | None = None
        self._offsets: list[int] = []
        if not _only_devices(data):
            self._index()
        self._checkpoints: list[hashlib._Hash] = []
        #: The deflated parts by their number, without those that changed since.
        self._deflated: dict[int, bytes] = {}
        self.begin_pack()

    def begin_pack(self) -> None:
        """Start a new pack, in which no delta can refer to a tree of an earlier pack."""
        #: What `put` did since the pack began: the entry's name and its new id.
        self._journal: list[tuple[bytes, bytes]] = []
        #: For each changed name: its offset in the tree at the pack's start, and the step that
        #: inserted it (-1 if it was there before).
        self._touched: dict[bytes, tuple[int, int]] = {}
        #: The inserted names, sorted.
        self._inserted: list[bytes] = []
        #: The stored trees since the last whole one: id, step and size.
        self._stored: list[tuple[bytes, int, int]] = []

    def find(self, name: bytes) -> bytes | None:
        """The id of a device's folder; None if there is none."""
        offset, there = self._locate(name)
        return bytes(self._data[offset + _ID_AT : offset + _STRIDE]) if there else None

    def put(self, name: bytes, id_: bytes) -> None:
        """Set the device's folder to the tree `id_`; replaces a file of that name."""
        offset, there = self._locate(name)
        if not there and self._keys is not None and self._drop_file(name):
            offset, there = self._locate(name)
        step = len(self._journal)
        if name not in self._touched:
            before = bisect.bisect_left(self._inserted, name) * _STRIDE
            self._touched[name] = (offset - before, -1 if there else step)
        if there:
            self._data[offset + _ID_AT : offset + _STRIDE] = id_
            del self._checkpoints[offset // _PART :]
            for end in (offset + _ID_AT, offset + _STRIDE - 1):
                self._deflated.pop(end // _PART, None)
        else:
            bisect.insort(self._inserted, name)
            self._data[offset:offset] = pack.folder_entry(name, id_)
            self._checkpoints.clear()
            for part in range(offset // _PART, len(self._data) // _PART + 1):
                self._deflated.pop(part, None)
            if self._keys is not None:
                self._index()
        self._journal.append((name, id_))

    def id(self) -> bytes:
        """The tree's id. Hashes only the bytes behind the last checkpoint before a change."""
        view = memoryview(self._data)
        if self._checkpoints:
            digest = self._checkpoints[-1].copy()
        else:
            digest = hashlib.sha1(b"tree %d\0" % len(view), usedforsecurity=False)
        start = len(self._checkpoints) * _PART
        while start + _PART <= len(view):
            digest.update(view[start : start + _PART])
            self._checkpoints.append(digest.copy())
            start += _PART
        digest.update(view[start:])
        return digest.digest()

    def memory_bytes(self) -> int:
        """About how much memory it takes, between two packs."""
        return len(self._data) + sum(map(len, self._deflated.values()))

    def data(self) -> bytes:
        """The tree's bytes."""
        return bytes(self._data)

    def to_store(self, id_: bytes) -> PackObject:
        """The tree as the pack is to store it; the pack must not have its id `id_` yet.

        The first tree is stored whole. The n-th after it is a delta against the one whose number is
        n without its lowest set bit. So a chain is at most as long as the bits of n (8 for 256
        commits), and a delta names on average as many entries as half those bits.
        """
        number = len(self._stored)
        step = len(self._journal)
        self._stored.append((id_, step, len(self._data)))
        if number == 0:
            return self._whole(id_)
        base_id, base_step, base_size = self._stored[number & (number - 1)]
        changed = dict(self._journal[base_step:step])
        edits = []
        shift = 0
        touched = self._touched
        for offset, name, inserted_at in sorted(
            (touched[name][0], name, touched[name][1]) for name in {*changed, *self._inserted}
        ):
            in_base = inserted_at < base_step
            if name in changed:
                at = offset + shift
                if in_base:
                    edits.append(Edit(at + _ID_AT, 20, changed[name]))
                else:
                    edits.append(Edit(at, 0, pack.folder_entry(name, changed[name])))
            if in_base and inserted_at >= 0:
                shift += _STRIDE
        return PackObject(pack.TREE, id_, pack.encode_delta(base_size, edits), base_id)

    def _whole(self, id_: bytes) -> PackObject:
        data = bytes(self._data)
        if len(data) <= _PART:
            return PackObject(pack.TREE, id_, data)
        parts = []
        for number, start in enumerate(range(0, len(data), _PART)):
            if number not in self._deflated:
                self._deflated[number] = pack.deflate_part(data[start : start + _PART])
            parts.append(self._deflated[number])
        return PackObject(pack.TREE, id_, data, deflated=pack.join_parts(parts, data))

    def _locate(self, name: bytes) -> tuple[int, bool]:
        """Where the folder's entry is, or would be inserted."""
        data = self._data
        if self._keys is None:
            low, high = 0, len(data) // _STRIDE
            while low < high:
                middle = (low + high) // 2
                start = middle * _STRIDE
                if data[start + 6 : start + 42] < name:
                    low = middle + 1
                else:
                    high = middle
            offset = low * _STRIDE
            return offset, data[offset + 6 : offset + 42] == name
        key = name + b"/"
        place = bisect.bisect_left(self._keys, key)
        there = place < len(self._keys) and self._keys[place] == key
        return (self._offsets[place] if place < len(self._offsets) else len(data)), there

    def _index(self) -> None:
        self._keys, self._offsets = [], []
        offset = 0
        for entry in pack.parse_tree(self._data):
            self._keys.append(entry.sort_key)
            self._offsets.append(offset)
            offset += len(entry.mode) + len(entry.name) + 22
        if self._keys != sorted(self._keys):
            raise ValueError("not a tree: its entries are not sorted")

    def _drop_file(self, name: bytes) -> bool:
        """Remove a file that has a device's name; the next tree is then stored whole again."""
        entries = pack.parse_tree(self._data)
        others = [entry for entry in entries if entry.name != name]
        if len(others) == len(entries):
            return False
        self._start(bytearray(pack.encode_tree(others)))
        return True


def _only_devices(data: bytearray) -> bool:
    """Whether every entry is a folder with a name of 36 bytes, so that offsets can be computed.

    Compares columns of all entries at once, in 0.2 ms at 10,000 devices. That is proof: if each
    name's 36 bytes hold no NUL and the 37th is one, the next entry begins 20 bytes later.
    """
    count, rest = divmod(len(data), _STRIDE)
    if rest or any(data[k::_STRIDE] != bytes([b]) * count for k, b in enumerate(b"40000 ")):
        return False
    if any(data[column::_STRIDE].find(0) >= 0 for column in range(_NAME.start, _NAME.stop)):
        return False
    return data[42::_STRIDE] == bytes(count)
