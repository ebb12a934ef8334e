"""What a file system says when it refuses, such as that it is full, and what a person does about it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

_WRITE: Final = "Let the user who runs this write to {where}."
#: An error's number -> what we say of it, and the next step.
_REFUSALS: Final = {
    errno.ENOSPC: ("no space left on the device", "Free space on the disk of {where}."),
    errno.EDQUOT: (
        "the disk quota is used up",
        "Raise the user's quota on the disk of {where}, or free space there.",
    ),
    errno.EROFS: (
        "the file system is read-only",
        "Make {where} writable again; the kernel's log says why it is not.",
    ),
    errno.EACCES: ("permission denied", _WRITE),
    errno.EPERM: ("operation not permitted", _WRITE),
    errno.EIO: ("input/output error", "Look at the disk of {where}; the kernel's log says more."),
    errno.EMFILE: ("too many open files", "Raise the limit on open files (ulimit -n)."),
    errno.ENFILE: (
        "too many open files in the system",
        "Raise the system's limit on open files (fs.file-max).",
    ),
}
#: How git and the server tell of a write that was cut short.
_CUT_SHORT: Final = {
    "out of diskspace": errno.ENOSPC,
    "short write while writing to the aof file": errno.ENOSPC,
}
#: Those of a disk that takes no more bytes, whoever writes them.
OF_THE_DISK: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def said(error: OSError) -> str:
    """What a refusal says, in our words."""
    known = _REFUSALS.get(error.errno or 0)
    return known[0] if known else error.strerror or str(error)


def next_step(text: str, where: str | Path) -> str | None:
    """What a person does about the refusal that a text quotes, in our words or the system's; None if it
    quotes none.

    Args:
        where: what could not be written.
    """
    number = _quoted(text)
    return None if number is None else _REFUSALS[number][1].format(where=where)


def of_the_disk(text: str) -> int | None:
    """The number of the refusal that a text such as git's quotes, if a disk is full or read-only; else None."""
    number = _quoted(text)
    return number if number in OF_THE_DISK else None


def _quoted(text: str) -> int | None:
    text = text.lower()
    found = (
        number
        for number, (ours, _step) in _REFUSALS.items()
        if ours in text or os.strerror(number).lower() in text
    )
    return next((number for said, number in _CUT_SHORT.items() if said in text), next(found, None))
