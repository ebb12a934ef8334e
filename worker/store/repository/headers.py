"""The extra header lines of a commit, which name its backup and its device."""

from __future__ import annotations

from typing import Final

from confkeep.ids import checked_uuid

BACKUP_ID_HEADER: Final = b"backup-id"
#: The device stands here too because an unchanged backup has its parent's very tree, which does not
#: tell whose it is.
DEVICE_ID_HEADER: Final = b"device-id"


def id_in_header(raw_commit: bytes, header: bytes) -> str | None:
    """The UUID in an extra header line of a raw commit; None if there is none."""
    headers, _, _message = raw_commit.partition(b"\n\n")
    for line in headers.split(b"\n"):
        name, _, value = line.partition(b" ")
        if name == header:
            try:
                return checked_uuid("header", value.decode("ascii", "replace"))
            except ValueError:
                return None
    return None


def raw_message(raw_commit: bytes) -> bytes:
    """The message of a raw commit as it was written; libgit2's drops newlines at its start."""
    return raw_commit.partition(b"\n\n")[2]
