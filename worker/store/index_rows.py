"""What goes into the history index and comes out of it, as the rest of the store says it; no file."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from confkeep.routeros.export import same_configuration
from worker.store import reader
from worker.store.backup import Version, decode_text, encode_text
from worker.store.index_build import pack_uuid, unpack_uuid
from worker.store.index_format import Detail, Entry, Row
from worker.store.line_delta import count_changed_lines
from worker.store.repository import TenantRepository


@dataclass(frozen=True, slots=True)
class IndexedCommit:
    """One commit that a writer adds to the index."""

    sha: str
    backup_id: str | None
    device_id: str | None
    message: str
    #: The committer's date in seconds since 1970.
    committed_at_s: int
    #: The device's entry in the root tree is that of the parent.
    unchanged: bool
    export_changed: bool
    lines_added: int
    lines_removed: int
    #: None: the commit does not hold that file.
    export_bytes: int | None
    binary_bytes: int | None

    def entry(self) -> Entry:
        """As the file keeps it."""
        device = None if self.device_id is None else pack_uuid(self.device_id)
        return Entry(
            sha=bytes.fromhex(self.sha),
            committed_s=self.committed_at_s,
            backup_id=None if self.backup_id is None else pack_uuid(self.backup_id),
            message=encode_text(self.message),
            changed=() if self.unchanged or device is None else (device,),
            seen=device,
            detail=Detail(
                export_changed=self.export_changed,
                lines_added=self.lines_added,
                lines_removed=self.lines_removed,
                export_bytes=self.export_bytes,
                binary_bytes=self.binary_bytes,
            ),
        )


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
    )


def row_of(version: Version) -> Row:
    """A version that was found by walking git, as a row without details."""
    return Row(
        sha=bytes.fromhex(version.sha),
        committed_s=int(version.committed_at.timestamp()),
        backup_id=None if version.backup_id is None else pack_uuid(version.backup_id),
        message=encode_text(version.message),
        detail=None,
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
    )
