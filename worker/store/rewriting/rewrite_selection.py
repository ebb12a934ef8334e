"""Writes the history that is left when rules remove captures and binaries from a chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker.store.history import index_build
from worker.store.repository.id_map import RemovedBackup
from worker.store.repository.tenant_repository import TenantRepository
from worker.store.rewriting.history_scan import Scanned, without_binary
from worker.store.rewriting.rewrite import HistoryWriter, Made


@dataclass(frozen=True, slots=True)
class Selection:
    """Which commits and binaries of a chain stay."""

    #: The commits, oldest first.
    commits: Sequence[Scanned]
    keep: Sequence[bool]
    #: Captures that stay without their binary.
    drop_binary: Sequence[bool]
    #: The commit below the first one, 40 hex digits; None if there is none.
    base: str | None = None


def write_selection(
    repository: TenantRepository, writer: HistoryWriter, selection: Selection
) -> Made:
    """Write what `selection` keeps; durable when this returns. Something must go.

    Raises:
        RepositoryDamaged: an object that is needed is missing, or the new history does not end with
            the tree of the old one.
        OSError: the file system refused.
    """
    git, name = repository.git, repository.path.name
    stays = [k and not d for k, d in zip(selection.keep, selection.drop_binary, strict=True)]
    first = stays.index(False)
    tip = selection.commits[first - 1].id.hex() if first else selection.base
    if tip is not None:
        writer.go_on_from(tip)
    made = Made()
    for number in range(first, len(selection.commits)):
        index_build.let_go(git, number)
        commit = selection.commits[number]
        if not selection.keep[number]:
            made.changed_ids.append((commit.id, None))
            if commit.backup_id is not None:
                assert commit.device is not None
                assert commit.capture is not None
                device, when_s = commit.device.decode(), commit.capture.committed_s
                made.removed.append(
                    RemovedBackup(commit.backup_id, device, commit.id.hex(), when_s)
                )
            continue
        if commit.device is None:
            writer.change(commit.changes)
        else:
            assert commit.folder is not None
            folder_id = commit.folder.id
            if selection.drop_binary[number]:
                data = index_build.read_tree(git, folder_id.hex())
                folder_id = writer.store_folder(without_binary(name, folder_id, data))
                if commit.backup_id is not None:
                    made.binaries.append(commit.backup_id)
            writer.root.put(commit.device, folder_id)
        raw = index_build.read_commit(git, commit.id.hex())
        id_ = writer.add(raw, [] if tip is None else [tip])
        made.changed_ids.append((commit.id, id_))
        tip = id_.hex()
    # The newest state of every device must be unchanged.
    old_tip = index_build.read_commit(git, selection.commits[-1].id.hex())
    writer.check(index_build.read_tree(git, old_tip.tree))
    writer.flush()
    made.tip = tip
    return made
