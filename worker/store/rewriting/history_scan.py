"""Reads a chain of commits, oldest first, with the device that each captured."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import pygit2

from confkeep.errors import RepositoryDamaged
from confkeep.routeros.loss import LOOK_BACK
from worker.store.git import pack
from worker.store.history import index_build
from worker.store.history.index_build import compare_trees, is_device
from worker.store.repository import headers
from worker.store.repository.backup import BINARY_NAME, EXPORT_NAME
from worker.store.repository.detail import detail_of
from worker.store.repository.headers import BACKUP_ID_HEADER, DEVICE_ID_HEADER
from worker.store.repository.reader import Pair
from worker.store.repository.tenant_repository import TenantRepository
from worker.store.rewriting.retention_rules import Capture

_EXPORT: Final = EXPORT_NAME.encode()
_BINARY: Final = BINARY_NAME.encode()

#: A root tree's entry that a commit changed: its name, and its new mode and id (None: removed).
Change = tuple[bytes, bytes | None]


@dataclass(frozen=True, slots=True)
class Folder:
    """A device's folder."""

    id: bytes
    export_id: bytes | None
    binary_id: bytes | None


@dataclass(frozen=True, slots=True)
class Scanned:
    """One commit of the history."""

    #: 20 bytes, like the ids of trees and files.
    id: bytes
    #: The device's id as 36 bytes of text; None if the commit is no capture.
    device: bytes | None = None
    #: The device's folder in this commit; None if the commit is no capture.
    folder: Folder | None = None
    #: What the rules go by; None if the commit is no capture.
    capture: Capture | None = None
    backup_id: str | None = None
    #: What a commit that is no capture changed.
    changes: tuple[Change, ...] = ()
    #: It changed a device's labels.
    naming: bool = False


@dataclass(frozen=True, slots=True)
class Chain:
    """The commits above the newest merge, or all commits if there is no merge."""

    #: The ids, oldest first.
    shas: list[str]
    #: The merge, 40 hex digits; None if there is none.
    merge: str | None


def chain_of(repository: TenantRepository, tip: str) -> Chain:
    """The chain that leads down from `tip`.

    Raises:
        RepositoryDamaged: a commit is missing.
    """
    shas = []
    at: str | None = tip
    while at is not None:
        parents = index_build.read_commit(repository.git, at).parents
        if len(parents) > 1:
            break
        shas.append(at)
        at = parents[0] if parents else None
    return Chain(shas[::-1], at)


class Scan:
    """Iterates over a chain and tells what each commit did.

    Reads one root tree per commit, and each changed folder once. Compares two exports to tell whether
    the configuration changed and whether the newer one is suspect, unless they have the same id.
    """

    def __init__(self, repository: TenantRepository, chain: Chain) -> None:
        self._git = repository.git
        self._name = repository.path.name
        self._chain = chain
        self._folders: dict[bytes, Folder] = {}
        #: Of each device: the ids of the exports that its captures had in turn, the newest last.
        self._exports: dict[bytes, deque[bytes]] = defaultdict(lambda: deque(maxlen=LOOK_BACK + 1))
        self._suspect: set[bytes] = set()

    def __iter__(self) -> Iterator[Scanned]:
        """Each commit of the chain.

        Raises:
            RepositoryDamaged: an object that is needed is missing.
        """
        tree, tree_id, uniform = b"", "", True
        if self._chain.merge is not None:
            tree_id = index_build.read_commit(self._git, self._chain.merge).tree
            tree = index_build.read_tree(self._git, tree_id)
            uniform = index_build.is_uniform(tree)
            self._note(list(index_build.entries_of(tree).items()))
        for number, sha in enumerate(self._chain.shas):
            index_build.let_go(self._git, number)
            commit = index_build.read_commit(self._git, sha)
            changes: list[Change] = []
            if commit.tree != tree_id:
                old, tree_id = tree, commit.tree
                tree = index_build.read_tree(self._git, tree_id)
                differences, uniform = compare_trees(old, tree, uniform)
                changes = [(name, entry) for name, _old, entry in differences]
            own = headers.id_in_header(commit.raw, DEVICE_ID_HEADER)
            naming = headers.is_naming(commit.raw)
            device = None if naming else self._captured(own, changes)
            before = None if device is None else self._folders.get(device)
            self._note(changes)
            folder = None if device is None else self._folders.get(device)
            id_ = bytes.fromhex(sha)
            if device is None or folder is None:
                yield Scanned(id_, changes=tuple(changes), naming=naming)
                continue
            capture = Capture(
                committed_s=commit.committed_s,
                config_changed=self._compare(device, before, folder),
                changed=before is None or before.id != folder.id,
                # As the comparison has just noted it.
                suspect=device in self._suspect,
                binary=folder.binary_id,
            )
            backup_id = headers.id_in_header(commit.raw, BACKUP_ID_HEADER)
            yield Scanned(id_, device, folder, capture, backup_id)

    @staticmethod
    def _captured(own: str | None, changes: list[Change]) -> bytes | None:
        """The device that a commit captured; None if the commit is no capture of one device."""
        names = {name for name, _entry in changes}
        if own is not None and names <= {own.encode()}:
            return own.encode()
        if own is None and len(changes) == 1 and is_device(changes[0][0]):
            return changes[0][0]
        return None

    def _note(self, changes: Sequence[Change]) -> None:
        for name, entry in changes:
            if entry is None or not is_device(name) or entry[:-20] != pack.FOLDER_MODE:
                self._folders.pop(name, None)
            else:
                self._folders[name] = self._folder(entry[-20:])

    def _folder(self, id_: bytes) -> Folder:
        entries = parse_folder(self._name, id_, index_build.read_tree(self._git, id_.hex()))
        found = {entry.name: entry.id for entry in entries if entry.is_blob}
        return Folder(id_, found.get(_EXPORT), found.get(_BINARY))

    def _compare(self, device: bytes, before: Folder | None, now: Folder) -> bool:
        """Whether the configuration changed. Notes whether the export is suspect: what leaves it as it is inherits that."""
        if before is not None and before.export_id == now.export_id:
            return False
        older = self._exports[device]
        detail = detail_of(
            self._export(before),
            Pair(self._export(now), None),
            lambda: (self._blob(id_) for id_ in islice(reversed(older), 1, None)),
        )
        (self._suspect.discard if detail.suspect is None else self._suspect.add)(device)
        if now.export_id is not None:
            older.append(now.export_id)
        return before is None or detail.export_changed

    def _export(self, folder: Folder | None) -> bytes | None:
        return None if folder is None or folder.export_id is None else self._blob(folder.export_id)

    def _blob(self, id_: bytes) -> bytes:
        try:
            return bytes(self._git.odb.read(pygit2.Oid(raw=id_))[1])
        except (KeyError, ValueError, pygit2.GitError) as error:
            raise RepositoryDamaged(f"{self._name}: object {id_.hex()} cannot be read") from error


def parse_folder(name: str, id_: bytes, data: bytes) -> list[pack.TreeEntry]:
    """The entries of a device's folder.

    Raises:
        RepositoryDamaged: it is no tree.
    """
    try:
        return pack.parse_tree(data)
    except ValueError as error:
        raise RepositoryDamaged(f"{name}: tree {id_.hex()}: {error}") from error


def without_binary(name: str, id_: bytes, data: bytes) -> bytes:
    """A device's folder without its binary."""
    return pack.encode_tree(e for e in parse_folder(name, id_, data) if e.name != _BINARY)
