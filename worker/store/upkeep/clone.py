"""Makes a fresh clone of a repository that shares nothing with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pygit2

from confkeep import modes
from confkeep.errors import MaintenanceFailed, StoreUnavailable
from worker.store.git import refusals
from worker.store.git.git_process import Git, git_problem

#: Seconds after which a clone is given up.
_CLONE_S: Final = 3600.0
_MOST_SAID: Final = 300
ANOTHER_FOLDER: Final = "Free space there, or name another folder with --scratch."


def clone_repository(
    path: Path, target: Path, *, stop: Callable[[], bool] | None = None
) -> str | None:
    """Clone all branches of the repository at `path` into a bare one at `target`.

    Clones as over a network: every object is read, sent in a new pack and hashed by the receiver.
    Uses the git binary, as a person would, or libgit2 if no git is new enough or root clones
    another user's repository.

    Args:
        stop: called while git runs; if it returns True, git and all that it started are killed.

    Returns:
        Why the clone failed; None if it succeeded.

    Raises:
        StoreUnavailable: the disk of `target` is full.
    """
    # Root must not start a program that reads another user's configuration.
    if git_problem() is not None or modes.user_of(path) is not None:
        return _by_libgit2(path, target)
    # Git treats `target` as its own repository, and reads nothing of the sender's configuration.
    own = {"GIT_DIR": str(target.absolute()), "GIT_TERMINAL_PROMPT": "0"}
    git = Git(path, None, time.monotonic() + _CLONE_S, stop=stop, environment=own)
    try:
        git.run(
            *("-c", "safe.directory=*", "clone", "--quiet", "--bare", "--no-local"),
            # The sender is a separate process, which reads nothing of the receiver's configuration.
            *("--upload-pack", "git -c 'safe.directory=*' upload-pack"),
            *("--", str(path.absolute()), str(target.absolute())),
        )
    except MaintenanceFailed as error:
        return str(error)
    except OSError as error:
        if error.errno not in refusals.OF_THE_DISK:
            raise
        # What is full is the disk of the clone.
        raise StoreUnavailable(
            f"{target.parent}: {refusals.said(error)}", hint=ANOTHER_FOLDER
        ) from error
    return None


def _by_libgit2(path: Path, target: Path) -> str | None:
    try:
        # From a URL libgit2 does not hard-link files, as it does from a path.
        pygit2.clone_repository(path.resolve().as_uri(), str(target), bare=True)
    except pygit2.GitError as error:
        return str(error)[:_MOST_SAID]
    return None
