"""What goes into the history index and comes out of it, as the rest of the store says it; no file."""

from __future__ import annotations

import datetime as dt

from confkeep.routeros.export import same_configuration
from confkeep.routeros.suspect import why_suspect
from worker.store.history.index_build import pack_uuid, unpack_uuid
from worker.store.history.index_file import Detail, Row
from worker.store.repository import reader
from worker.store.repository.backup import Version, decode_text, encode_text
from worker.store.repository.line_delta import count_changed_lines
from worker.store.repository.tenant_repository import TenantRepository


def detail_of(repository: TenantRepository, sha: str, device_id: str) -> Detail:
    """What the blobs of a device tell about a commit that changed it, against its first parent."""
    commit = reader.find_commit(repository, sha)
    new = reader.read_pair(repository, commit, device_id)
    old = reader.Pair(None, None)
    if commit.parents:
        old = reader.read_pair(repository, commit.parents[0], device_id)
    added, removed = count_changed_lines(old.export or b"", new.export or b"")
    return Detail(
        export_changed=(old.export is None) != (new.export is None)
        or not same_configuration(old.export or b"", new.export or b""),
        lines_added=added,
        lines_removed=removed,
        export_bytes=None if new.export is None else len(new.export),
        binary_bytes=None if new.binary is None else len(new.binary),
        suspect=why_suspect(new.export, new.binary),
    )


def row_of(version: Version) -> Row:
    """A version that was found by walking git, as a row without details."""
    return Row(
        sha=bytes.fromhex(version.sha),
        committed_s=int(version.committed_at.timestamp()),
        backup_id=None if version.backup_id is None else pack_uuid(version.backup_id),
        message=encode_text(version.message),
    )


def version_of(row: Row) -> Version:
    """A row as the caller gets it."""
    detail = row.detail
    return Version(
        sha=row.sha.hex(),
        message=decode_text(row.message),
        committed_at=dt.datetime.fromtimestamp(row.committed_s, dt.UTC),
        backup_id=None if row.backup_id is None else unpack_uuid(row.backup_id),
        lines_added=None if detail is None else detail.lines_added,
        lines_removed=None if detail is None else detail.lines_removed,
        export_changed=None if detail is None else detail.export_changed,
        export_bytes=None if detail is None else detail.export_bytes,
        binary_bytes=None if detail is None else detail.binary_bytes,
        suspect=None if detail is None else detail.suspect,
    )
