"""Replaces a history by another one in one durable step.

`docs/retention.md` explains the steps and what a crash between two of them leaves.
`rewrite_selection` (for retention) and `rewrite_erasure` make the new histories.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import pygit2

from confkeep.errors import RepositoryDamaged, StoreError
from worker.store.git import durable, flock, keep, pack, refs
from worker.store.git.pack import PackEncoder, PackObject
from worker.store.git.root_tree import RootTree
from worker.store.history import index_build
from worker.store.history.index import open_index
from worker.store.history.index_build import RawCommit
from worker.store.repository import headers, id_map, recovery
from worker.store.repository.id_map import RemovedBackup, Rewrite
from worker.store.repository.tenant_repository import TenantRepository, open_repository
from worker.store.writing.commit import move_main, write_pack

#: Prefix of the refs that keep a replaced history for the grace time; a time stamp follows.
BEFORE_REFS: Final = "refs/confkeep/before-retention/"
TIME_FORMAT: Final = "%Y%m%dT%H%M%SZ"

#: Most commits in one pack; a pack is held in memory until it is written.
_PACK_COMMITS: Final = 8_192

#: A root tree with more changed entries than this is stored whole and not as a delta.
_DELTA_ENTRIES: Final = 64

_NAME_BYTES: Final = 36


@dataclass(slots=True)
class Made:
    """A new history. Its objects are durable, but no ref names it yet."""

    #: 40 hex digits; None if nothing is left.
    tip: str | None = None
    #: The old and the new id of each commit whose id changed; the new one is None if the commit
    #: goes.
    changed_ids: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    removed: list[RemovedBackup] = field(default_factory=list)
    #: The ids of backups whose binary goes.
    binaries: list[str] = field(default_factory=list)


@contextmanager
def rewriting(path: Path) -> Iterator[int]:
    """Keep writers and maintenance away for a rewrite; afterwards the history index follows `main`.

    What a killed rewrite left is settled first. Yields what `flock.alone` does.

    Raises:
        RepositoryBusy: another process writes.
        RepositoryDamaged: libgit2 met damage.
        StoreUnavailable: the file system refused.
    """
    with durable.file_system_errors(path.name):
        try:
            with flock.alone(path) as held:
                id_map.settle(path)
                yield held
            # Open the repository again: libgit2 still has packs open that a prune removed.
            with flock.shared(path), open_index(open_repository(path)) as index:
                index.catch_up(refs.read_main(path))
        except pygit2.GitError as error:
            raise RepositoryDamaged(f"{path.name}: {error}") from error


def replace_history(
    repository: TenantRepository,
    tip: str,
    made: Made,
    *,
    now_s: int,
    keep_old: bool,
    forgotten: str | None = None,
    undone: str | None = None,
) -> None:
    """Replace the history of `tip` with `made` as `main`; durable when this returns.

    The caller holds the flock exclusively.

    Args:
        keep_old: whether to keep the old history under a ref, and the old id map in a file.
        forgotten: the erased device, of which only ids of commits and backups may stay.
        undone: the stamp of the rewrite that this one undoes; the new id map continues from the map
            kept before that rewrite.

    Raises:
        RepositoryBusy: another program moved `main`; nothing was changed.
        OSError: the file system refused; whether the history was rewritten is unknown.
    """
    id_map.write_pending(
        repository.path,
        Rewrite(
            old_tip=tip,
            new_tip=made.tip,
            made_s=now_s,
            commits=made.changed_ids,
            removed=made.removed,
            binaries=made.binaries,
            forgotten=forgotten,
        ),
        before=undone,
    )
    if keep_old:
        name = _free_name(repository, now_s)
        id_map.keep_before(repository.path, stamp_of(name))
        refs.create_ref(repository.path, name, tip)
        durable.failpoint("old-kept")
    if made.tip is None:
        refs.delete_main(repository.path, tip)
    else:
        move_main(repository.path, tip, made.tip)
    durable.failpoint("rewritten")
    id_map.settle(repository.path)


def _free_name(repository: TenantRepository, now_s: int) -> str:
    name = BEFORE_REFS + dt.datetime.fromtimestamp(now_s, dt.UTC).strftime(TIME_FORMAT)
    taken, number = name, 1
    while taken in repository.git.references:
        taken, number = f"{name}-{number}", number + 1
    return taken


def before_refs(git: pygit2.Repository) -> list[str]:
    """The refs that keep histories from before a rewrite."""
    return sorted(name for name in git.references if name.startswith(BEFORE_REFS))


def stamp_of(name: str) -> str:
    """The part of a before-retention ref's name that tells it from the others."""
    return name.removeprefix(BEFORE_REFS)


