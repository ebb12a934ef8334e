"""A tenant's name in its repository's `description` file: gitweb, cgit and klaus show it.

The file is derived from git, where the name is the label of a device with the tenant's own id. No real
device has that id.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from confkeep.labels import checked_label
from worker.store.git import durable

_FILE_NAME: Final = "description"
#: What git writes into a new repository: "Unnamed repository; edit this file 'description' to name ..."
_UNNAMED: Final = "Unnamed repository"


def read_name(path: Path) -> str | None:
    """The name of the tenant whose repository is at `path`; None if the file has none, or no valid label."""
    try:
        text = (path / _FILE_NAME).read_text("utf-8")
        name = checked_label(text)
    except (OSError, ValueError):
        return None
    return None if not name or name.startswith(_UNNAMED) else name


def write_name(path: Path, name: str | None) -> None:
    """Write the name into the file. Do nothing if we cannot write: git has the name."""
    with suppress(OSError):
        durable.replace_file(path / _FILE_NAME, f"{name or ''}\n".encode())
