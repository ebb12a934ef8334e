"""Hooks in the file that CONFKEEP_HOOKS_FILE names, for those who keep settings in files.

The file is TOML, with one table for each hook:

    [[hook]]
    name = "portal"
    url = "https://portal.example/hook"
    secret = "whsec_..."
    tenants = ["aaaa1111-0000-4000-8000-000000000001"]
    types = ["backup.committed"]
    changed_only = true
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

from confkeep.errors import InvalidInput, InvalidSettings
from confkeep.settings import variable_of
from worker.hooks.hook import Hook

_VARIABLE: Final = variable_of("hooks_file")


def read_hooks(path: Path) -> list[Hook]:
    """The hooks of a file.

    Raises:
        InvalidSettings: it cannot be read, is no such file, or two hooks have one name. The message repeats
            nothing of it but names.
    """
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidSettings(_VARIABLE, f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidSettings(_VARIABLE, f"{path} must be UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        # Its message names a place, and quotes at most one character.
        raise InvalidSettings(_VARIABLE, f"{path}: {error}") from None
    tables = found.get("hook", [])
    if set(found) - {"hook"} or not isinstance(tables, list):
        raise InvalidSettings(_VARIABLE, f"{path} must hold tables [[hook]] and nothing else")
    hooks: dict[str, Hook] = {}
    for number, table in enumerate(tables, 1):
        if not isinstance(table, dict):
            raise InvalidSettings(_VARIABLE, f"{path}: hook {number} must be a table [[hook]]")
        try:
            hook = Hook.checked(**table)
        except InvalidInput as error:
            raise InvalidSettings(_VARIABLE, f"{path}: hook {number}: {error}") from None
        if hook.name in hooks:
            raise InvalidSettings(_VARIABLE, f"{path}: two hooks have the name {hook.name}")
        hooks[hook.name] = hook
    return list(hooks.values())