class HistoryWriter:
    """Rewrites commits with other parents and root trees, into packs. Holds one pack in memory.

    Each root tree is made from the one before by what differs, so that it is stored as a delta. As
    a context manager: when the block fails and `main` did not move, the packs are removed, to free
    their space on a full disk. Only for callers that hold `flock.alone`.
    """

    def __init__(self, repository: TenantRepository, main: str | None, keeps: ExitStack) -> None:
        """Start while `main` names the commit `main` (40 hex digits; None if there is none).

        Args:
            keeps: the caller closes it when refs reach all that was written (see `keep.name_pack`).
        """
        self._repository = repository
        self._main = main
        self._folder = repository.path / "objects" / "pack"
        self._written: list[str] = []
        self._keeps = keeps
        self._commits: list[PackObject] = []
        self._roots: list[PackObject] = []
        self._folders: list[PackObject] = []
        self._stored: set[bytes] = set()
        #: The root tree of the next commit.
        self.root = RootTree(b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        failed = isinstance(error, (OSError, StoreError, pygit2.GitError))
        if failed and refs.read_main(self._repository.path) == self._main:
            for name in self._written:
                recovery.remove_pack(self._folder, name)

    def go_on_from(self, tip: str) -> None:
        """Start from the root tree of a commit that stays as it is.

        Raises:
            RepositoryDamaged: it cannot be read.
        """
        git = self._repository.git
        self.root = RootTree(index_build.read_tree(git, index_build.read_commit(git, tip).tree))

    def change(self, changes: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Put entries (name, mode and id) into the root tree, or remove them (None)."""
        if len(changes) <= _DELTA_ENTRIES and all(
            entry is not None and entry[:-20] == pack.FOLDER_MODE and len(name) == _NAME_BYTES
            for name, entry in changes
        ):
            for name, entry in changes:
                assert entry is not None
                self.root.put(name, entry[-20:])
            return
        entries = {entry.name: entry for entry in pack.parse_tree(self.root.data())}
        for name, entry in changes:
            entries.pop(name, None)
            if entry is not None:
                entries[name] = pack.TreeEntry(entry[:-20], name, entry[-20:])
        self.root = RootTree(pack.encode_tree(entries.values()))

    def store_folder(self, data: bytes) -> bytes:
        """Store a device's folder; returns its id."""
        id_ = pack.object_id(pack.TREE, data)
        if id_ not in self._stored:
            self._stored.add(id_)
            self._folders.append(PackObject(pack.TREE, id_, data))
        return id_

    def add(self, commit: RawCommit, parents: Sequence[str], *, nameless: bool = False) -> bytes:
        """Rewrite the commit on `parents` with the current root tree; returns its new id.

        Args:
            nameless: whether to leave the device out of the commit's header.

        Raises:
            OSError: the file system refused.
        """
        root_id = self.root.id()
        if root_id not in self._stored:
            self._stored.add(root_id)
            self._roots.append(self.root.to_store(root_id))
        return self._add(_with(commit.raw, root_id.hex(), parents, nameless=nameless))

    def _add(self, data: bytes) -> bytes:
        id_ = pack.object_id(pack.COMMIT, data)
        self._commits.append(PackObject(pack.COMMIT, id_, data))
        if len(self._commits) == _PACK_COMMITS:
            self.flush()
        return id_

    def add_on(self, commit: RawCommit, parent: str) -> bytes:
        """Rewrite the commit on a parent that has the same root tree; returns its new id."""
        data = _with(commit.raw, commit.tree, [parent], nameless=False)
        return self._add(data)

    def flush(self) -> None:
        """Write what was added since the last pack; durable when this returns.

        Raises:
            OSError: the file system refused.
        """
        if self._commits:
            encoder = PackEncoder([*self._commits, *self._roots, *self._folders])
            self._written.append(keep.new_name())
            write_pack(self._folder, self._written[-1], encoder, self._keeps)
        self._commits, self._roots, self._folders = [], [], []
        self.root.begin_pack()

    def check(self, expected: bytes) -> None:
        """Check that the new history ends with the expected root tree.

        Raises:
            RepositoryDamaged: it ends with another one.
        """
        if self.root.data() != expected:
            raise RepositoryDamaged(
                f"{self._repository.path.name}: the rewritten history does not end with the tree"
                " that it must end with; nothing was changed"
            )


def _with(raw: bytes, tree: str, parents: Sequence[str], *, nameless: bool) -> bytes:
    """A commit's bytes with another tree and other parents."""
    at = raw.index(b"\n") + 1
    while raw.startswith(b"parent ", at):
        at = raw.index(b"\n", at) + 1
    rest = raw[at:]
    if nameless:
        lines, separator, message = rest.partition(b"\n\n")
        rest = b"\n".join(headers.without_device(lines.split(b"\n"))) + separator + message
    parent_lines = b"".join(b"parent %s\n" % parent.encode() for parent in parents)
    return b"tree %s\n%s%s" % (tree.encode(), parent_lines, rest)
