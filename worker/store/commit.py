"""The write protocol: a batch of backups becomes commits in one durable step; it reads no history."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pygit2
from pygit2.enums import FileMode, ObjectType

from worker.errors import RepositoryDamaged
from worker.store import durable, reader, refs
from worker.store.backup import (
    BACKUP_ID_HEADER,
    BINARY_NAME,
    DEVICE_ID_HEADER,
    EXPORT_NAME,
    Backup,
    Committed,
    Signature,
    decode_text,
    encode_text,
)
from worker.store.line_delta import compute_line_delta
from worker.store.repository import TenantRepository
from worker.store.routeros import same_configuration


def commit_backups(
    repository: TenantRepository, backups: Sequence[Backup], *, now_s: int | None = None
) -> list[Committed]:
    """Commit `backups` in their order, one commit each; durable when this returns.

    A backup whose id is in git already, or that stands twice in `backups`, is not written again:
    its answer is that of the first. All or none of the others are committed.

    Args:
        now_s: the committer's date in seconds since 1970; None: now.

    Returns:
        One answer for each of `backups`, in the same order.

    Raises:
        RepositoryBusy: another writer moved the branch meanwhile; nothing was committed.
        StoreUnavailable: the file system refused.
        RepositoryDamaged: an object that the branch needs is not there.
    """
    now_s = int(time.time()) if now_s is None else now_s
    with durable.file_system_errors(repository.path.name):
        try:
            return _commit(repository, backups, now_s)
        except pygit2.GitError as error:
            raise RepositoryDamaged(f"{repository.path.name}: {error}") from error


@dataclass(slots=True)
class _State:
    """The newest commit, as the batch grows."""

    commit_id: pygit2.Oid | None
    tree: pygit2.Tree | None


def _commit(repository: TenantRepository, backups: Sequence[Backup], now_s: int) -> list[Committed]:
    read = refs.read_main(repository.git)
    state = _State(None, None)
    if read is not None:
        parent = read.peel(pygit2.Commit)
        state.commit_id, state.tree = parent.id, parent.tree
    done = find_committed(repository, backups)
    wrote = False
    answers = []
    for backup in backups:
        answer = done.get(backup.backup_id)
        if answer is None:
            answer = done[backup.backup_id] = _write(repository, state, backup, now_s)
            wrote = True
        else:
            answer = replace(answer, replayed=True)
        answers.append(answer)
    if wrote:
        assert state.commit_id is not None
        refs.move_main(repository.git, read, state.commit_id)
    return answers


def _write(repository: TenantRepository, state: _State, backup: Backup, now_s: int) -> Committed:
    """Write one backup's objects on top of `state`, and advance it."""
    git = repository.git
    old, old_export = None, None
    if state.tree is not None and backup.device_id in state.tree:
        entry = state.tree[backup.device_id]
        if isinstance(entry, pygit2.Tree):
            old = entry
            if EXPORT_NAME in old:
                blob = old[EXPORT_NAME]
                old_export = blob.data if isinstance(blob, pygit2.Blob) else None
    device = git.TreeBuilder() if old is None else git.TreeBuilder(old)
    device.insert(EXPORT_NAME, git.create_blob(backup.export), FileMode.BLOB)
    if backup.binary is not None:
        device.insert(BINARY_NAME, git.create_blob(backup.binary), FileMode.BLOB)
    elif device.get(BINARY_NAME) is not None:
        device.remove(BINARY_NAME)
    device_tree_id = device.write()
    root = git.TreeBuilder() if state.tree is None else git.TreeBuilder(state.tree)
    root.insert(backup.device_id, device_tree_id, FileMode.TREE)
    tree = git[root.write()]
    assert isinstance(tree, pygit2.Tree)
    raw = encode_commit(tree.id, state.commit_id, backup, repository.author, now_s)
    state.commit_id = git.write(ObjectType.COMMIT, raw)
    state.tree = tree
    unchanged = old is not None and old.id == device_tree_id
    return describe(backup, str(state.commit_id), old_export, unchanged, now_s)


def encode_commit(
    tree_id: pygit2.Oid,
    parent_id: pygit2.Oid | None,
    backup: Backup,
    author: Signature,
    now_s: int,
) -> bytes:
    """A raw commit object with the backup's id as an extra header line.

    Format: `git help gitformat-commit`-like header lines (tree, parent, author, committer), then
    extra headers, an empty line, and the message as it came.
    """
    who = f"{author.name} <{author.email}>".encode()
    author_s, offset = now_s, b"+0000"
    if backup.captured_at is not None:
        author_s = int(backup.captured_at.timestamp())
        offset = backup.captured_at.strftime("%z")[:5].encode()
    lines = [b"tree " + str(tree_id).encode()]
    if parent_id is not None:
        lines.append(b"parent " + str(parent_id).encode())
    lines += [
        b"author %s %d %s" % (who, author_s, offset),
        b"committer %s %d +0000" % (who, now_s),
        DEVICE_ID_HEADER + b" " + backup.device_id.encode(),
        BACKUP_ID_HEADER + b" " + backup.backup_id.encode(),
    ]
    return b"\n".join(lines) + b"\n\n" + encode_text(backup.message)


def describe(
    backup: Backup, sha: str, old_export: bytes | None, unchanged: bool, now_s: int
) -> Committed:
    """The answer for a backup that became the commit `sha`."""
    added, removed = compute_line_delta(decode_text(old_export or b""), decode_text(backup.export))
    return Committed(
        backup_id=backup.backup_id,
        device_id=backup.device_id,
        sha=sha,
        lines_added=added,
        lines_removed=removed,
        unchanged=unchanged,
        export_changed=old_export is None or not same_configuration(old_export, backup.export),
        committed_at=dt.datetime.fromtimestamp(now_s, dt.UTC),
    )


def find_committed(repository: TenantRepository, backups: Sequence[Backup]) -> dict[str, Committed]:
    """The answers for those of `backups` whose ids are in git, as their commits give them."""
    device_ids = {backup.backup_id: backup.device_id for backup in backups}
    return {
        backup_id: describe_commit(repository, commit, device_ids[backup_id])
        for backup_id, commit in reader.find_backup_ids(repository, frozenset(device_ids)).items()
    }


def describe_commit(
    repository: TenantRepository, commit: pygit2.Commit, device_id: str
) -> Committed:
    """The answer that `commit_backups` gave, made again from a commit that has a `backup-id`."""
    raw = commit.read_raw()
    device_id = reader.id_in_header(raw, DEVICE_ID_HEADER) or device_id
    new = reader.read_pair(repository, commit, device_id)
    old = reader.Pair(None, None)
    if commit.parents:
        old = reader.read_pair(repository, commit.parents[0], device_id)
    backup = Backup(
        backup_id=reader.id_in_header(raw, BACKUP_ID_HEADER) or "",
        device_id=device_id,
        export=new.export or b"",
        binary=new.binary,
        message=decode_text(commit.raw_message),
    )
    return describe(backup, str(commit.id), old.export, old == new, commit.commit_time)
