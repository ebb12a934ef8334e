"""The sources that an import can read, and how to recognise each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

import pygit2

from confkeep.errors import InvalidInput
from worker.cli.sources.git_history import paths_in, tip_of
from worker.cli.sources.layouts import are_dated, exports_among
from worker.store.git.opening import open_git
from worker.store.repository.tenant_repository import tenants_of

EXPORTS: Final = "exports"
GIT: Final = "git"
OXIDIZED: Final = "oxidized"
RANCID: Final = "rancid"
STORE: Final = "store"
#: The sources, in the order in which a folder is tried.
SOURCES: Final = (STORE, RANCID, GIT, EXPORTS, OXIDIZED)
#: What a folder that is no such source lacks.
_LACKS: Final = {
    STORE: "it holds no bare repository that is named by a tenant's UUID",
    RANCID: "it holds no configs/ with a router.db beside it",
    GIT: "it neither is a git repository, nor lies in one, nor holds any",
    OXIDIZED: "it neither is a git repository nor holds any",
}


@dataclass(frozen=True, slots=True)
class Tree:
    """A git repository, and the folder of it that holds what is looked for."""

    repository: Path
    #: The folder within the repository, with a slash behind it; blank: all of it.
    within: str = ""
    #: What is put before its paths, to tell it from others: a name with a slash behind it, or nothing.
    above: str = ""

    def shown(self, file: str) -> PurePath | None:
        """A file's path as a layout sees it; None if it lies elsewhere or is hidden."""
        path = PurePath(self.above + file.removeprefix(self.within))
        hidden = any(part.startswith(".") for part in path.parts)
        return None if hidden or not file.startswith(self.within) else path


def detect(folder: Path) -> str:
    """The source that a folder looks like.

    A store holds bare repositories named by UUIDs. A RANCID folder, or each group's folder in it, holds
    `configs` and `router.db`, and so do RANCID's bare repositories. A git repository whose files are
    called as exports are, `.rsc` or `.cfg`, is one of exports; any other, or a folder of such, is
    Oxidized's. Everything else is `exports`.

    Raises:
        InvalidInput: git cannot read a repository that the folder is or holds.
    """
    if tenants_of(folder):
        return STORE
    if rancid_groups(folder):
        return RANCID
    tracked = _exports_in_git(folder)
    if tracked is not None:
        return tracked
    if any(any(folder.glob(layout)) for layout in ("*/*.rsc", "*/*/*.rsc")):
        return EXPORTS
    if any(is_bare(path) or _newest_paths(path) for path in oxidized_repositories(folder)):
        return OXIDIZED
    return EXPORTS


def check(folder: Path, source: str) -> None:
    """Refuse a source that a folder cannot be.

    Raises:
        InvalidInput: it has nothing that the source has; says what it looks like.
    """
    find: dict[str, Callable[[Path], Sequence[object]]] = {
        STORE: tenants_of,
        RANCID: rancid_groups,
        GIT: git_trees,
        OXIDIZED: oxidized_repositories,
    }
    if source in find and not find[source](folder):
        raise InvalidInput(
            "--from",
            f"{folder} is no {source}: {_LACKS[source]}. Without --from it is taken as {detect(folder)}",
        )


def git_trees(folder: Path) -> list[Tree]:
    """The git repositories of a folder: itself, those directly below it, or the one that it is in."""
    if is_git(folder):
        return [Tree(folder)]
    below = oxidized_repositories(folder)
    if below:
        return [Tree(path, above=f"{name_of(path)}/") for path in below]
    resolved = folder.resolve()
    for parent in resolved.parents:
        if (parent / ".git").exists():
            return [Tree(parent, within=f"{resolved.relative_to(parent).as_posix()}/")]
    return []


def _exports_in_git(folder: Path) -> str | None:
    """What a folder is whose exports git has; None if git has none.

    Where a working copy has a file for each capture, with dates or numbers for names, the files are the
    versions, and else git's.

    Raises:
        InvalidInput: git cannot read a repository that the folder is or holds.
    """
    for tree in git_trees(folder):
        try:
            shown = [tree.shown(file) for file in _newest_paths(tree.repository)]
        except InvalidInput:
            if tree.within:  # A folder is what it is, whatever it lies in.
                return None
            raise
        exports = exports_among([path for path in shown if path is not None])
        # Oxidized's files have no endings.
        if 2 * sum(bool(path.suffix) for path in exports) > len(exports):
            return EXPORTS if are_dated(exports) and not is_bare(tree.repository) else GIT
    return None


def _newest_paths(repository: Path) -> list[str]:
    """The paths of a repository's newest commit; none if it has no commit.

    Raises:
        InvalidInput: git cannot read it, or HEAD names no branch and there are several.
    """
    try:
        git = open_git(repository)
        tip = tip_of(git)
        return [] if tip is None else paths_in(git, tip)
    except (pygit2.GitError, KeyError) as error:
        raise InvalidInput(
            "DIR",
            f"git cannot read {repository}: {error}. --from exports takes its files as they are, without "
            "git's history",
        ) from error


def rancid_groups(folder: Path) -> list[Path]:
    """The folders of RANCID's groups: `folder` itself, or those directly below it."""
    if _is_rancid_group(folder):
        return [folder]
    return sorted(path for path in folder.iterdir() if path.is_dir() and _is_rancid_group(path))


def _is_rancid_group(folder: Path) -> bool:
    if (folder / "configs").is_dir() and (folder / "router.db").is_file():
        return True
    if not is_bare(folder):
        return False
    with suppress(InvalidInput):
        paths = _newest_paths(folder)
        return "router.db" in paths and any(path.startswith("configs/") for path in paths)
    return False


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
