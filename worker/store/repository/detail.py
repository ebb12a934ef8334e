"""Computes what the files of a version tell: line counts, sizes, and whether they look bad."""

from __future__ import annotations

from confkeep.routeros.export import same_configuration
from confkeep.routeros.suspect import why_suspect
from worker.store.repository import reader
from worker.store.repository.backup import Detail
from worker.store.repository.line_delta import count_changed_lines
from worker.store.repository.reader import Pair
from worker.store.repository.tenant_repository import TenantRepository


def detail_of(old: bytes | None, new: Pair) -> Detail:
    """What two files tell, with the export compared to the one before; None: there was none."""
    before, after = old or b"", new.export or b""
    added, removed = (0, 0) if before == after else count_changed_lines(before, after)
    return Detail(
        export_changed=(old is None) != (new.export is None)
        or not same_configuration(before, after),
        lines_added=added,
        lines_removed=removed,
        export_bytes=None if new.export is None else len(new.export),
        binary_bytes=None if new.binary is None else len(new.binary),
        suspect=why_suspect(new.export, new.binary),
    )


def read_detail(repository: TenantRepository, sha: str, device_id: str) -> Detail:
    """What a device's files tell about a commit that changed it, compared to its first parent."""
    old, new = reader.read_change(repository, reader.find_commit(repository, sha), device_id)
    return detail_of(old.export, new)
