"""The write protocol: a batch of backups becomes commits in one durable step.

`docs/write-path.md` explains the steps and what a crash between two of them leaves.
"""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import pygit2

from confkeep.labels import NO_LABELS
from confkeep.routeros.own_name import own_name
from worker.store.git import durable, flock, keep, pack, refs
from worker.store.git.pack import PackEncoder
from worker.store.history.index import HistoryIndex, open_index
from worker.store.repository import description, headers, reader, recovery
from worker.store.repository.backup import NOTHING_KNOWN, Backup, Committed, Naming, Signature
from worker.store.repository.detail import detail_of
from worker.store.repository.headers import BACKUP_ID_HEADER, DEVICE_ID_HEADER
from worker.store.repository.id_map import RemovedBackup
from worker.store.repository.tenant_repository import (
    DEFAULT_AUTHOR,
    TenantRepository,
    create_repository,
    damage,
    sync_repository,
)
from worker.store.writing import kept_roots
from worker.store.writing.batch import Batch
from worker.store.writing.stopwatch import Stopwatch

#: Permissions of packs: git writes them read-only too.
_PACK_MODE: Final = 0o444

#: How often to go through the packs while a repack removes some, and the seconds in between.
#: Bounded since an idx without its pack, which a crash may leave, must end it too.
_PASSES: Final = 20
_PASS_S: Final = 0.01


