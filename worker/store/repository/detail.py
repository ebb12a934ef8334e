"""Computes what the files of a version tell: line counts, sizes, and whether they look bad."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from confkeep.errors import NotInStore, RepositoryDamaged
from confkeep.routeros.export import same_configuration
from confkeep.routeros.loss import why_lost
from confkeep.routeros.suspect import why_suspect
from worker.store.repository import reader
from worker.store.repository.backup import Detail
from worker.store.repository.line_delta import count_changed_lines
from worker.store.repository.reader import Pair
from worker.store.repository.tenant_repository import TenantRepository

#: The exports of a device's versions before the one that a capture is compared to, newest first.
#: Hardly ever asked for.
Older = Callable[[], Iterable[bytes]]


def detail_of(old: bytes | None, new: Pair, older: Older) -> Detail:
    """What two files tell, with the export compared to the one before; None: there was none.

    Args:
        older: those before `old`, in which the last good one is looked for.
    """
    before, after = old or b"", new.export or b""
    added, removed = (0, 0) if before == after else count_changed_lines(before, after)
    changed = (old is None) != (new.export is None) or not same_configuration(before, after)
    suspect = why_suspect(new.export, new.binary)
    if suspect is None and changed and old is not None and new.export is not None:
        suspect = why_lost(after, _and_older(before, older), max(added, removed))
    return Detail(
        export_changed=changed,
        lines_added=added,
        lines_removed=removed,
        export_bytes=None if new.export is None else len(new.export),
        binary_bytes=None if new.binary is None else len(new.binary),
        suspect=suspect,
    )


def _and_older(old: bytes, older: Older) -> Iterator[bytes]:
    yield old
    yield from older()


def read_detail(repository: TenantRepository, sha: str, device_id: str, older: Older) -> Detail:
    """What a device's files tell about a commit that changed it, compared to its first parent."""
    commit = reader.find_commit(repository, sha)
    old, new = reader.read_change(repository, commit, device_id)
    return detail_of(old.export, new, older)


def exports_of(
    repository: TenantRepository, shas: Iterable[str], device_id: str
) -> Iterator[bytes]:
    """The exports of a device in those commits. Ends at one that git lacks: nobody shall need it."""
    for sha in shas:
        try:
            export = reader.read_pair(
                repository, reader.find_commit(repository, sha), device_id
            ).export
        except (NotInStore, RepositoryDamaged):
            return
        if export is not None:
            yield export
