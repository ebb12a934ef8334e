"""The audit file of a store: one line for each erasure, with ids and no payload."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from worker.store.git import durable

FILE_NAME: Final = "confkeep.audit"


def append(store: Path, **fields: object) -> None:
    """Add a line, a JSON object of `fields`; durable when this returns.

    Raises:
        StoreUnavailable: the file system refused.
    """
    with durable.file_system_errors(FILE_NAME):
        line = json.dumps(fields, sort_keys=True).encode() + b"\n"
        durable.append_to_file(store / FILE_NAME, line)
