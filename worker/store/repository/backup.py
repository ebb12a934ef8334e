"""What goes into the store and what comes out of it, as plain data."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field
from typing import Final

from confkeep.errors import InvalidId, InvalidInput
from confkeep.ids import checked_uuid as checked_uuid
from confkeep.labels import NO_LABELS, Labels

#: The two files of a device's subtree.
EXPORT_NAME: Final = "export.rsc"
BINARY_NAME: Final = "backup.bin"
FILE_NAMES: Final = (EXPORT_NAME, BINARY_NAME)

#: What to do about what is no commit.
OF_COMMITS: Final = (
    "`confkeep history TENANT DEVICE` lists the commits; `confkeep show TENANT DEVICE --at 2026-10-03` "
    "prints what was valid on a date."
)

_COMMIT_ID = re.compile(r"[0-9a-f]{4,40}")


def checked_commit_id(value: object) -> str:
    """A full or abbreviated commit id: 4 to 40 hexadecimal digits, in lower case.

    Raises:
        InvalidId: anything else, such as a ref name or a revision expression.
    """
    text = value.lower() if isinstance(value, str) else ""
    if not _COMMIT_ID.fullmatch(text):
        raise InvalidId("commit_sha", "must be 4 to 40 hexadecimal digits", hint=OF_COMMITS)
    return text


def checked_file_name(value: object) -> str:
    """One of the two files that a backup has.

    Raises:
        InvalidId: any other name.
    """
    if value not in FILE_NAMES:
        raise InvalidId(
            "filename", f"must be {EXPORT_NAME} or {BINARY_NAME}", hint=InvalidInput.hint
        )
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


def pack_uuid(text: str) -> bytes:
    """The 16 bytes of a canonical UUID."""
    return bytes.fromhex(text.replace("-", ""))


def unpack_uuid(packed: bytes) -> str:
    """The canonical UUID of 16 bytes."""
    text = packed.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


@dataclass(frozen=True, slots=True)
class Signature:
    """The author and committer of the commits."""

    name: str
    email: str


@dataclass(frozen=True, slots=True)
class Backup:
    """One capture of one device, checked, as the store commits it."""

    backup_id: str
    device_id: str
    export: bytes
    #: None if the capture has no binary; then the commit holds `export.rsc` alone.
    binary: bytes | None
    message: str
    #: The author's date; None: the time of the commit.
    captured_at: dt.datetime | None = None
    #: Where a label is None, the device keeps its last one.
    labels: Labels = NO_LABELS

    @property
    def size_bytes(self) -> int:
        """Bytes of both files."""
        return len(self.export) + len(self.binary or b"")


@dataclass(frozen=True, slots=True)
class Naming:
    """A naming: new labels of a device, committed like a backup. It is no capture."""

    backup_id: str
    device_id: str
    labels: Labels
    message: str


@dataclass(frozen=True, slots=True)
class Detail:
    """What is known of a device's version only by reading its files."""

    #: The export differs in more than RouterOS's volatile header lines.
    export_changed: bool
    #: Of the export.
    lines_added: int
    lines_removed: int
    #: Sizes of the two files; None if the version does not hold that file.
    export_bytes: int | None
    binary_bytes: int | None
    #: Why the capture looks bad or failed; None if it does not.
    suspect: str | None


#: The detail of a version that was removed.
NOTHING_KNOWN: Final = Detail(False, 0, 0, None, None, None)


@dataclass(frozen=True, slots=True)
class Committed:
    """What became of a backup in git."""

    backup_id: str
    device_id: str
    sha: str
    #: Both files are byte-identical to the device's last ones.
    unchanged: bool
    #: The committer's date, in UTC, whole seconds.
    committed_at: dt.datetime
    #: `NOTHING_KNOWN` if retention has removed the commit.
    detail: Detail
    #: The device's name: its label, or without one the name in the export.
    device_name: str | None = None
    #: All labels of the device from this commit on; None if it never had any, or they are not known.
    labels: Labels | None = None
    #: The commit before it; None for the first one, and where that is not known.
    parent: str | None = None
    #: It changed labels and is no capture.
    naming: bool = False
    #: The id was in git already; this call did not write it.
    replayed: bool = False


# Not frozen, which takes several times as long to make: a directory has thousands.
@dataclass(slots=True)
class Version:
    """A commit that changed a device, in the bytes that git and the history index store."""

    id: bytes
    #: The committer's date, in seconds since 1970.
    committed_s: int
    #: The author's date, likewise: from then on the version was valid.
    captured_s: int
    #: `pack_uuid` of the backup id; None if the program that wrote the commit knows no backup ids.
    packed_backup_id: bytes | None
    raw_message: bytes
    #: None if unknown, or not asked for.
    detail: Detail | None = None
    #: The device's tree, where the history index tells it: a shorter way to the files than the commit's root tree.
    tree: bytes | None = field(default=None, compare=False)

    @property
    def sha(self) -> str:
        """The commit's id, 40 hexadecimal digits."""
        return self.id.hex()

    @property
    def committed_at(self) -> dt.datetime:
        """The committer's date, in UTC, whole seconds."""
        return dt.datetime.fromtimestamp(self.committed_s, dt.UTC)

    @property
    def captured_at(self) -> dt.datetime:
        """The author's date, in UTC, whole seconds: when the device was asked, if that is known."""
        return dt.datetime.fromtimestamp(self.captured_s, dt.UTC)

    @property
    def backup_id(self) -> str | None:
        """None if the program that wrote the commit knows no backup ids."""
        return None if self.packed_backup_id is None else unpack_uuid(self.packed_backup_id)

    @property
    def message(self) -> str:
        """The message as it was written."""
        return decode_text(self.raw_message)