class Writer:
    """Commits batches to one repository. Not safe to share between threads."""

    def __init__(self, repository: TenantRepository) -> None:
        self.repository = repository
        #: The history index, opened for writing when first needed.
        self.index: HistoryIndex = open_index(repository)

    def close(self) -> None:
        """Release the history index."""
        self.index.close()

    def commit_backups(
        self,
        backups: Sequence[Backup | Naming],
        *,
        now_s: int | None = None,
        watch: Stopwatch | None = None,
    ) -> list[Committed]:
        """Commit `backups` in their order, one commit each; durable when this returns.

        A backup whose id is in git already, or twice in `backups`, is not written again: it gets
        the answer of the first. Either all of the others are committed or none. Memory: the backups
        themselves, one old export and one piece being written; callers bound the batch.

        Args:
            now_s: the committer's date in seconds since 1970; None: now.
            watch: gets the laps `flock`, `find`, `objects`, `pack`, `ref` and `index`.

        Returns:
            One answer for each of `backups`, in the same order.

        Raises:
            RepositoryBusy: another writer moved the branch meanwhile, or a dead one left its lock, which
                the next opening removes; nothing was committed.
            StoreUnavailable: the file system refused. Whether the batch was committed is unknown, as a
                rule it was not; the same backups may be given again.
            RepositoryDamaged: an object that the branch needs is not there.
        """
        now_s = int(time.time()) if now_s is None else now_s
        watch = watch or Stopwatch()
        with self._beside_others():
            # 0. The flock is held, so no recovery runs meanwhile.
            watch.lap("flock")
            return self._commit(backups, now_s, watch)

    def find_committed(self, device_ids: Mapping[str, str]) -> dict[str, Committed]:
        """The answers for those backup ids that are in git; durable when this returns.

        Args:
            device_ids: the device of each backup id, for commits that do not name theirs.

        Raises:
            StoreUnavailable: the file system refused.
            RepositoryDamaged: an object that the branch needs is not there.
        """
        with self._beside_others():
            tip = refs.read_main(self.repository.path)
            commits = self.index.find_backup_ids(device_ids.keys(), tip)
            found = self._answers(commits, device_ids)
            if found:
                finish(self.repository.path, [answer.sha for answer in found.values()])
        return found

    @contextmanager
    def _beside_others(self) -> Iterator[None]:
        """Holds the flock shared, and turns the errors within into the store's."""
        path = self.repository.path
        with damage(path), durable.file_system_errors(path.name), flock.shared(path):
            yield

    def _commit(
        self, backups: Sequence[Backup | Naming], now_s: int, watch: Stopwatch
    ) -> list[Committed]:
        repository = self.repository
        # 1. The ref is read once: this value is the parent, and what step 7 compares with.
        parent = refs.read_main(repository.path)

        # 2. Backups that are in git already are made durable, then answered from git.
        device_ids = {backup.backup_id: backup.device_id for backup in backups}
        known = self.index.known_before(device_ids, parent)
        done = self._answers(known.commits, device_ids)
        if done:
            finish(repository.path, [answer.sha for answer in done.values()])

        watch.lap("find")

        # 3. Blobs, trees and commits, in memory.
        # Taken out: if this batch fails, the changed tree is useless.
        kept = kept_roots.of_process.take(parent)

        def older(device_id: str, skip: int) -> Iterator[bytes]:
            return self.index.exports_below(device_id, parent, skip)

        batch = Batch(repository, parent, now_s, kept, known.labels, known.own_names, older)
        answers = []
        for backup in backups:
            answer = done.get(backup.backup_id)
            if answer is None:
                answer = done[backup.backup_id] = batch.add(backup)
            else:
                answer = replace(answer, replayed=True)
            answers.append(answer)
        watch.lap("objects")
        if batch.tip is None or batch.tip == parent:
            self._describe(backups)
            return answers

        # 4. Whoever created the repository may have been killed before it was durable.
        if parent is None:
            sync_repository(repository.path)

        with ExitStack() as keeps, refs.new_value(repository.path, batch.tip) as value:
            # 5. and 6. One pack and its idx, durable before anything refers to them.
            folder = repository.path / "objects" / "pack"
            write_pack(folder, keep.new_name(), PackEncoder(batch.objects), keeps)
            watch.lap("pack")

            # 7. The commit point.
            move_main(repository.path, parent, batch.tip, value)
        # 8. The keep is gone: what git finds from now on it finds reachable.
        watch.lap("ref")
        durable.failpoint("committed")
        kept_roots.of_process.keep(batch.tip, batch.root)

        # 9. The history index. If it fails, no harm is done: the next batch catches up.
        self.index.append(parent, batch.indexed)
        watch.lap("index")
        self._describe(backups)
        return answers

    def _describe(self, backups: Sequence[Backup | Naming]) -> None:
        """Write the tenant's name beside the repository, if it was given one."""
        path = self.repository.path
        tenant_id = path.name.removesuffix(".git")
        if any(backup.device_id == tenant_id for backup in backups):
            labels = self.index.labels(refs.read_main(path), [tenant_id])
            description.write_name(path, labels.get(tenant_id, NO_LABELS).name)

    def _answers(
        self, commits: Mapping[str, str], device_ids: Mapping[str, str]
    ) -> dict[str, Committed]:
        """The answers for those backup ids that have commits in git, or had some."""
        repository, found = self.repository, {}
        for backup_id, sha in commits.items():
            commit = reader.find_commit(repository, sha)
            found[backup_id] = describe_commit(
                repository, self.index, commit, device_ids[backup_id]
            )
        ids = repository.ids.get(repository.path, repository.git)
        if ids is not None:
            # Retention removed their commits, but each was committed once, which is enough.
            for backup_id, gone in ids.removed_backups(device_ids.keys() - found.keys()).items():
                found[backup_id] = _describe_removed(gone, device_ids[backup_id])
        return found


@contextmanager
def open_for_writing(path: Path, author: Signature = DEFAULT_AUTHOR) -> Iterator[Writer]:
    """`create_repository`, and its writer, with the flock held shared until the end of the block.

    `commit_backups` takes the flock by itself; this also keeps recovery away between batches.

    Raises:
        RepositoryBusy, StoreUnavailable, RepositoryDamaged: as `create_repository`.
    """
    repository = create_repository(path, author)
    with ExitStack() as held:
        with durable.file_system_errors(path.name):
            held.enter_context(flock.shared(path))
        writer = Writer(repository)
        try:
            yield writer
        finally:
            writer.close()
            repository.close()


