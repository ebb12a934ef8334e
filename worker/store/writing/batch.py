"""Turns a batch of backups into git objects on top of a parent commit, in memory."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import pygit2

from confkeep.errors import RepositoryDamaged
from confkeep.labels import NO_LABELS, Labels
from confkeep.routeros.own_name import own_name
from worker.store.git import pack
from worker.store.git.pack import PackObject, TreeEntry
from worker.store.git.root_tree import RootTree
from worker.store.history.index_rows import NOTHING, Entry
from worker.store.repository import headers
from worker.store.repository.backup import (
    BINARY_NAME,
    EXPORT_NAME,
    NOTHING_KNOWN,
    Backup,
    Committed,
    Detail,
    Naming,
    Signature,
    Version,
    encode_text,
    pack_uuid,
)
from worker.store.repository.detail import detail_of
from worker.store.repository.reader import Pair
from worker.store.repository.tenant_repository import TenantRepository

_FILE_MODE = b"100644"
_EMPTY_TREE: Final = pack.object_id(pack.TREE, b"")
_EXPORT = EXPORT_NAME.encode()
_BINARY = BINARY_NAME.encode()


@dataclass(slots=True)
class _Device:
    """A device's folder in the newest commit."""

    folder_id: bytes | None = None
    export_id: bytes | None = None
    #: The export's bytes, if this batch has them.
    export: bytes | None = None
    #: The exports of its versions in this batch, oldest first.
    versions: list[bytes] = field(default_factory=list)
    #: The other entries of the folder, which stay.
    others: list[TreeEntry] = field(default_factory=list)


