"""Moving `main` by compare-and-swap; it writes no object."""

from __future__ import annotations

import pygit2

from worker.errors import RepositoryBusy
from worker.store.backup import MAIN_REF


def read_main(git: pygit2.Repository) -> pygit2.Reference | None:
    """The branch as it is now, to be given to `move_main` unchanged; None when there is none."""
    try:
        return git.references[MAIN_REF]
    except KeyError:
        return None


def move_main(git: pygit2.Repository, read: pygit2.Reference | None, target: pygit2.Oid) -> None:
    """Let `main` point to `target` if it still is what `read_main` returned.

    libgit2 compares with the value that the Reference object was read with, under the ref's lock
    file, and syncs file and folder. Only the very object that gave the parent may be passed: a
    fresh one would always compare equal and overwrite another writer's commits.

    Raises:
        RepositoryBusy: another writer moved the branch or holds its lock. Whether this move took
            effect is unknown after any other error.
    """
    if read is None:
        create_main(git, target, expected_absent=True)
        return
    try:
        read.set_target(target)
    except OSError as error:
        raise RepositoryBusy("main is locked by another writer") from error
    except (pygit2.GitError, ValueError) as error:
        raise RepositoryBusy("main was moved by another writer") from error


def create_main(git: pygit2.Repository, target: pygit2.Oid, *, expected_absent: bool) -> None:
    """Create `main` under its lock: creation without one lets two processes both succeed.

    Args:
        expected_absent: whether a branch that another process created meanwhile is an error.

    Raises:
        RepositoryBusy: another writer created the branch or holds its lock.
    """
    try:
        with git.transaction() as transaction:
            transaction.lock_ref(MAIN_REF)
            if MAIN_REF in git.references:
                if expected_absent:
                    raise RepositoryBusy("main was created by another writer")
                return
            transaction.set_target(MAIN_REF, target)
    except OSError as error:
        raise RepositoryBusy("main is locked by another writer") from error
