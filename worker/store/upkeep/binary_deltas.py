"""Tells git not to compare binaries that have nothing in common, which would be most of a repack's work.

RouterOS encrypts a `.backup` under a salt: no two have a byte in common but by chance. Git would
compare each with ten others, 3 ms of a processor for a backup that took 1 ms to commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from confkeep.errors import NotInStore, RepositoryDamaged
from worker.store.git import pack
from worker.store.history import index_build
from worker.store.history.index import open_index
from worker.store.repository import reader
from worker.store.repository.backup import unpack_uuid
from worker.store.repository.tenant_repository import TenantRepository, open_repository

_ATTRIBUTES: Final = Path(__file__).with_name("binaries.gitattributes")

#: The newest commits, whose devices are looked at: few before a small repack, which costs little itself and
#: leaves what it missed to the next full one.
_COMMITS: Final = 8
_COMMITS_FULL: Final = 500
#: Larger binaries are not read: a repack runs beside commits, in the memory of a worker.
_MOST_BYTES: Final = 1 << 20
#: Bytes of the pieces by which two binaries are compared.
_PIECE_BYTES: Final = 32


def options(path: Path, *, full: bool = False) -> tuple[str, ...]:
    """Git's options, before its subcommand, for packing the repository at `path`, or what is new in it."""
    commits = _COMMITS_FULL if full else _COMMITS
    looked_at = 0
    try:
        with closing(open_repository(path)) as repository:
            for new, old in _binaries(repository, commits):
                if _alike(new, old):
                    return ()
                looked_at += 1
    except (NotInStore, RepositoryDamaged):
        return ()  # git meets it too, and tells what it is
    return ("-c", f"core.attributesFile={_ATTRIBUTES}") if looked_at else ()


def _binaries(repository: TenantRepository, commits: int) -> Iterator[tuple[bytes, bytes]]:
    """The newest binary of each device in so many commits, and the one before or nothing."""
    tip = repository.tip()
    with open_index(repository) as index:
        for device_id in _newest_devices(repository, commits):
            found = [
                reader.pair_in(repository, version.tree.hex()).binary or b""
                for version in index.versions(device_id, tip=tip, limit=2)
                if version.tree and version.detail
                if 0 < (version.detail.binary_bytes or 0) <= _MOST_BYTES
            ]
            if found and found[0]:
                yield found[0], found[-1] if len(found) > 1 else b""


def _newest_devices(repository: TenantRepository, commits: int) -> set[str]:
    tip = repository.tip()
    shas = [] if tip is None else [str(tip)]
    found = set()
    for _ in range(commits):
        if shas:
            commit = index_build.read_commit(repository.git, shas[0])
            device = commit.entry().device
            if device is not None:
                found.add(unpack_uuid(device))
            shas = commit.parents
    return found


def _alike(new: bytes, old: bytes) -> bool:
    """Whether a binary deflates, or has a piece in common with the one before.

    Pieces are compared where they begin at a multiple of their size: what deflates no more, and changed
    in length, is not alike from there on.
    """
    if sum(map(len, pack.deflate(new))) < len(new):
        return True
    starts = range(0, len(new) - _PIECE_BYTES + 1, _PIECE_BYTES)
    pieces = {old[at : at + _PIECE_BYTES] for at in starts}
    return any(new[at : at + _PIECE_BYTES] in pieces for at in starts)
