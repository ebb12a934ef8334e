"""Checks a repository's own configuration, and replaces one that git cannot work with."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pygit2

from worker.store.git import durable

NAME: Final = "config"
#: Where a damaged configuration is kept.
DAMAGED_NAME: Final = "config.damaged"

#: As `git init --bare` writes it.
_STANDARD: Final = b"[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n"


def problem_of(path: Path) -> str | None:
    """What is wrong with the configuration of the repository at `path`; None if nothing is.

    Raises:
        PermissionError: it may not be read.
    """
    file = path / NAME
    try:
        file.read_bytes()
    except FileNotFoundError:
        return "it is missing"
    except IsADirectoryError:
        return "it is a folder"
    try:
        config = pygit2.Config(str(file))
        version = config.get_int("core.repositoryformatversion")
        config.get_bool("core.bare")
    except (KeyError, ValueError, pygit2.GitError) as error:
        return f"git cannot read it: {error}"
    return None if version in (0, 1) else "its format is of no known version"


def mend(path: Path) -> None:
    """Replace the configuration with the standard one, and keep the damaged one beside it.

    Raises:
        OSError: the file system refused.
    """
    file, kept = path / NAME, path / DAMAGED_NAME
    if file.is_dir():
        file.rmdir()
    elif file.exists():
        durable.replace_file(kept, file.read_bytes())
    durable.replace_file(file, _STANDARD)
