"""Opens a repository with libgit2, which reads a loose object that is cut short for ever.

Only other programs write loose objects into our repositories: git does not sync them by default, so a
power cut may cut them short.
"""

from __future__ import annotations

import functools
import os
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Final

import pygit2
from pygit2.enums import RepositoryOpenFlag

from worker.store.git import durable

#: What `put_aside` adds to a name: no git looks for an object there, and what is left of it stays.
ASIDE: Final = ".cut"
_ID_DIGITS: Final = 38
#: No zlib stream is shorter.
_LEAST_BYTES: Final = 8
#: Bytes inflated at once.
_PIECE_BYTES: Final = 1 << 20


def open_git(path: Path) -> pygit2.Repository:
    """libgit2's view of the repository at `path`.

    Raises:
        pygit2.GitError: git cannot open it, or libgit2 could read one of its objects for ever.
    """
    repository = pygit2.Repository(str(path), RepositoryOpenFlag.NO_SEARCH)
    for file in cut_short(Path(repository.path)):
        # Of an empty one libgit2 tells by itself, where it is needed.
        if file.exists() and file.stat().st_size:
            raise pygit2.GitError(f"{'/'.join(file.parts[-3:])} is cut short")
    return repository


def cut_short(path: Path) -> list[Path]:
    """The loose objects of a repository that are cut short.

    Where there is none, as in a store of ours, this lists one folder. A folder of loose objects is read
    again when its list of names has changed.
    """
    objects = path / "objects"
    found: list[Path] = []
    for name in os.listdir(objects):
        if len(name) == 2:
            # A concurrent repack removes folders that it empties.
            with suppress(FileNotFoundError):
                folder = objects / name
                found += _cut_short_in(folder, folder.stat().st_mtime_ns)
    return found


@functools.lru_cache(maxsize=1 << 14)
def _cut_short_in(folder: Path, _changed_ns: int) -> tuple[Path, ...]:
    files = (folder / name for name in sorted(os.listdir(folder)) if len(name) == _ID_DIGITS)
    return tuple(file for file in files if _is_cut_short(file))


def _is_cut_short(file: Path) -> bool:
    inflater = zlib.decompressobj()
    try:
        rest = file.read_bytes()
        if len(rest) < _LEAST_BYTES:
            # Also of damaged bytes: libgit2 may take the first for a header of its own.
            return True
        while not inflater.eof:
            piece = inflater.decompress(rest, _PIECE_BYTES)
            rest = inflater.unconsumed_tail
            if not piece and not rest:
                return True
    except (OSError, zlib.error):
        # A repack removed it, or libgit2 tells the damage.
        pass
    return False


def put_aside(file: Path) -> None:
    """Give a file another name, durably, under which no git looks for it."""
    durable.rename(file, file.with_name(f"{file.name}{ASIDE}"))
    durable.sync_directory(file.parent)
