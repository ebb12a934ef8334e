"""Captures as the sources of an import have them: files in a folder, and files in git."""

from __future__ import annotations

import datetime as dt
import errno
import hashlib
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pygit2

from confkeep.errors import InvalidBackup
from confkeep.models import MAX_BINARY_BYTES, MAX_EXPORT_BYTES
from worker.cli.sources.names import NAMESPACE, Row


@dataclass(frozen=True, slots=True)
class FileCapture:
    """One export in the folder, with its binary."""

    row: Row
    export_path: Path
    #: The binary's path; None if there is none beside the export.
    binary_path: Path | None
    captured_at: dt.datetime
    #: The backup_id is made from the bytes.
    known_id: str | None = None
    #: The folder that says its date; None if its name does. Other files of that name are of other dates.
    dated_folder: str | None = None

    @property
    def place(self) -> str:
        return str(self.export_path)

    @property
    def message(self) -> str:
        return f"Import {self.export_path.name}"

    @property
    def has_binary(self) -> bool:
        return self.binary_path is not None

    def read(self) -> tuple[bytes, bytes | None]:
        """Both files.

        Raises:
            InvalidBackup: one is larger than a backup's may be; it is not read then.
            OSError: the file system refused.
        """
        export = _read(self.export_path, "export_text", MAX_EXPORT_BYTES)
        if self.binary_path is None:
            return export, None
        return export, _read(self.binary_path, "binary_backup", MAX_BINARY_BYTES)

    def backup_id(self, export: bytes, binary: bytes | None) -> str:
        """The backup_id: the same device, file name and bytes always give the same."""
        parts = [hashlib.sha256(data).hexdigest() for data in (export, binary) if data is not None]
        file = self.export_path.name
        if self.dated_folder is not None:
            file = f"{self.dated_folder}/{file}"
        return _id_of(self.row, file, *parts)


@dataclass(frozen=True, slots=True)
class GitCapture:
    """A file as a commit of another tool's repository has it."""

    row: Row
    #: The author's date, which becomes the commit's.
    captured_at: dt.datetime
    message: str
    #: `PATH at COMMIT`.
    place: str
    known_id: str
    git: pygit2.Repository = field(repr=False)
    blob: pygit2.Oid = field(repr=False)
    #: The binary beside it; None if there is none.
    binary: pygit2.Oid | None = field(default=None, repr=False)

    @property
    def has_binary(self) -> bool:
        return self.binary is not None

    def read(self) -> tuple[bytes, bytes | None]:
        """The bytes of both.

        Raises:
            InvalidBackup: one is too large.
            OSError: git cannot read one.
        """
        export = self._read(self.blob, "export_text", MAX_EXPORT_BYTES)
        if self.binary is None:
            return export, None
        return export, self._read(self.binary, "binary_backup", MAX_BINARY_BYTES)

    def _read(self, blob_id: pygit2.Oid, field_name: str, limit_bytes: int) -> bytes:
        try:
            blob = self.git[blob_id]
        except (KeyError, pygit2.GitError) as error:
            raise OSError(errno.EIO, f"git cannot read blob {blob_id}") from error
        assert isinstance(blob, pygit2.Blob)
        _check_size(field_name, blob.size, limit_bytes)
        return blob.data

    def backup_id(self, export: bytes, binary: bytes | None) -> str:  # noqa: ARG002
        """The same device, commit and path always have the same."""
        return self.known_id


#: One capture of one device, as a source gives it.
Capture = FileCapture | GitCapture


def id_of(row: Row, commit: str, path: str) -> str:
    """The backup_id of a file in a commit, wherever the repository is."""
    return _id_of(row, commit, path)


def _id_of(row: Row, *parts: str) -> str:
    return str(uuid.uuid5(NAMESPACE, "/".join([row.tenant_id, row.device_id, *parts])))


def _read(path: Path, field_name: str, limit_bytes: int) -> bytes:
    _check_size(field_name, path.stat().st_size, limit_bytes)
    return path.read_bytes()


def _check_size(field_name: str, size: int, limit_bytes: int) -> None:
    if size > limit_bytes:
        raise InvalidBackup(field_name, f"must be at most {limit_bytes:,} bytes, is {size:,}")
