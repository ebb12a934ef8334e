"""Oxidized's git repositories as captures: one repository, or one for each group.

A file is a node, `NODE` or `GROUP/NODE`. A group is a tenant; nodes without one belong to a tenant
named as the repository (`default.git`: `default`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import dropwhile
from pathlib import Path

from confkeep.errors import InvalidInput
from worker.cli.sources import name_of, oxidized_repositories
from worker.cli.sources.captures import GitCapture, id_of
from worker.cli.sources.found import Found
from worker.cli.sources.git_history import CommitText, GitHistory, read_history, text_of
from worker.cli.sources.names import Names, Row


def read(folder: Path, *, tenant: str | None, names: Names) -> Found:
    """What Oxidized's repository, or a folder of its groups' repositories, holds.

    Args:
        tenant: the tenant of all nodes; a node of a group is then called `GROUP/NODE`.

    Raises:
        InvalidInput: no repository, or git cannot read one.
    """
    repositories = oxidized_repositories(folder)
    devices: list[list[GitCapture]] = []
    found, places = Found(), Places()
    for path in repositories:
        stem = name_of(path)
        history = read_history(path)
        if not history.commits:
            found.notes.append(f"{path.name} has no commit")
        files: dict[str, Row] = {}
        for file, versions in history.versions.items():
            if file.rpartition("/")[2].startswith("."):
                continue
            if not history.is_file(versions):
                found.left_out.append(f"{stem}: {file} is no file and was left out")
                continue
            group, _, node = file.rpartition("/")
            if tenant is None:
                files[file] = names.find(group or stem, node)
            else:
                files[file] = names.find(
                    tenant, file if len(repositories) == 1 else f"{stem}/{file}"
                )
            places.note(files[file], path)
        devices += captures_of(history, files, found)
    found.add(devices, names, problem=f"no file in a git repository in {folder}")
    return found


class Places:
    """Which repository each device of a source is in."""

    def __init__(self) -> None:
        self._path_of: dict[str, Path] = {}

    def note(self, row: Row, path: Path) -> None:
        """Note that a device was found in a repository, or a group's folder.

        Raises:
            InvalidInput: another one has a device of the same name. As one device their versions
                would be mixed.
        """
        before = self._path_of.setdefault(row.source, path)
        if before != path and not row.skip:
            raise InvalidInput(
                "DIR",
                f"{before.name} and {path.name} both hold {row.source}: import them one by one, and "
                "the second with --tenant NAME or --mapping FILE if these are two devices",
            )


def captures_of(
    history: GitHistory,
    files: dict[str, Row],
    found: Found,
    *,
    binary_of: Callable[[str], str] | None = None,
) -> Iterable[list[GitCapture]]:
    """The versions of files, a list for each device; rows with `skip` are left out.

    Blank versions before a file's first content are left out.

    Args:
        files: path -> the row of its device.
        found: gets a line about each file that ended.
        binary_of: the path of the binary beside a file; None: there are none.
    """
    devices: defaultdict[tuple[str, str], list[tuple[int, GitCapture]]] = defaultdict(list)
    texts: dict[str, CommitText] = {}
    for file, row in files.items():
        if row.skip:
            continue
        every = (
            history.versions[file]
            if binary_of is None
            else history.with_binary(file, binary_of(file))
        )
        versions = list(dropwhile(history.is_blank, every))
        if not versions:
            found.notes.append(f"{file} holds nothing in all its versions")
            continue
        if versions[-1].blob is None:
            found.notes.append(
                f"{file} was removed in {versions[-1].commit[:10]}; its versions are taken"
            )
        for version in versions:
            if version.blob is None:
                continue
            text = texts.get(version.commit)
            if text is None:
                text = texts[version.commit] = text_of(history.git, version.commit)
            capture = GitCapture(
                row=row,
                captured_at=text.authored_at,
                message=text.message,
                place=f"{file} at {version.commit[:10]}",
                known_id=id_of(row, version.commit, file),
                git=history.git,
                blob=version.blob,
                binary=version.binary,
            )
            devices[row.tenant_id, row.device_id].append((version.number, capture))
    for numbered in devices.values():
        # Several files may be one device, one after the other.
        numbered.sort(key=lambda pair: pair[0])
        yield [capture for _number, capture in numbered]
