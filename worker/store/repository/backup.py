"""What goes into the store and what comes back, as plain data; it reads and writes nothing."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Final

from confkeep.errors import InvalidId
from confkeep.ids import checked_uuid as checked_uuid

#: The two files of a device's subtree.
EXPORT_NAME: Final = "export.rsc"
BINARY_NAME: Final = "backup.bin"
FILE_NAMES: Final = (EXPORT_NAME, BINARY_NAME)

#: The extra header lines of a commit: its backup's id and device. The device stands there too
#: because an unchanged backup has its parent's very tree, which does not tell whose it is.
BACKUP_ID_HEADER: Final = b"backup-id"
DEVICE_ID_HEADER: Final = b"device-id"

_COMMIT_ID = re.compile(r"[0-9a-f]{4,40}")


def checked_commit_id(value: object) -> str:
    """A full or abbreviated commit id: 4 to 40 hexadecimal digits, in lower case.

    Raises:
        InvalidId: anything else, such as a ref name or a revision expression.
    """
    text = value.lower() if isinstance(value, str) else ""
    if not _COMMIT_ID.fullmatch(text):
        raise InvalidId("commit_sha", "must be 4 to 40 hexadecimal digits")
    return text


def checked_file_name(value: object) -> str:
    """One of the two files that a backup has.

    Raises:
        InvalidId: any other name.
    """
    if value not in FILE_NAMES:
        raise InvalidId("filename", f"must be {EXPORT_NAME} or {BINARY_NAME}")
    return str(value)


def encode_text(text: str) -> bytes:
    """The bytes of a text that Python may have decoded with `surrogateescape`.

    Raises:
        UnicodeEncodeError: `text` holds surrogates that stand for no byte.
    """
    return text.encode("utf-8", "surrogateescape")


def decode_text(data: bytes) -> str:
    """The inverse of `encode_text`: any bytes, without loss."""
    return data.decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Signature:
    """Who the commits are by."""

    name: str
    email: str


@dataclass(frozen=True, slots=True)
class Backup:
    """One capture of one device, checked, as the store commits it."""

    backup_id: str
    device_id: str
    export: bytes
    #: None: the capture has no binary; then the commit holds `export.rsc` alone.
    binary: bytes | None
    message: str
    #: Becomes the author's date; None: the time of the commit.
    captured_at: dt.datetime | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of both files."""
        return len(self.export) + len(self.binary or b"")


@dataclass(frozen=True, slots=True)
class Committed:
    """What became of a backup in git."""

    backup_id: str
    device_id: str
    sha: str
    lines_added: int
    lines_removed: int
    #: Both files are byte-identical to the device's last ones.
    unchanged: bool
    #: The export differs in more than RouterOS's volatile header lines.
    export_changed: bool
    #: The committer's date, in UTC, whole seconds.
    committed_at: dt.datetime
    #: Why the capture looks bad or failed; None: it does not, or retention removed it.
    suspect: str | None
    #: The id was in git already; this call did not write it.
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Version:
    """One commit that changed a device's subtree."""

    sha: str
    message: str
    #: The committer's date, in UTC, whole seconds.
    committed_at: dt.datetime
    #: None: written by something that knows no backup ids.
    backup_id: str | None
    #: Lines added and removed in the export; None, as all below: not asked for.
    lines_added: int | None = None
    lines_removed: int | None = None
    #: The export differs in more than RouterOS's volatile header lines.
    export_changed: bool | None = None
    #: Sizes of the two files; None also: the version does not hold that file.
    export_bytes: int | None = None
    binary_bytes: int | None = None
    #: Why the capture looks bad or failed; None also: it does not.
    suspect: str | None = None
