"""Finds from their idx files which packs to put together, and which are superfluous.

An old pack is superfluous when each of its objects is in a new one, made since the repack began. So
no two packs can each be the reason to remove the other. Unreachable objects count too: a pack that
a writer has made durable and that `main` does not reach yet is removed only when its objects are
elsewhere.

An old pack is never the reason to remove another: somebody's `git repack -a -d` may be about to
remove it, and the other one may be what that repack made in its place.

Whatever reads an idx raises `RepositoryDamaged` where that makes no sense, and `OSError` where the file system
refuses.
"""

from __future__ import annotations

import mmap
import os
import struct
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from confkeep.errors import RepositoryDamaged

_HEADER: Final = b"\xfftOc\0\0\0\2"
_IDS_AT: Final = 8 + 1024
_ID_BYTES: Final = 20
#: Objects of a pack that are looked up first: most packs have one that is nowhere else.
_SAMPLES: Final = 8


def names_of(folder: Path) -> dict[str, int]:
    """The packs that have an idx, as `pack-<checksum>`, and their bytes on disk."""
    names: dict[str, int] = {}
    sizes: dict[str, int] = {}
    with os.scandir(folder) as files:
        for file in files:
            # A concurrent repack removes the packs that it replaced.
            with suppress(FileNotFoundError):
                if file.name.startswith("pack-") and file.name.endswith((".pack", ".idx")):
                    sizes[file.name] = file.stat().st_size
    for name, size in sizes.items():
        stem, _, kind = name.rpartition(".")
        if kind == "idx" and f"{stem}.pack" in sizes:
            names[stem] = size + sizes[f"{stem}.pack"]
    return names


class _Ids:
    """The ids of a pack's objects, sorted, in a mapping of its idx."""

    def __init__(self, name: str, idx: Path, opened: ExitStack) -> None:
        self.name = name
        with idx.open("rb") as file:
            if os.fstat(file.fileno()).st_size < _IDS_AT:
                raise RepositoryDamaged(f"{idx.name}: no idx of version 2")
            self._data = opened.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        if self._data[:8] != _HEADER:
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
        """The ids that begin with this byte."""
        low, high = (_IDS_AT + _ID_BYTES * number for number in self._fanout[byte : byte + 2])
        block = self._data[low:high]
        return [block[at : at + _ID_BYTES] for at in range(0, len(block), _ID_BYTES)]

    def samples(self) -> list[bytes]:
        """Some ids, spread evenly over the pack."""
        step = max(1, len(self) // _SAMPLES)
        return [self._at(number) for number in range(0, len(self), step)]

    def __contains__(self, id_: bytes) -> bool:
        numbers = range(self._fanout[id_[0]], self._fanout[id_[0] + 1])
        place = bisect_left(numbers, id_, key=self._at)
        return place < len(numbers) and self._at(numbers[place]) == id_


def _open(folder: Path, names: Iterable[str], opened: ExitStack) -> Iterator[_Ids]:
    for name in names:
        # A concurrent `git repack` may have removed it just now.
        with suppress(FileNotFoundError):
            yield _Ids(name, folder / f"{name}.idx", opened)


def small(folder: Path, names: Iterable[str]) -> dict[str, int]:
    """The packs to put together, as `git repack --geometric=2` chooses them, and their objects.

    Of those that stay, each has at least twice the objects of the next smaller one, and the smallest
    twice those of all that are put together. So an object moves a few times only, however long the
    history gets.
    """
    with ExitStack() as opened:
        packs = sorted((len(ids), ids.name) for ids in _open(folder, names, opened))
    sizes = [size for size, _name in packs]
    count = next((k for k in range(len(sizes) - 1, 0, -1) if sizes[k] < 2 * sizes[k - 1]), -1) + 1
    while 0 < count < len(sizes) and sizes[count] < 2 * sum(sizes[:count]):
        count += 1
    return {name: size for size, name in packs[:count]}


@contextmanager
def ids_in(folder: Path, names: Iterable[str]) -> Iterator[Callable[[bytes], bool]]:
    """Whether an object, given by its 20 bytes, is in one of the packs."""
    with ExitStack() as opened:
        packs = list(_open(folder, names, opened))
        yield lambda id_: any(id_ in ids for ids in packs)


def superfluous(folder: Path, old: Collection[str]) -> list[str]:
    """The packs of `old` whose every object is in a pack that is not in `old`.

    Args:
        old: names as `names_of` gives them, from before new packs were written.
    """
    with ExitStack() as opened:
        packs = list(_open(folder, names_of(folder), opened))
        new = [ids for ids in packs if ids.name not in old]
        suspects = [ids for ids in packs if ids.name in old and _sampled(ids, new)]
        for byte in range(256):
            if not suspects:
                break
            written = {id_ for ids in new for id_ in ids.beginning_with(byte)}
            suspects = [ids for ids in suspects if written.issuperset(ids.beginning_with(byte))]
        return [ids.name for ids in suspects]


def _sampled(ids: _Ids, new: Sequence[_Ids]) -> bool:
    return all(any(id_ in other for other in new) for id_ in ids.samples())


def missing_from(folder: Path, name: str, old: Collection[str]) -> Iterator[bytes]:
    """The ids in the packs `old` that are not in the pack `name`, 20 bytes each, each once."""
    with ExitStack() as opened:
        whole = _Ids(name, folder / f"{name}.idx", opened)
        packs = list(_open(folder, set(old) - {name}, opened))
        for byte in range(256):
            known = set(whole.beginning_with(byte))
            for ids in packs:
                for id_ in ids.beginning_with(byte):
                    if id_ not in known:
                        known.add(id_)
                        yield id_
