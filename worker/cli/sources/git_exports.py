"""A git history of exports as captures: each commit that changed a device's file is a version.

The repository may be bare or have a working copy, of which DIR may be a folder; or DIR holds several
repositories. What the paths mean: `worker.cli.sources.layouts`. A `.backup` beside an export is its binary.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath

import pygit2
from pygit2.enums import FileStatus

from confkeep.errors import InvalidInput
from worker.cli.exports_folder import decide
from worker.cli.sources import Tree, git_trees, is_bare, layouts, name_of
from worker.cli.sources.asking import Asker
from worker.cli.sources.captures import GitCapture
from worker.cli.sources.found import Found
from worker.cli.sources.git_history import GitHistory, read_history
from worker.cli.sources.layouts import Layout
from worker.cli.sources.names import Names, Row
from worker.cli.sources.oxidized import Places, captures_of
from worker.cli.terminal import count_text


@dataclass(frozen=True, slots=True, eq=False)
class _File:
    """A path of a repository's history."""

    tree: Tree
    history: GitHistory
    file: str
    #: As the layouts see it, and a person.
    path: PurePath

    @property
    def is_there(self) -> bool:
        return self.history.versions[self.file][-1].blob is not None


def read(
    folder: Path, *, tenant: str | None, names: Names, layout: Layout | None, asker: Asker
) -> Found:
    """What the git repositories of a folder, or of the tree that it is in, keep of exports.

    Args:
        tenant: all devices are this tenant's, and no part of a path names one.
        layout: how the paths are to be read; None: as they look.

    Raises:
        InvalidInput: there are no exports, git cannot read a repository, or the paths leave open what they
            mean.
    """
    found, places = Found(), Places()
    histories = [(tree, read_history(tree.repository)) for tree in git_trees(folder)]
    files = [
        _File(tree, history, file, path)
        for tree, history in histories
        for file, versions in history.versions.items()
        if (path := tree.shown(file)) is not None and history.is_file(versions)
    ]
    newest = layouts.exports_among([file.path for file in files if file.is_there])
    if not newest:
        held = count_text(len(files), "file")
        raise InvalidInput(
            "DIR",
            f"the newest commit of {folder} has no export: they are looked for as .rsc, or else as .cfg, "
            f".conf, .txt and files without an ending; its history has {held}. Name the folder, or set "
            "HEAD to the branch, that has the exports",
        )
    is_rsc = newest[0].suffix.lower() == ".rsc"
    exports = layouts.exports_among(
        file.path for file in files if (file.path.suffix.lower() == ".rsc") == is_rsc
    )
    chosen, tenant = decide(
        layouts.guess_in_git, exports, tenant=tenant, layout=layout, asker=asker
    )
    found.notes.append(f"the paths are read as {chosen.text}, and their versions are git's")
    rows = _rows(folder, set(exports), files, chosen, tenant, names, found)
    devices: list[list[GitCapture]] = []
    for tree, history in histories:
        its = {file.file: rows[file] for file in rows if file.tree == tree}
        for row in its.values():
            places.note(row, tree.repository)
        devices += captures_of(history, its, found, binary_of=_binary_of)
        found.left_out += _uncommitted(tree, history)
    found.add(devices, names, problem=f"no export in {folder}")
    return found


def _rows(
    folder: Path,
    exports: set[PurePath],
    files: list[_File],
    chosen: Layout,
    tenant: str | None,
    names: Names,
    found: Found,
) -> dict[_File, Row]:
    """The device of each export; what is none is told."""
    rows: dict[_File, Row] = {}
    beside = {_binary_of(str(path)) for path in exports}
    for file in files:
        place = chosen.read(file.path) if file.path in exports else None
        if place is not None:
            rows[file] = names.find(tenant or place.tenant or "", place.name(name_of(folder)))
        elif file.path in exports:
            found.left_out.append(f"{file.path} was left out: the paths are read as {chosen.text}")
        elif str(file.path) not in beside:
            found.left_out.append(f"{file.path} was left out: it is no export")
    return rows


def _binary_of(file: str) -> str:
    return str(PurePath(file).with_suffix(".backup"))


def _uncommitted(tree: Tree, history: GitHistory) -> list[str]:
    """A line about the exports of a working copy that no commit has as they are now."""
    if is_bare(tree.repository):
        return []
    same = (FileStatus.CURRENT, FileStatus.IGNORED, FileStatus.WT_DELETED, FileStatus.INDEX_DELETED)
    try:
        states = history.git.status()
    except pygit2.GitError as error:
        return [
            f"git cannot compare the working copy of {tree.repository} with its commits: {error}"
        ]
    changed = [
        path
        for file, status in states.items()
        if status not in same and (path := tree.shown(file)) is not None
    ]
    found = layouts.exports_among(changed)
    if not found:
        return []
    count = count_text(len(found), "export")
    return [f"left out {count} that git has not committed as now, such as {found[0]}: commit first"]
