"""Reads many files of one repository, by a git beside this process: that takes neither its time nor Python's lock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import pygit2

from worker.store.git.git_objects import BLOB, GitObjects, git_for_objects
from worker.store.git.git_process import git_problem
from worker.store.repository.tenant_repository import TenantRepository, tells_damage

#: libgit2 has read so many before a git has started.
_FEW: Final = 50
#: The id of no object.
_NONE: Final = b"0" * 40


class Place(NamedTuple):
    """Where a file stands."""

    #: The full id of a commit, or of a tree.
    root: str
    path: str


def read_many(repository: TenantRepository, places: Sequence[Place]) -> Iterator[bytes | None]:
    """The file of each place, in their order; None where there is none. Each is compared with its id.

    Raises:
        RepositoryDamaged: git cannot be read.
    """
    if len(places) <= _FEW or git_problem() is not None:
        yield from (_read(repository, place) for place in places)
        return
    names = [_name(repository, place) for place in places]
    # People wait for it, so it runs with the priority of this process.
    with git_for_objects(repository.path, nice=0) as git, GitObjects(git) as objects:
        for place, (kind, data) in zip(places, objects.named(names), strict=True):
            # For what is not there and what cannot be read git says the same.
            yield data if isinstance(data, bytes) and kind == BLOB else _read(repository, place)


def _name(repository: TenantRepository, place: Place) -> bytes:
    """What git is asked for: it compares the files with their ids, but no tree on the way to them.

    So a damaged idx may lead it to another device's file. A device's folder is read here in no time; a root
    tree of many devices takes longer than the file.
    """
    if "/" in place.path:
        return f"{place.root}:{place.path}".encode()
    try:
        tree = repository.git[pygit2.Oid(hex=place.root)].peel(pygit2.Tree)
        return str(tree[place.path].id).encode()
    except (KeyError, OSError, pygit2.GitError):
        # `_read` tells whether it is missing or damaged, when it is this file's turn.
        return _NONE


@tells_damage
def _read(repository: TenantRepository, place: Place) -> bytes | None:
    tree = repository.git[pygit2.Oid(hex=place.root)].peel(pygit2.Tree)
    if place.path not in tree:
        return None
    found = tree[place.path]
    return found.data if isinstance(found, pygit2.Blob) else None
