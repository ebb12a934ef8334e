"""A tenant's own rules of retention, in a file of its repository with a checksum."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from confkeep.errors import InvalidInput, SideFileDamaged
from worker.store.git import durable, ownership
from worker.store.rewriting.retention_rules import policy_of

RULES_NAME: Final = "confkeep.retention"
#: The key of the checksum, beside the rules. Files of the first release have no checksum.
_CHECKSUM: Final = "checksum"


def load_rules(path: Path) -> dict[str, int | None]:
    """A tenant's own rules by name; empty if it has none.

    Raises:
        SideFileDamaged: the file holds anything else than what was written.
    """
    try:
        data = (path / RULES_NAME).read_bytes()
    except FileNotFoundError:
        return {}
    try:
        rules = json.loads(data)
        written = rules.pop(_CHECKSUM, None)
        policy_of(rules)
    except (InvalidInput, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise SideFileDamaged(f"{path.name}: {RULES_NAME} holds no rules") from error
    if written is not None and written != _checksum(rules):
        raise SideFileDamaged(f"{path.name}: {RULES_NAME} holds other rules than were set")
    return dict(rules)


def save_rules(path: Path, rules: Mapping[str, int | None]) -> None:
    """Set a tenant's own rules; durable when this returns.

    Raises:
        InvalidInput: an unknown name, or a value out of range.
        StoreUnavailable: the file system refused.
    """
    policy_of(rules)
    with durable.file_system_errors(path.name):
        ownership.require_writer(path)
        text = json.dumps({**rules, _CHECKSUM: _checksum(rules)}, indent=2, sort_keys=True) + "\n"
        durable.replace_file(path / RULES_NAME, text.encode())


def _checksum(rules: Mapping[str, int | None]) -> str:
    return hashlib.sha256(json.dumps(dict(rules), sort_keys=True).encode()).hexdigest()[:16]
