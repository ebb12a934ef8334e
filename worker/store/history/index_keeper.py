"""Keeps the history index complete, or rebuilds it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, Self, TypeVar

import pygit2

from confkeep import modes
from worker.store.history import index_build
from worker.store.history.index_build import Progress
from worker.store.history.index_file import IndexFile, delete_file
from worker.store.history.index_rows import Damaged, Entry, Unusable
from worker.store.repository.tenant_repository import TenantRepository, damage

INDEX_NAME: Final = "confkeep.index"
DAMAGE_MARK: Final = "confkeep.index-damaged"

#: The commit for which an answer is wanted, as git gives it or as text; None: there is none yet.
Tip = pygit2.Oid | str | None

#: Commits per transaction of the catch-up: a kill loses at most these.
_CATCH_UP_BATCH: Final = 2_000


_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")
_Index = TypeVar("_Index", bound="IndexKeeper")


def tells_damage_of_git(
    method: Callable[Concatenate[_Index, _Arguments], _Answer],
) -> Callable[Concatenate[_Index, _Arguments], _Answer]:
    """For methods that also read the repository: turns its damage into `RepositoryDamaged`."""

    @functools.wraps(method)
    def wrapper(self: _Index, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Answer:
        with damage(self._repository.path):
            return method(self, *args, **kwargs)

    return wrapper


class IndexKeeper:
    """The file of one repository's index, opened and completed. Not safe to share between threads.

    `append` and `catch_up` may only be called by a process that holds the repository's writer lock.
    """

    def __init__(self, repository: TenantRepository) -> None:
        self._repository = repository
        self._git = repository.git
        self._path: Path = repository.path / INDEX_NAME
        self._mark: Path = repository.path / DAMAGE_MARK
        self._writer: IndexFile | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, *, sound: bool = True) -> None:
        """Release the file.

        Args:
            sound: False: the file may be damaged, so keep it marked as not closed.
        """
        if self._writer is not None:
            self._writer.close(sound=sound)
            self._writer = None

    def append(self, parent_sha: str | None, entries: Sequence[Entry]) -> None:
        """Add a batch that the branch already points to.

        Leaves an index that is not complete for `parent_sha` to `catch_up`. Raises no error of the
        file; marks a damaged file to be rebuilt.

        Args:
            parent_sha: the commit below the first of `entries`; None if there is none.
        """
        try:
            if self._mark.exists():
                return
            self._open_writer().append(raw_id(parent_sha), entries)
        except Unusable as error:
            self._note(error)

    def is_complete(self, tip: Tip) -> bool:
        """Whether the file's root says that it needs no catching up."""
        try:
            if self._mark.exists():
                return False
            with self._reading() as file:
                return file.root.tip == raw_id(tip)
        except Unusable as error:
            self._note(error)
            return False

    @tells_damage_of_git
    def catch_up(self, tip: Tip, progress: Progress | None = None, *, anew: bool = False) -> bool:
        """Make the index complete for `tip`, whatever its state.

        Args:
            progress: gets how many commits are done, and how many there are.
            anew: rebuild the index from nothing.

        Returns:
            Whether the index is complete now; False if the file system refused.

        Raises:
            RepositoryDamaged: git itself cannot be read.
        """
        try:
            if anew or self._mark.exists():
                self._start_anew()
            try:
                self._catch_up(raw_id(tip), progress)
            except Damaged:
                self._start_anew()
                self._catch_up(raw_id(tip), progress)
        except (Unusable, OSError) as error:
            if isinstance(error, Unusable):
                self._note(error)
            return False
        return True

    def _start_anew(self) -> None:
        self.close(sound=False)
        delete_file(self._path)
        self._mark.unlink(missing_ok=True)

    def _catch_up(self, tip: bytes | None, progress: Progress | None) -> None:
        file = self._open_writer()
        with file.reading() as root:
            known = root.tip
        if tip == known:
            return
        if tip is None:
            self._start_anew()
            return
        missing, bottom = self._below(tip, known)
        changed: set[bytes] = set()
        if bottom != known:
            # The history was rewritten, or there is a merge above what is known.
            self._start_anew()
            file, known = self._open_writer(), bottom
            if bottom is not None:
                merged = index_build.read_merged(self._git, bottom.hex(), progress)
                changed.update(merged.versions)
                if not missing:
                    merged.commits[-1] = self._with_own_names(merged.commits[-1], changed)
                file.append_base(merged)
        total, batch = len(missing) // 20, []
        for done, entry in enumerate(index_build.linear_entries(self._git, bottom, missing), 1):
            batch.append(entry)
            changed.update(entry.changed)
            if done == total:
                batch[-1] = self._with_own_names(entry, changed)
            if len(batch) == _CATCH_UP_BATCH or done == total:
                if not file.append(known, batch):
                    raise Unusable("another process wrote meanwhile")
                known, batch = batch[-1].version.id, []
            if progress is not None and (done % 100 == 0 or done == total):
                progress(done, total)

    def _with_own_names(self, newest: Entry, devices: Iterable[bytes]) -> Entry:
        """The newest commit with the names of devices: the file is complete for it, and not before."""
        return replace(
            newest, own_names=index_build.own_names(self._git, newest.version.id, devices)
        )

    def _below(self, tip: bytes, known: bytes | None) -> tuple[bytes, bytes | None]:
        """The chain of commits from `tip` down, and the commit where it ends, which is not in it.

        Returns:
            Their ids, newest first; and `known`, or the newest merge, or None below a root.
        """
        chain, at = bytearray(), tip
        while at != known:
            parents = index_build.read_commit(self._git, at.hex()).parents
            if len(parents) > 1:
                return bytes(chain), at
            chain += at
            if not parents:
                return bytes(chain), None
            at = bytes.fromhex(parents[0])
        return bytes(chain), at

    def _open_writer(self) -> IndexFile:
        if self._writer is not None and not self._writer.is_at(self._path):
            # Another process has replaced the file.
            self.close()
        if self._writer is None:
            self._writer = IndexFile(self._path, write=True)
        return self._writer

    @contextmanager
    def _reading(self) -> Iterator[IndexFile]:
        """All reads in the block see one state of the file."""
        if self._writer is not None and self._writer.is_at(self._path):
            with self._writer.reading():
                yield self._writer
            return
        kept = self._repository.kept
        file = kept.pop(INDEX_NAME, None)
        if file is not None and not file.is_at(self._path):
            file.close()
            file = None
        if file is None:
            file = IndexFile(self._path)
        sound = False
        try:
            with file.reading():
                yield file
            sound = True
        finally:
            if not sound or kept.setdefault(INDEX_NAME, file) is not file:
                file.close()

    def _note(self, error: Unusable) -> None:
        """Mark the index as damaged, for the next writer to rebuild. Does nothing if we cannot write."""
        if isinstance(error, Damaged):
            self.close(sound=False)
            try:
                os.close(modes.create(self._mark, os.O_WRONLY))
            except OSError:
                return


def raw_id(tip: Tip) -> bytes | None:
    """The 20 bytes of a commit's id."""
    if tip is None:
        return None
    return bytes.fromhex(tip) if isinstance(tip, str) else bytes(tip.raw)
