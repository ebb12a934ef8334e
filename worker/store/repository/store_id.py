"""The store's id: random text in the file `confkeep.store` of its folder, which tells one store from another."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Final

from worker.store.git import durable, refs

FILE_NAME: Final = "confkeep.store"

_ID: Final = re.compile(r"[0-9a-f]{32}")


def is_id(text: str) -> bool:
    """Whether the text is a store's id."""
    return _ID.fullmatch(text) is not None


def new() -> str:
    """An id that no store has."""
    return secrets.token_hex(16)


def read(store: Path) -> str | None:
    """The id in the store's folder; None if there is no file, or none with an id in it.

    Raises:
        StoreUnavailable: the file system refused.
    """
    with durable.file_system_errors(FILE_NAME):
        try:
            data = refs.read_short(store / FILE_NAME)
        except FileNotFoundError:
            return None
    text = data.decode("ascii", "replace").strip()
    return text if is_id(text) else None


def write(store: Path, store_id: str) -> str:
    """Give a store that has no id this one, durably.

    Returns:
        The store's id: another one, if another process was sooner.

    Raises:
        StoreUnavailable: the file system refused.
    """
    target = store / FILE_NAME
    data = f"{store_id}\n".encode()
    with durable.file_system_errors(FILE_NAME):
        made = durable.temporary_name(store, f".{FILE_NAME}-")
        durable.create_file(made, [data])
        try:
            durable.link(made, target)
        except FileExistsError:
            if read(store) is None:
                # It holds no id.
                durable.replace_file(target, data)
        finally:
            durable.remove(made)
        durable.sync_directory(store)
    return read(store) or store_id


def has_tenants(store: Path) -> bool:
    """Whether a repository is in the folder.

    Raises:
        StoreUnavailable: the file system refused.
    """
    with durable.file_system_errors(store.name), os.scandir(store) as found:
        return any(entry.name.endswith(".git") for entry in found)
