"""What an import found in a source, and captures of files in git."""

from __future__ import annotations

import datetime as dt
import errno
import heapq
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import pygit2

from confkeep.errors import InvalidBackup, InvalidInput
from worker.cli.sending import Capture
from worker.cli.sources.names import NAMESPACE, Names, Row

_CaptureT = TypeVar("_CaptureT", bound=Capture)
_CaptureT_co = TypeVar("_CaptureT_co", bound=Capture, covariant=True)


@dataclass(frozen=True, slots=True)
class Found(Generic[_CaptureT_co]):
    """What a source holds."""

    #: In the order to commit: each device's own, the devices by date of capture.
    captures: Sequence[_CaptureT_co]
    #: Names that are no UUIDs -> the id; a device stands as `TENANT/DEVICE`.
    named_ids: dict[str, str]
    #: What is in the source and is not imported, and why; a line each.
    left_out: list[str] = field(default_factory=list)
    #: What else a person should know; a line each.
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class GitCapture:
    """A file as a commit of another tool's repository has it."""

    tenant_id: str
    device_id: str
    device_name: str | None
    #: The author's date.
    captured_at: dt.datetime
    message: str
    #: `PATH at COMMIT`.
    place: str
    known_id: str
    git: pygit2.Repository = field(repr=False)
    blob: pygit2.Oid = field(repr=False)
    #: The binary beside it; None if there is none.
    binary: pygit2.Oid | None = field(default=None, repr=False)
    device_group: str | None = None

    @property
    def has_binary(self) -> bool:
        return self.binary is not None

    def read(self, max_export_bytes: int, max_binary_bytes: int) -> tuple[bytes, bytes | None]:
        """The bytes of both.

        Raises:
            InvalidBackup: one is too large.
            OSError: git cannot read one.
        """
        export = self._read(self.blob, "export_text", max_export_bytes)
        if self.binary is None:
            return export, None
        return export, self._read(self.binary, "binary_backup", max_binary_bytes)

    def _read(self, blob_id: pygit2.Oid, field_name: str, limit_bytes: int) -> bytes:
        try:
            blob = self.git[blob_id]
        except (KeyError, pygit2.GitError) as error:
            raise OSError(errno.EIO, f"git cannot read blob {blob_id}") from error
        assert isinstance(blob, pygit2.Blob)
        if blob.size > limit_bytes:
            problem = f"must be at most {limit_bytes:,} bytes, is {blob.size:,}"
            raise InvalidBackup(field_name, problem)
        return blob.data

    def backup_id(self, export: bytes, binary: bytes | None) -> str:  # noqa: ARG002
        """The same device, commit and path always have the same."""
        return self.known_id


def id_of(row: Row, commit: str, path: str) -> str:
    """The backup_id of a file in a commit, wherever the repository is."""
    return str(uuid.uuid5(NAMESPACE, f"{row.tenant_id}/{row.device_id}/{commit}/{path}"))


@dataclass(slots=True)
class Told:
    """What a source tells besides its captures, as it is read; a line each."""

    #: What is not imported, and why.
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def interleaved(devices: Iterable[Sequence[_CaptureT]]) -> Iterator[_CaptureT]:
    """All captures by date; each device's own order is kept also where its dates go backwards."""
    # A merge never reorders what comes from one of its inputs.
    return heapq.merge(*devices, key=lambda capture: (capture.captured_at, capture.device_id))


def found_in(
    devices: Iterable[Sequence[Capture]], names: Names, told: Told, *, problem: str
) -> Found[Capture]:
    """All devices' captures, by date.

    Raises:
        InvalidInput: no device was asked for at all; `problem` says what was looked for.
    """
    captures = list(interleaved(devices))
    if not names.rows:
        raise InvalidInput(
            "DIR",
            "; ".join([problem, *told.left_out, *told.notes]),
            hint="Name the folder that holds it, or say with --from what it is.",
        )
    return Found(captures, names.made, told.left_out, told.notes)
