"""What of an export is shown to whom: all of it, or with the values of secrets masked."""

from __future__ import annotations

from worker.engine.diff import hunks
from worker.masking.hunks import mask_hunks
from worker.masking.mask import mask


def shown(export: bytes, model: str | None, *, reveal: bool) -> bytes:
    """An export as it is shown.

    Args:
        model: the device's label; it says whose language the export is in.
        reveal: whether the reader may see secrets.
    """
    return export if reveal else mask(export, model)


def shown_hunks(
    old: bytes, new: bytes, model: str | None, *, reveal: bool, context: int = 3
) -> bytes:
    """The hunks of a unified diff of two exports, as they are shown."""
    found = hunks(old, new, context)
    return found if reveal else mask_hunks(found, old, new, model)
