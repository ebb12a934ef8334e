"""A tenant's name, which stands in its repository's `description` file: gitweb, cgit and klaus show it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from confkeep.labels import checked_label
from worker.store.git import durable

_FILE_NAME: Final = "description"
#: What git writes into a new repository: "Unnamed repository; edit this file 'description' to name ..."
_UNNAMED: Final = "Unnamed repository"


def read_name(path: Path) -> str | None:
    """The name of the tenant whose repository is at `path`; None if it has none, or one that is no label."""
    try:
        text = (path / _FILE_NAME).read_text("utf-8")
        name = checked_label(text)
    except (OSError, ValueError):
        return None
    return None if not name or name.startswith(_UNNAMED) else name


def write_name(path: Path, name: str) -> None:
    """Name the tenant; durable when this returns. An empty name takes the old one away.

    Raises:
        StoreUnavailable: the file system refused.
    """
    with durable.file_system_errors(path.name):
        durable.replace_file(path / _FILE_NAME, f"{name}\n".encode())
