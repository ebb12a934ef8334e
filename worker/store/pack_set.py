"""Which packs of a repository are superfluous, told from their idx files; it changes nothing.

A pack is superfluous when each of its objects is in a pack above it. New packs stand above old ones,
and among those the ones with more objects above those with fewer. So no two packs can each be the
reason to remove the other, and what is unreachable counts as much as what is not: a pack that a
writer has made durable and that `main` does not reach yet goes only when its objects are elsewhere.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from worker.errors import RepositoryDamaged

_HEADER: Final = b"\xfftOc\0\0\0\2"
_IDS_AT: Final = 8 + 1024
_ID_BYTES: Final = 20
#: Objects of a pack that are looked up first: of most packs one is nowhere else.
_SAMPLES: Final = 8


def names_of(folder: Path) -> dict[str, int]:
    """The packs that have an idx, as `pack-<checksum>`, and the bytes of their files."""
    names: dict[str, int] = {}
    with os.scandir(folder) as files:
        sizes = {file.name: file.stat().st_size for file in files if _is_pack_or_idx(file.name)}
    for name, size in sizes.items():
        stem, _, kind = name.rpartition(".")
        if kind == "idx" and f"{stem}.pack" in sizes:
            names[stem] = size + sizes[f"{stem}.pack"]
    return names


def _is_pack_or_idx(name: str) -> bool:
    return name.startswith("pack-") and name.endswith((".pack", ".idx"))


class _Ids:
    """The ids of a pack's objects, sorted, in a mapping of its idx."""

    def __init__(self, name: str, idx: Path, opened: ExitStack) -> None:
        self.name = name
        with idx.open("rb") as file:
            self._data = opened.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        if len(self._data) < _IDS_AT or self._data[:8] != _HEADER:
            raise RepositoryDamaged(f"{idx.name}: no idx of version 2")
        self._fanout: tuple[int, ...] = (0, *struct.unpack_from(">256L", self._data, 8))
        if len(self._data) < _IDS_AT + 28 * self._fanout[-1] or any(
            low > high for low, high in zip(self._fanout, self._fanout[1:], strict=False)
        ):
            raise RepositoryDamaged(f"{idx.name}: its table of contents is wrong")

    def __len__(self) -> int:
        return self._fanout[-1]

    def _at(self, number: int) -> bytes:
        start = _IDS_AT + _ID_BYTES * number
        return self._data[start : start + _ID_BYTES]

    def beginning_with(self, byte: int) -> list[bytes]:
        """The ids whose first byte this is."""
        low, high = (_IDS_AT + _ID_BYTES * number for number in self._fanout[byte : byte + 2])
        block = self._data[low:high]
        return [block[at : at + _ID_BYTES] for at in range(0, len(block), _ID_BYTES)]

    def samples(self) -> list[bytes]:
        """Some ids from everywhere in the pack."""
        step = max(1, len(self) // _SAMPLES)
        return [self._at(number) for number in range(0, len(self), step)]

    def __contains__(self, id_: bytes) -> bool:
        low, high = self._fanout[id_[0]], self._fanout[id_[0] + 1]
        while low < high:
            middle = (low + high) // 2
            found = self._at(middle)
            if found == id_:
                return True
            if found < id_:
                low = middle + 1
            else:
                high = middle
        return False


def superfluous(folder: Path, old: Collection[str]) -> list[str]:
    """Those of the packs `old` whose every object is in a pack above them.

    Args:
        old: names as `names_of` gives them, from before new packs were written.

    Raises:
        RepositoryDamaged: an idx makes no sense.
        OSError: the file system refused.
    """
    with ExitStack() as opened:
        packs = [_Ids(name, folder / f"{name}.idx", opened) for name in names_of(folder)]
        packs.sort(key=lambda ids: (ids.name not in old, len(ids), ids.name))
        suspects = [
            (rank, ids)
            for rank, ids in enumerate(packs)
            if ids.name in old and _sampled(ids, packs[rank + 1 :])
        ]
        new = [ids for ids in packs if ids.name not in old]
        for byte in range(256):
            if not suspects:
                break
            written = {id_ for ids in new for id_ in ids.beginning_with(byte)}
            suspects = [
                (rank, ids)
                for rank, ids in suspects
                if _covered(set(ids.beginning_with(byte)) - written, packs[rank + 1 :])
            ]
        return [ids.name for _rank, ids in suspects]


def _sampled(ids: _Ids, above: Sequence[_Ids]) -> bool:
    return all(any(id_ in other for other in above) for id_ in ids.samples())


def _covered(wanted: set[bytes], above: Sequence[_Ids]) -> bool:
    return all(any(id_ in other for other in above) for id_ in wanted)


def missing_from(folder: Path, name: str, old: Collection[str]) -> Iterator[bytes]:
    """The ids in the packs `old` that are not in the pack `name`, 20 bytes each, each once.

    Raises:
        RepositoryDamaged: an idx makes no sense.
        OSError: the file system refused.
    """
    with ExitStack() as opened:
        whole = _Ids(name, folder / f"{name}.idx", opened)
        packs = [_Ids(one, folder / f"{one}.idx", opened) for one in old if one != name]
        for byte in range(256):
            known = set(whole.beginning_with(byte))
            for ids in packs:
                for id_ in ids.beginning_with(byte):
                    if id_ not in known:
                        known.add(id_)
                        yield id_
