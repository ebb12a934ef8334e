"""Makes a history, of any shape, without one device."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import pygit2
from pygit2.enums import SortMode

from worker.store.git import pack
from worker.store.history import index_build
from worker.store.history.index_build import RawCommit, compare_trees
from worker.store.repository import headers
from worker.store.repository.headers import BACKUP_ID_HEADER, DEVICE_ID_HEADER
from worker.store.repository.id_map import RemovedBackup
from worker.store.repository.tenant_repository import TenantRepository
from worker.store.rewriting.rewrite import HistoryWriter, Made

_EMPTY: Final = pack.object_id(pack.TREE, b"").hex()


@dataclass(slots=True)
class Forgotten:
    """What the histories held of an erased device."""

    #: How many commits were dropped.
    commits: int = 0
    backup_ids: list[str] = field(default_factory=list)


class Eraser:
    """Writes the histories of one repository without a device. Shared commits are written once.

    Commits that only touch this device are dropped. The others stay; a dropped parent is replaced
    by its nearest kept ancestor. So a merge stays a merge, unless all its sides lead to the same
    commit. The same history always becomes the same commits.
    """

    def __init__(self, repository: TenantRepository, writer: HistoryWriter, device_id: str) -> None:
        self._git = repository.git
        self._device = device_id
        self._writer = writer
        self.forgotten = Forgotten()
        self._made = Made()
        #: What replaces each commit: its new id, or that of its parent's replacement; None if there
        #: is none.
        self._now: dict[str, str | None] = {}
        #: The root trees of the rewritten commits, and those of the original ones.
        self._tree_now: dict[str | None, str] = {None: _EMPTY}
        self._tree_before: dict[str, str] = {}
        #: The last root tree that was looked at: its id, its id without the device, and its bytes
        #: then.
        self._last = (_EMPTY, _EMPTY, b"")
        self._written = b""
        self._uniform = True

    def write(self, tip: str) -> Made:
        """Write the history of `tip` without the device; durable when this returns.

        If nothing changes, nothing is written, and the new tip is `tip`. The result does not repeat
        commits that an earlier call handled.

        Raises:
            RepositoryDamaged: an object that is needed is missing.
            OSError: the file system refused.
        """
        made = self._made = Made()
        order = SortMode.TOPOLOGICAL | SortMode.REVERSE
        ids = [str(commit.id) for commit in self._git.walk(pygit2.Oid(hex=tip), order)]
        for number, sha in enumerate(ids):
            if sha not in self._now:
                index_build.let_go(self._git, number)
                self._take(index_build.read_commit(self._git, sha))
        made.tip = self._now[tip]
        if made.changed_ids:
            # The newest state of every other device must be unchanged.
            self._without_device(self._tree_before[tip])
            self._move_root()
            self._writer.check(self._last[2])
        self._writer.flush()
        return made

    def _take(self, commit: RawCommit) -> None:
        sha = commit.sha
        self._tree_before[sha] = commit.tree
        tree = self._without_device(commit.tree)
        mapped = (self._now[parent] for parent in commit.parents)
        parents = list(dict.fromkeys(parent for parent in mapped if parent is not None))
        own = headers.id_in_header(commit.raw, DEVICE_ID_HEADER) == self._device
        backup_id = headers.id_in_header(commit.raw, BACKUP_ID_HEADER)
        made, forgotten = self._made, self.forgotten
        if self._gives_way(commit, tree, parents, own=own):
            self._now[sha] = parents[0] if parents else None
            forgotten.commits += 1
            made.changed_ids.append((bytes.fromhex(sha), None))
            if backup_id is not None:
                forgotten.backup_ids.append(backup_id)
                made.removed.append(RemovedBackup(backup_id, None, sha, commit.committed_s))
            return
        now = sha
        if own or tree != commit.tree or parents != commit.parents:
            self._move_root()
            id_ = self._writer.add(commit, parents, nameless=own)
            now = id_.hex()
            made.changed_ids.append((bytes.fromhex(sha), id_))
            if own and backup_id is not None:
                forgotten.backup_ids.append(backup_id)
        self._now[sha] = now
        self._tree_now[now] = tree

    def _gives_way(self, commit: RawCommit, tree: str, parents: list[str], *, own: bool) -> bool:
        """Whether the commit touches only this device."""
        if len(parents) > 1 or tree != self._tree_now[parents[0] if parents else None]:
            return False
        before = self._tree_before[commit.parents[0]] if commit.parents else _EMPTY
        return own or len(set(commit.parents)) > 1 or commit.tree != before

    def _without_device(self, tree: str) -> str:
        """The id of a root tree without the device; remembers its bytes."""
        if tree != self._last[0]:
            data = index_build.read_tree(self._git, tree)
            less = _less(data, self._device.encode())
            id_ = tree if len(less) == len(data) else pack.object_id(pack.TREE, less).hex()
            self._last = tree, id_, less
        return self._last[1]

    def _move_root(self) -> None:
        """Give the last looked-at root tree to the writer."""
        data = self._last[2]
        differences, self._uniform = compare_trees(self._written, data, self._uniform)
        self._writer.change([(name, entry) for name, _old, entry in differences])
        self._written = data


def _less(tree: bytes, name: bytes) -> bytes:
    """A root tree without the entry of that name."""
    at = tree.find(b" %s\0" % name) - 5
    if at < -5:
        return tree
    if at % index_build.ENTRY_BYTES == 0 and index_build.is_uniform(tree):
        return tree[:at] + tree[at + index_build.ENTRY_BYTES :]
    return pack.encode_tree(entry for entry in pack.parse_tree(tree) if entry.name != name)
