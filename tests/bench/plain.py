"""The baseline "plain": one commit per call, TreeBuilder, loose objects, fsync on; bench only.

What a straightforward use of pygit2 does, with the same answer (line counts, `export_changed`) and
the same durability: libgit2 syncs each loose object, each folder and the ref. It looks for no
backup id and keeps no index.
"""

from __future__ import annotations

import datetime as dt
import time

import pygit2
from pygit2.enums import FileMode, ObjectType

from worker.store.git.refs import MAIN_REF
from worker.store.repository.backup import BINARY_NAME, EXPORT_NAME, Backup, Committed
from worker.store.repository.detail import detail_of
from worker.store.repository.reader import Pair
from worker.store.repository.tenant_repository import TenantRepository
from worker.store.writing.batch import encode_commit


def commit_backup(repository: TenantRepository, backup: Backup) -> Committed:
    """Commit one backup; durable when this returns."""
    git = repository.git
    now_s = int(time.time())
    ref = git.references.get(MAIN_REF)
    parent = None if ref is None else ref.peel(pygit2.Commit)
    device, old, old_export = git.TreeBuilder(), None, None
    if parent is not None and backup.device_id in parent.tree:
        old = parent.tree[backup.device_id]
        assert isinstance(old, pygit2.Tree)
        blob = old[EXPORT_NAME]
        assert isinstance(blob, pygit2.Blob)
        old_export = blob.data
        device = git.TreeBuilder(old)
    device.insert(EXPORT_NAME, git.create_blob(backup.export), FileMode.BLOB)
    if backup.binary is not None:
        device.insert(BINARY_NAME, git.create_blob(backup.binary), FileMode.BLOB)
    elif device.get(BINARY_NAME) is not None:
        device.remove(BINARY_NAME)
    device_tree_id = device.write()
    root = git.TreeBuilder() if parent is None else git.TreeBuilder(parent.tree)
    root.insert(backup.device_id, device_tree_id, FileMode.TREE)
    raw = encode_commit(
        str(root.write()),
        None if parent is None else str(parent.id),
        backup,
        None,
        repository.author,
        now_s,
    )
    commit_id = git.write(ObjectType.COMMIT, raw)
    if ref is None:
        git.references.create(MAIN_REF, commit_id)
    else:
        ref.set_target(commit_id)
    unchanged = old is not None and old.id == device_tree_id
    detail = detail_of(old_export, Pair(backup.export, backup.binary), tuple)
    return Committed(
        backup_id=backup.backup_id,
        device_id=backup.device_id,
        sha=str(commit_id),
        unchanged=unchanged,
        committed_at=dt.datetime.fromtimestamp(now_s, dt.UTC),
        detail=detail,
    )