def write_pack(folder: Path, name: str, encoder: PackEncoder, keeps: ExitStack) -> None:
    """Write a pack and its idx; both are durable and readers find them when this returns.

    Args:
        name: as `keep.new_name` gives it.
        keeps: the caller closes it when a ref reaches the pack (see `keep.name_pack`).

    Raises:
        OSError: the file system refused.
    """
    with ExitStack() as undo:
        # 5. Both under names that no reader looks at.
        pack_path = durable.temporary_name(folder, recovery.PACK_PREFIX)
        undo.callback(durable.remove, pack_path)
        idx_path = durable.temporary_name(folder, recovery.IDX_PREFIX)
        undo.callback(durable.remove, idx_path)
        with (
            durable.begin_file(pack_path, encoder, _PACK_MODE) as sync_pack,
            durable.begin_file(idx_path, [encoder.idx()], _PACK_MODE) as sync_idx,
        ):
            sync_pack()
            durable.failpoint("pack-written")
            sync_idx()
            durable.failpoint("idx-written")

        # 6. Under the names that readers look for.
        keep.name_pack(folder, name, pack_path, idx_path, keeps)
        undo.pop_all()


def move_main(
    path: Path, expected: str | None, target: str, value: refs.Value | None = None
) -> None:
    """Like `refs.move_main`; if it fails but `main` names `target`, `main` is made durable.

    Raises:
        RepositoryBusy: as there; `main` was not moved.
        OSError: the file system refused, and `main` does not name `target`.
    """
    try:
        refs.move_main(path, expected, target, value)
    except OSError:
        # The outcome is unknown, so look.
        if refs.read_main(path) != target:
            raise
        finish(path, [target])


def finish(path: Path, shas: Sequence[str]) -> None:
    """Make `main`, and commits that are in it, durable. Whoever wrote them may have been killed before
    the last sync: then they are there now, and would be gone after a power cut."""
    folder = path / "objects" / "pack"
    wanted = [bytes.fromhex(sha) for sha in shas]
    for _ in range(_PASSES):
        if _sync_packs_with(folder, wanted):
            break
        # A repack is removing packs; their objects are in a new one.
        time.sleep(_PASS_S)
    durable.sync_directory(folder)
    refs.sync_main(path)
    durable.sync_parents(path)
    durable.failpoint("finished")


def _sync_packs_with(folder: Path, wanted: Sequence[bytes]) -> bool:
    """Sync the packs that hold one of the objects; False if a pack was removed meanwhile."""
    all_there = True
    for name in os.listdir(folder):
        if not name.endswith(".idx"):
            continue
        try:
            if pack.idx_holds_any((folder / name).read_bytes(), wanted):
                durable.sync_file(folder / name)
                durable.sync_file(folder / f"{name.removesuffix('.idx')}.pack")
        except FileNotFoundError:
            all_there = False
    return all_there


def _describe_removed(gone: RemovedBackup, device_id: str) -> Committed:
    """The answer for a backup whose commit was removed; what it changed is unknown."""
    return Committed(
        backup_id=gone.backup_id,
        device_id=gone.device_id or device_id,
        sha=gone.sha,
        unchanged=False,
        committed_at=dt.datetime.fromtimestamp(gone.committed_s, dt.UTC),
        detail=NOTHING_KNOWN,
        replayed=True,
    )


def describe_commit(
    repository: TenantRepository, index: HistoryIndex, commit: pygit2.Commit, device_id: str
) -> Committed:
    """The answer of `Writer.commit_backups`, rebuilt from a commit that has a `backup-id`."""
    raw = commit.read_raw()
    device_id = headers.id_in_header(raw, DEVICE_ID_HEADER) or device_id
    if headers.is_naming(raw):
        unchanged, detail, own = True, NOTHING_KNOWN, None
    else:
        old, new = reader.read_change(repository, commit, device_id)
        older = partial(index.exports_below, device_id, commit.id, skip=2)
        unchanged, own = old == new, own_name(new.export)
        detail = detail_of(old.export, new, older)
    labels = headers.labels_in(raw)
    return Committed(
        backup_id=headers.id_in_header(raw, BACKUP_ID_HEADER) or "",
        device_id=device_id,
        sha=str(commit.id),
        unchanged=unchanged,
        committed_at=dt.datetime.fromtimestamp(commit.commit_time, dt.UTC),
        detail=detail,
        device_name=(None if labels is None else labels.name) or own,
        labels=labels,
        parent=str(commit.parent_ids[0]) if commit.parent_ids else None,
        naming=headers.is_naming(raw),
    )
