"""What of an export is shown to whom: all of it, or with the values of secrets masked."""

from __future__ import annotations

from confkeep.errors import NotAllowed
from worker.engine.diff import hunks


def shown(export: bytes, model: str | None, *, reveal: bool) -> bytes:  # noqa: ARG001
    """An export as it is shown.

    Args:
        model: the device's label; it says whose language the export is in.
        reveal: whether the reader may see secrets.
    """
    if not reveal:
        raise NotAllowed("this text may hold secrets: the token may not `reveal`")
    return export


def shown_hunks(old: bytes, new: bytes, model: str | None, *, reveal: bool) -> bytes:  # noqa: ARG001
    """The hunks of a unified diff of two exports, as they are shown."""
    if not reveal:
        raise NotAllowed("this text may hold secrets: the token may not `reveal`")
    return hunks(old, new)
