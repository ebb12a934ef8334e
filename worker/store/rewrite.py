"""Replaces a history by one with fewer commits or binaries in one durable step; it decides nothing.

`docs/retention.md` explains the steps and what a crash between each two of them leaves.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import pygit2

from worker.errors import RepositoryDamaged
from worker.store import durable, id_map, index_build, pack, refs
from worker.store.commit import finish, write_pack
from worker.store.history_scan import Scanned, without_binary
from worker.store.id_map import RemovedBackup, Rewrite
from worker.store.pack import PackEncoder, PackObject
from worker.store.repository import TenantRepository
from worker.store.root_tree import RootTree

#: Where the histories before a rewrite stay for the grace time; the name goes on with the time.
BEFORE_REFS: Final = "refs/confkeep/before-retention/"
TIME_FORMAT: Final = "%Y%m%dT%H%M%SZ"

#: Most commits of a pack, which is held in memory until it is written.
_PACK_COMMITS: Final = 8_192

_FOLDER_MODE: Final = b"40000"
_NAME_BYTES: Final = 36


@dataclass(frozen=True, slots=True)
class Selection:
    """What of a history stays."""

    #: All commits, oldest first.
    commits: Sequence[Scanned]
    keep: Sequence[bool]
    #: Captures that stay without their binary.
    drop_binary: Sequence[bool]
    #: A device that goes from every tree; its captures are not kept.
    forget: str | None = None

    def first_affected(self) -> int | None:
        """The number of the first commit that is not to stay as it is; None: all stay."""
        name = None if self.forget is None else self.forget.encode()
        for number, commit in enumerate(self.commits):
            if (
                not self.keep[number]
                or self.drop_binary[number]
                or any(changed == name for changed, _entry in commit.changes)
            ):
                return number
        return None


def rewrite_history(
    repository: TenantRepository, tip: str, selection: Selection, *, now_s: int, keep_old: bool
) -> str | None:
    """Let `main` be what `selection` keeps of the history of `tip`; durable when this returns.

    Only for who holds the flock exclusively, and where something is to go. Memory: the commits and
    trees of one pack.

    Args:
        keep_old: whether a ref keeps the old history.

    Returns:
        The new tip; None: nothing is left.

    Raises:
        RepositoryBusy: another program moved `main`; nothing was changed.
        RepositoryDamaged: an object that is needed is missing, or what was made is not what it
            ought to be; nothing was changed.
        OSError: the file system refused; whether the history was rewritten is unknown.
    """
    made = _Rewritten(repository, selection)
    made.write()
    id_map.write_pending(
        repository.path,
        Rewrite(
            old_tip=tip,
            new_tip=made.tip,
            made_s=now_s,
            commits=made.changed_ids,
            removed=made.removed,
            binaries=made.binaries,
            forgotten=selection.forget,
        ),
    )
    if keep_old:
        refs.create_ref(repository.path, _free_name(repository, now_s), tip)
        durable.failpoint("old-kept")
    if made.tip is None:
        refs.delete_main(repository.path, repository.git, tip)
    else:
        try:
            refs.move_main(repository.path, tip, made.tip)
        except OSError:
            # The outcome is unknown, so look.
            if refs.read_main(repository.path) != made.tip:
                raise
            finish(repository.path, [made.tip])
    durable.failpoint("rewritten")
    id_map.settle(repository.path)
    repository.kept.root = None
    return made.tip


def _free_name(repository: TenantRepository, now_s: int) -> str:
    name = BEFORE_REFS + dt.datetime.fromtimestamp(now_s, dt.UTC).strftime(TIME_FORMAT)
    taken, number = name, 1
    while taken in repository.git.references:
        taken, number = f"{name}-{number}", number + 1
    return taken


@dataclass(slots=True)
class _Pending:
    """The objects of the pack that is written next."""

    commits: list[PackObject] = field(default_factory=list)
    roots: list[PackObject] = field(default_factory=list)
    folders: list[PackObject] = field(default_factory=list)


class _Rewritten:
    """The new commits and trees, made one upon the other."""

    def __init__(self, repository: TenantRepository, selection: Selection) -> None:
        self._repository = repository
        self._selection = selection
        self._forget = None if selection.forget is None else selection.forget.encode()
        self._pending = _Pending()
        self._stored: set[bytes] = set()
        self._root = RootTree(b"")
        self.tip: str | None = None
        self.changed_ids: list[tuple[bytes, bytes | None]] = []
        self.removed: list[RemovedBackup] = []
        self.binaries: list[str] = []

    def write(self) -> None:
        """Make everything and write it as packs, durable."""
        selection = self._selection
        first = selection.first_affected()
        assert first is not None, "there is nothing to rewrite"
        if first:
            self.tip = selection.commits[first - 1].id.hex()
            self._root = self._root_of(self.tip)
        for number in range(first, len(selection.commits)):
            commit = selection.commits[number]
            if self._goes(commit, selection.keep[number]):
                self.changed_ids.append((commit.id, None))
                self._note_removed(commit)
            else:
                self._add(commit, drop_binary=selection.drop_binary[number])
                if len(self._pending.commits) == _PACK_COMMITS:
                    self._flush()
        self._check()
        self._flush()

    def _goes(self, commit: Scanned, keep: bool) -> bool:
        others = [name for name, _entry in commit.changes if name != self._forget]
        return not keep or (bool(commit.changes) and not others)

    def _note_removed(self, commit: Scanned) -> None:
        if commit.backup_id is not None and commit.device is not None:
            device = None if commit.device == self._forget else commit.device.decode()
            self.removed.append(
                RemovedBackup(commit.backup_id, device, commit.id.hex(), commit.committed_s)
            )

    def _add(self, commit: Scanned, *, drop_binary: bool) -> None:
        if commit.device is not None:
            assert commit.folder is not None
            folder_id = commit.folder.id
            if drop_binary:
                folder_id = self._store_less(folder_id)
                if commit.backup_id is not None:
                    self.binaries.append(commit.backup_id)
            self._root.put(commit.device, folder_id)
        else:
            self._change(commit)
        root_id = self._root.id()
        if root_id not in self._stored:
            self._stored.add(root_id)
            self._pending.roots.append(self._root.to_store(root_id))
        raw = index_build.read_commit(self._repository.git, commit.id.hex()).raw
        data = _with(raw, root_id.hex(), self.tip)
        id_ = pack.object_id(pack.COMMIT, data)
        self._pending.commits.append(PackObject(pack.COMMIT, id_, data))
        self.changed_ids.append((commit.id, id_))
        self.tip = id_.hex()

    def _store_less(self, folder_id: bytes) -> bytes:
        data = index_build.read_tree(self._repository.git, folder_id.hex())
        less = without_binary(self._repository.path.name, folder_id, data)
        id_ = pack.object_id(pack.TREE, less)
        if id_ not in self._stored:
            self._stored.add(id_)
            self._pending.folders.append(PackObject(pack.TREE, id_, less))
        return id_

    def _change(self, commit: Scanned) -> None:
        """What a commit that is no capture did to the root tree."""
        changes = [change for change in commit.changes if change[0] != self._forget]
        folders = all(
            entry is not None and entry[:-20] == _FOLDER_MODE and len(name) == _NAME_BYTES
            for name, entry in changes
        )
        if folders:
            for name, entry in changes:
                assert entry is not None
                self._root.put(name, entry[-20:])
            return
        entries = {entry.name: entry for entry in pack.parse_tree(self._root.data())}
        for name, entry in changes:
            entries.pop(name, None)
            if entry is not None:
                entries[name] = pack.TreeEntry(entry[:-20], name, entry[-20:])
        self._root = RootTree(pack.encode_tree(entries.values()))

    def _check(self) -> None:
        """The newest state of every device is what it was."""
        old_tip = self._selection.commits[-1].id.hex()
        old = index_build.read_tree(
            self._repository.git, index_build.read_commit(self._repository.git, old_tip).tree
        )
        entries = [entry for entry in pack.parse_tree(old) if entry.name != self._forget]
        if pack.encode_tree(entries) != self._root.data():
            raise RepositoryDamaged(
                f"{self._repository.path.name}: the rewritten history does not end with the tree"
                " that it must end with; nothing was changed"
            )

    def _flush(self) -> None:
        made = self._pending
        if made.commits:
            objects = [*made.commits, *made.roots, *made.folders]
            write_pack(self._repository.path / "objects" / "pack", PackEncoder(objects))
        self._pending = _Pending()
        self._root.begin_pack()

    def _root_of(self, tip: str) -> RootTree:
        git = self._repository.git
        return RootTree(index_build.read_tree(git, index_build.read_commit(git, tip).tree))


def _with(raw: bytes, tree: str, parent: str | None) -> bytes:
    """A commit's bytes with another tree and parent."""
    at = raw.index(b"\n") + 1
    while raw.startswith(b"parent ", at):
        at = raw.index(b"\n", at) + 1
    parent_line = b"" if parent is None else b"parent %s\n" % parent.encode()
    return b"tree %s\n%s%s" % (tree.encode(), parent_line, raw[at:])


def before_refs(git: pygit2.Repository) -> list[str]:
    """The refs that keep histories from before a rewrite."""
    return sorted(name for name in git.references if name.startswith(BEFORE_REFS))