class Batch:
    """Makes commits on top of each other, in memory.

    Does not store objects again that the parent's tree has at the same device, or that the batch
    has already. Does not look for objects in other packs: storing one twice costs bytes, the
    look-up would search all packs.
    """

    def __init__(
        self,
        repository: TenantRepository,
        parent: str | None,
        now_s: int,
        kept: RootTree | None,
        labels: Mapping[str, Labels],
        own_names: Mapping[str, str | None],
        older: Callable[[str, int], Iterable[bytes]],
    ) -> None:
        """Start on the commit `parent` (40 hex digits; None: an empty repository).

        Args:
            kept: the root tree of `parent`, which this batch may change; None: it is read.
            labels: those that the devices have in `parent`; a device that never had any is not there.
            own_names: what the exports there call them, as far as the history index has it.
            older: gives the exports of a device's versions in `parent`, newest first, without so many
                of the first. Hardly ever asked for.

        Raises:
            RepositoryDamaged: the commit or its tree cannot be read.
        """
        self._repository = repository
        self._now_s = now_s
        #: The newest commit's id, 40 hex digits, and its tree.
        self.tip = parent
        self._root_id = _EMPTY_TREE
        if parent is not None:
            commit = self._read(bytes.fromhex(parent), pack.COMMIT)
            self._root_id = bytes.fromhex(commit[5:45].decode("ascii", "replace"))
        self.root = kept or self._read_root(parent)
        self._devices: dict[str, _Device] = {}
        self._labels = dict(labels)
        self._own_names = dict(own_names)
        self._older = older
        #: Ids of objects that need not be stored.
        self._known = set() if parent is None else {self._root_id}
        #: The batch's entries for the history index.
        self.indexed: list[Entry] = []
        # The order in the pack: what history walks read comes first and lies together.
        self._commits: list[PackObject] = []
        self._roots: list[PackObject] = []
        self._folders: list[PackObject] = []
        self._files: list[PackObject] = []

    @property
    def objects(self) -> list[PackObject]:
        """The objects for the batch's pack; a base comes before its deltas."""
        return [*self._commits, *self._roots, *self._folders, *self._files]

    def add(self, backup: Backup | Naming) -> Committed:
        """Make the commit of `backup` on top of those before it.

        Raises:
            RepositoryDamaged: the device's last version cannot be read.
        """
        if isinstance(backup, Naming):
            if self.tip is None:
                # The tenant, or a device to come, is named before the first backup.
                self._known.add(_EMPTY_TREE)
                self._roots.append(PackObject(pack.TREE, _EMPTY_TREE, b""))
            return self._commit(backup, NOTHING_KNOWN, None, folder=None)
        device = self._devices.get(backup.device_id)
        if device is None:
            device = self._devices[backup.device_id] = self._last_version(backup.device_id)
        old_export = None
        # `pygit2.hash` notices crafted SHA-1 collisions; these bytes come from devices.
        export_id = pygit2.hash(backup.export).raw
        if export_id == device.export_id:
            old_export = backup.export
        elif device.export is not None:
            old_export = device.export
        elif device.export_id is not None:
            old_export = self._read(device.export_id, pack.BLOB)
        self._store_file(export_id, backup.export)
        binary_id = None
        if backup.binary is not None:
            binary_id = pygit2.hash(backup.binary).raw
            self._store_file(binary_id, backup.binary)
        folder = _encode_folder(export_id, binary_id, device.others)
        folder_id = pack.object_id(pack.TREE, folder)
        unchanged = folder_id == device.folder_id
        if not unchanged:
            if folder_id not in self._known:
                self._known.add(folder_id)
                self._folders.append(PackObject(pack.TREE, folder_id, folder))
            self.root.put(backup.device_id.encode(), folder_id)
            self._root_id = self.root.id()
            if self._root_id not in self._known:
                self._known.add(self._root_id)
                self._roots.append(self.root.to_store(self._root_id))
        detail = detail_of(
            old_export,
            Pair(backup.export, backup.binary),
            partial(self._before, backup.device_id, device),
        )
        device.folder_id, device.export_id, device.export = folder_id, export_id, backup.export
        if unchanged:
            return self._commit(backup, detail, self._own_names.get(backup.device_id), folder=None)
        device.versions.append(backup.export)
        return self._commit(backup, detail, own_name(backup.export), folder=folder_id)

    def _before(self, device_id: str, device: _Device) -> Iterator[bytes]:
        """The exports of a device's versions before its newest one, newest first."""
        yield from device.versions[-2::-1]
        yield from self._older(device_id, 0 if device.versions else 1)

    def _commit(
        self,
        backup: Backup | Naming,
        detail: Detail,
        own_name: str | None,
        *,
        folder: bytes | None,
    ) -> Committed:
        """Make the commit with the root tree as it is now.

        Args:
            folder: the device's new tree; None if nothing changed.
        """
        before = self._labels.get(backup.device_id)
        labels = before
        if backup.labels:
            labels = backup.labels.over(before or NO_LABELS)
            self._labels[backup.device_id] = labels
        data = encode_commit(
            self._root_id.hex(), self.tip, backup, labels, self._repository.author, self._now_s
        )
        parent = self.tip
        id_ = pack.object_id(pack.COMMIT, data)
        self._commits.append(PackObject(pack.COMMIT, id_, data))
        self.tip = id_.hex()
        device = pack_uuid(backup.device_id)
        own_names: dict[bytes, str | None] = {}
        if folder is not None and self._own_names.get(backup.device_id, "") != own_name:
            # The index knows no name that is empty: a device that is new to it gets its row.
            own_names[device] = self._own_names[backup.device_id] = own_name
        self.indexed.append(
            Entry(
                version=Version(
                    id_,
                    self._now_s,
                    captured_s(backup, self._now_s),
                    pack_uuid(backup.backup_id),
                    encode_text(backup.message),
                    detail,
                ),
                changed=NOTHING if folder is None else {device: folder},
                device=device,
                captured=isinstance(backup, Backup),
                labels=None if labels == before else labels,
                own_names=own_names,
            )
        )
        name = (None if labels is None else labels.name) or own_name
        return Committed(
            backup_id=backup.backup_id,
            device_id=backup.device_id,
            sha=self.tip,
            unchanged=folder is None,
            committed_at=dt.datetime.fromtimestamp(self._now_s, dt.UTC),
            detail=detail,
            device_name=name,
            labels=labels,
            parent=parent,
            naming=isinstance(backup, Naming),
        )

    def _store_file(self, id_: bytes, data: bytes) -> None:
        if id_ in self._known:
            return
        self._known.add(id_)
        # Deflate now, while the data is in the processor's cache from hashing. Large files are
        # deflated when they are written, so that they are in memory only once.
        small = len(data) <= pack.PIECE_BYTES
        deflated = list(pack.deflate(data)) if small else None
        self._files.append(PackObject(pack.BLOB, id_, data, deflated=deflated))

    def _read_root(self, parent: str | None) -> RootTree:
        try:
            return RootTree(b"" if parent is None else self._read(self._root_id, pack.TREE))
        except ValueError as error:
            raise self._damage(f"tree of {parent}: {error}") from error

    def _last_version(self, device_id: str) -> _Device:
        folder_id = self.root.find(device_id.encode())
        if folder_id is None:
            return _Device()
        device = _Device(folder_id)
        try:
            entries = pack.parse_tree(self._read(folder_id, pack.TREE))
        except ValueError as error:
            raise self._damage(f"folder {device_id}: {error}") from error
        self._known.add(folder_id)
        for entry in entries:
            if entry.name not in (_EXPORT, _BINARY):
                device.others.append(entry)
            elif entry.is_blob:
                self._known.add(entry.id)
                if entry.name == _EXPORT:
                    device.export_id = entry.id
        return device

    def _read(self, id_: bytes, kind: int) -> bytes:
        git, oid = self._repository.git, pygit2.Oid(raw=id_)
        try:
            try:
                found, data = git.read(oid)
            except KeyError:
                # libgit2 looks for new packs once. Beside two repacks in a row that is not enough.
                found, data = git.read(oid)
        except (pygit2.GitError, KeyError) as error:
            raise self._damage(f"object {id_.hex()} cannot be read") from error
        if found != kind:
            raise self._damage(f"object {id_.hex()} is not of its kind")
        return data

    def _damage(self, text: str) -> RepositoryDamaged:
        return RepositoryDamaged(f"{self._repository.path.name}: {text}")


