"""The sources that an import can read, and how to recognise each."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pygit2

from confkeep.errors import InvalidInput
from worker.cli.sources.git_history import tip_of
from worker.store.repository.tenant_repository import tenants_of

EXPORTS: Final = "exports"
OXIDIZED: Final = "oxidized"
RANCID: Final = "rancid"
STORE: Final = "store"
#: The sources, in the order in which a folder is tried.
SOURCES: Final = (STORE, RANCID, OXIDIZED, EXPORTS)


def detect(folder: Path) -> str:
    """The source that a folder looks like.

    A store holds bare repositories named by UUIDs. A RANCID folder, or each group's folder in it, holds
    `configs` and `router.db`, and so do RANCID's bare repositories. A folder with exports is `exports`,
    with or without git. Any other git repository, or folder of repositories, is Oxidized's. Everything
    else is `exports`.
    """
    if tenants_of(folder):
        return STORE
    if rancid_groups(folder):
        return RANCID
    if any(any(folder.glob(layout)) for layout in ("*/*.rsc", "*/*/*.rsc")):
        return EXPORTS
    if oxidized_repositories(folder):
        return OXIDIZED
    return EXPORTS


def rancid_groups(folder: Path) -> list[Path]:
    """The folders of RANCID's groups: `folder` itself, or those directly below it."""
    if _is_rancid_group(folder):
        return [folder]
    return sorted(path for path in folder.iterdir() if path.is_dir() and _is_rancid_group(path))


def _is_rancid_group(folder: Path) -> bool:
    if (folder / "configs").is_dir() and (folder / "router.db").is_file():
        return True
    return is_bare(folder) and _holds(folder, "configs", "router.db")


def _holds(repository: Path, *names: str) -> bool:
    """Whether the newest commit of a repository has these files or folders."""
    try:
        git = pygit2.Repository(str(repository), pygit2.enums.RepositoryOpenFlag.NO_SEARCH)
        tip = tip_of(git)
        tree = git[tip].peel(pygit2.Tree) if tip is not None else None
    except (pygit2.GitError, KeyError, InvalidInput):
        return False
    return tree is not None and all(name in tree for name in names)


def oxidized_repositories(folder: Path) -> list[Path]:
    """The git repositories: `folder` itself, or those directly below it, one for each group."""
    if is_git(folder):
        return [folder]
    return sorted(path for path in folder.iterdir() if path.is_dir() and is_git(path))


def name_of(folder: Path) -> str:
    """What a group's folder or repository is called, without `.git`."""
    return folder.resolve().name.removesuffix(".git") or "default"


def is_git(folder: Path) -> bool:
    """Whether the folder itself is a git repository, bare or with a working copy."""
    return is_bare(folder) or (folder / ".git").exists()


def is_bare(folder: Path) -> bool:
    """Whether the folder itself is a git repository without a working copy."""
    return (folder / "HEAD").is_file() and (folder / "objects").is_dir()
