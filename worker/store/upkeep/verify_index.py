"""Verifies the history index against git."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from confkeep.labels import Labels
from worker.store.git import refs
from worker.store.git.refs import MAIN_REF
from worker.store.history import index_build
from worker.store.history.index import INDEX_NAME
from worker.store.history.index_build import RawCommit
from worker.store.history.index_file import IndexFile, has_journal
from worker.store.history.index_rows import NO_MERGE, Damaged, Unfinished, Unusable, labels_of
from worker.store.repository import reader
from worker.store.repository.backup import Detail, Version, unpack_uuid
from worker.store.repository.detail import detail_of, exports_of, read_detail
from worker.store.repository.tenant_repository import TenantRepository

#: A commit that changed a device, and the device's tree there; None if it has none.
Change = tuple[bytes, bytes | None]


@dataclass(frozen=True, slots=True)
class GitSide:
    """What git says, and the index must say too."""

    git: TenantRepository
    #: The commit of `main`.
    tip: bytes | None
    #: For each device the commits that changed it, newest first; None if there is a merge.
    changes: Mapping[bytes, Sequence[Change]] | None
    #: The backup ids in `main`, each with its commit.
    backup_ids: Sequence[tuple[bytes, bytes]]
    commit: Callable[[bytes], RawCommit | None]
    holds: Callable[[bytes], bool]


def _detail(
    git: TenantRepository,
    device: bytes,
    rows: Sequence[Version],
    trees: Sequence[bytes | None] | None,
) -> Detail:
    """What git tells of a device's newest version.

    Args:
        rows: the device's versions, newest first.
        trees: the device's tree in each; None if there are merges.
    """
    name = unpack_uuid(device)
    older = partial(exports_of, git, (row.sha for row in rows[2:]), name)
    if trees is None:
        return read_detail(git, rows[0].sha, name, older)
    # Each commit has a root tree of its own, and a large tenant's takes milliseconds to read.
    now, before = (
        reader.pair_in(git, None if tree is None else tree.hex()) for tree in [*trees, None][:2]
    )
    return detail_of(before.export, now, older)


def index_findings(path: Path, side: GitSide, tick: Callable[[int, int], None]) -> Iterator[str]:
    """What is wrong with the index at `path`.

    Compares its rows with git if it is complete for `main`; otherwise the next writer catches up.

    Args:
        tick: gets how many commits are done, and of how many.
    """
    try:
        with closing(IndexFile(path)) as file, file.reading() as root:
            if root.tip is not None and root.tip == side.tip:
                yield from _row_findings(file, side, tick)
            elif root.tip is not None and not side.holds(root.tip):
                yield "it is of a commit that git has not"
    except Unfinished:
        return  # the next writer rebuilds it
    except Unusable as error:
        # The next writer rolls back what a killed writer left half done.
        if isinstance(error, Damaged) or not has_journal(path):
            yield str(error)


def set_back(side: GitSide, reached: Container[bytes]) -> str | None:
    """Whether `main` was set back, with how to undo that; None if the index does not show it.

    The index only becomes complete for a commit after `main` names it.

    Args:
        reached: the commits that `main` reaches.
    """
    git, main = side.git, side.tip
    tip = _tip_of_index(git.path / INDEX_NAME)
    if tip is None or tip in reached or not side.holds(tip):
        return None
    ids = git.ids.get(git.path, git.git)
    if ids is not None and (ids.fates(tip.hex()) or ids.old_tip() == tip.hex()):
        return None  # a rewrite that was killed before the index followed
    now = refs.read_main(git.path)
    if now != (None if main is None else main.hex()):
        return None  # a writer moved it meanwhile
    old = f" {now}" if now else ""
    return (
        f"it was set back: the history index is complete for {tip.hex()}, which it does not reach. "
        f"`git update-ref {MAIN_REF} {tip.hex()}{old}` in {git.path.name} brings back what is lost; "
        "`confkeep reindex` accepts it as it is"
    )


def _tip_of_index(path: Path) -> bytes | None:
    """The commit for which the index is complete; None if it does not say, or is damaged."""
    try:
        with closing(IndexFile(path)) as file, file.reading() as root:
            return root.tip
    except Unusable:
        return None


def _row_findings(
    file: IndexFile, side: GitSide, tick: Callable[[int, int], None]
) -> Iterator[str]:
    faults = file.check_structure()
    if faults:
        yield faults
    changes = side.changes
    merged = None
    if changes is None or file.root.base != NO_MERGE:
        merged = index_build.read_merged(side.git.git, (file.root.tip or b"").hex())
        changes = {
            device: [(version.id, None) for version in reversed(listed)]
            for device, listed in merged.versions.items()
        }
    newest = {listed[0][0] for listed in changes.values()}
    #: When each device was last backed up, and its newest version: number and time.
    seen: dict[bytes, tuple[int, int]] = {}
    changed: dict[bytes, tuple[int, int]] = {}
    labels: dict[bytes, Labels] = {}
    shas = set()
    last: str | None = None
    for number, row in enumerate(file.commits()):
        tick(number + 1, file.root.commits)
        commit = side.commit(row.id)
        entry = None if commit is None else commit.entry()
        if commit is None or entry is None or entry.version != row:
            yield f"its row of commit {row.sha} is not what git says"
            return
        if number > file.root.base and commit.parents != ([] if last is None else [last]):
            yield f"commit {row.sha} is not where git has it"
        last = commit.sha
        when = number, row.committed_s
        if entry.device is not None and entry.captured:
            seen[entry.device] = when
        labels.update(labels_of([entry]))
        if row.id in newest:
            changed[row.id] = when
        if merged is not None:
            shas.add(row.id)
    if last != (file.root.tip or b"").hex() or (
        merged is not None and shas != {entry.version.id for entry in merged.commits}
    ):
        yield "it does not list the commits that git has"
        return
    most = file.root.commits
    if file.devices(most).keys() != changes.keys():
        yield "it does not list the devices that git has"
    for device, expected in changes.items():
        rows = list(file.versions(device, most))
        if [row.id for row in rows] != [id_ for id_, _tree in expected]:
            yield f"it does not list the versions of {device.hex()} that git has"
            continue
        trees = [tree for _id, tree in expected] if merged is None else None
        if trees is not None and [row.tree for row in rows] != trees:
            yield f"it does not say which trees of {device.hex()} git has"
        if rows[0].detail and rows[0].detail != _detail(side.git, device, rows, trees):
            yield f"its line counts of commit {rows[0].sha} are not what git says"
        when = changed[rows[0].id]
        # Up to the base a backup's own word goes before any change.
        if device not in seen or when[0] > max(seen[device][0], file.root.base):
            seen[device] = when
    if file.all_last_seen() != {device: at_s for device, (_number, at_s) in seen.items()}:
        yield "it does not say when each device was last backed up, as git does"
    names = (
        {} if file.root.tip is None else index_build.own_names(side.git.git, file.root.tip, changes)
    )
    if file.labels() != labels or file.own_names() != names:
        yield "it does not say what the devices are called, as git does"
    found = file.numbers_of({backup_id for backup_id, _sha in side.backup_ids})
    for backup_id, sha in side.backup_ids:
        if sha not in {file.sha_of(number) for number in found.get(backup_id, [])}:
            yield f"it does not find the backup id of commit {sha.hex()}"