def _encode_folder(export_id: bytes, binary_id: bytes | None, others: list[TreeEntry]) -> bytes:
    """The tree of a device's folder."""
    files = b"%s %s\0%s" % (_FILE_MODE, _EXPORT, export_id)
    if binary_id is not None:
        # In git's order: `backup.bin` is before `export.rsc`.
        files = b"%s %s\0%s%s" % (_FILE_MODE, _BINARY, binary_id, files)
    return pack.encode_tree([*others, *pack.parse_tree(files)]) if others else files


def captured_s(backup: Backup | Naming, now_s: int) -> int:
    """The author's date, in seconds since 1970."""
    said = backup.captured_at if isinstance(backup, Backup) else None
    return now_s if said is None else int(said.timestamp())


def encode_commit(
    tree: str,
    parent: str | None,
    backup: Backup | Naming,
    labels: Labels | None,
    author: Signature,
    now_s: int,
) -> bytes:
    """A raw commit object with the backup's extra header lines (`worker.store.repository.headers`).

    Format: header lines (tree, parent, author, committer), then extra headers, an empty line, and
    the message as it came.

    Args:
        labels: all that the device has from now on; None if it never had any.
    """
    who = f"{author.name} <{author.email}>".encode()
    captured_at = backup.captured_at if isinstance(backup, Backup) else None
    offset = b"+0000" if captured_at is None else captured_at.strftime("%z")[:5].encode()
    naming = isinstance(backup, Naming)
    return b"".join(
        (
            b"tree %s\n" % tree.encode(),
            b"parent %s\n" % parent.encode() if parent is not None else b"",
            b"author %s %d %s\n" % (who, captured_s(backup, now_s), offset),
            b"committer %s %d +0000\n" % (who, now_s),
            headers.encode(backup.device_id, backup.backup_id, labels, naming=naming),
            b"\n",
            encode_text(backup.message),
        )
    )
