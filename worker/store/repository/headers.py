"""The extra header lines of a commit: its backup, its device, and the device's labels.

    device-id f3eb590c-a135-45eb-804f-98c57b2b1978
    backup-id 8241bc24-49a6-4e8b-856f-ca55e1ce5aac
    device-name core1
    device-address 10.0.0.1
    change labels                                       only in a commit that is no capture

Each commit of a device has all labels that the device has then. If its last label was taken away, the
commit has a `device-name` without a value. Commits of earlier releases have no labels.
"""

from __future__ import annotations

import re
from typing import Final

from confkeep.ids import checked_uuid
from confkeep.labels import LABEL_NAMES, Labels, checked_label

BACKUP_ID_HEADER: Final = b"backup-id"
#: The header names the device since the tree cannot: an unchanged backup has the same tree as its parent.
DEVICE_ID_HEADER: Final = b"device-id"

_NAMING: Final = b"change labels\n"
_LABEL: Final = re.compile(
    rb"^device-(" + "|".join(LABEL_NAMES).encode() + rb") (.*)\n", re.MULTILINE
)
#: Lines that begin with one of these are about the device.
_OF_DEVICE: Final = (DEVICE_ID_HEADER + b" ", *(b"device-%s " % n.encode() for n in LABEL_NAMES))


def encode(
    device_id: str, backup_id: str, labels: Labels | None = None, *, naming: bool = False
) -> bytes:
    """The extra header lines of a commit.

    Args:
        labels: all labels of the device from now on; None if it never had any.
        naming: the commit changes labels and is no capture.
    """
    lines = [
        b"%s %s\n" % (DEVICE_ID_HEADER, device_id.encode()),
        b"%s %s\n" % (BACKUP_ID_HEADER, backup_id.encode()),
    ]
    if labels is not None:
        values = [(name, getattr(labels, name)) for name in LABEL_NAMES]
        said = [(name, value) for name, value in values if value] or [("name", "")]
        lines += (b"device-%s %s\n" % (name.encode(), value.encode()) for name, value in said)
    if naming:
        lines.append(_NAMING)
    return b"".join(lines)


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


def labels_in(raw_commit: bytes) -> Labels | None:
    """The labels of a raw commit's device; None if the commit has no such line.

    Lines with an invalid label, which only another program can have written, are left out.
    """
    if b"\ndevice-" not in raw_commit:
        return None
    found: dict[str, str] = {}
    said = False
    for name, value in _LABEL.findall(raw_commit, 0, raw_commit.find(b"\n\n") + 1):
        said = True
        try:
            label = checked_label(value.decode("utf-8"))
        except ValueError:
            continue
        if label:
            found[name.decode()] = label
    return Labels(**found) if said else None


def is_naming(raw_commit: bytes) -> bool:
    """Whether a commit changes labels and is no capture."""
    return raw_commit.find(b"\n" + _NAMING, 0, raw_commit.find(b"\n\n") + 1) >= 0


def without_device(lines: list[bytes]) -> list[bytes]:
    """Header lines without those about the device."""
    return [line for line in lines if not line.startswith(_OF_DEVICE)]


def raw_message(raw_commit: bytes) -> bytes:
    """The message of a raw commit as it was written; libgit2's drops newlines at its start."""
    return raw_commit.partition(b"\n\n")[2]
