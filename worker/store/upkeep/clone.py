"""Makes a fresh clone of a repository that shares nothing with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pygit2

from confkeep import modes
from confkeep.errors import MaintenanceFailed
from worker.store.git.git_process import Git, git_problem

#: Seconds after which a clone is given up.
_CLONE_S: Final = 3600.0
_MOST_SAID: Final = 300


def clone_repository(
    path: Path, target: Path, *, stop: Callable[[], bool] | None = None
) -> str | None:
    """Clone all branches of the repository at `path` into a bare one at `target`.

    As over a network: every object is read, sent in a new pack and hashed by the receiver. By the
    git binary, as a person would do it, and by libgit2 when there is none that is new enough.

    Args:
        stop: asked while git runs; when it says so, git is killed, with all that it started.

    Returns:
        Why it failed; None if it did not.
    """
    # Root must not start a program that obeys another user's configuration.
    if git_problem() is not None or modes.user_of(path) is not None:
        return _by_libgit2(path, target)
    # Git takes the repository that it makes for its own, and nothing of the sender's configuration.
    own = {"GIT_DIR": str(target.absolute()), "GIT_TERMINAL_PROMPT": "0"}
    git = Git(path, None, time.monotonic() + _CLONE_S, stop=stop, environment=own)
    try:
        git.run(
            *("-c", "safe.directory=*", "clone", "--quiet", "--bare", "--no-local"),
            # The sender is another process, which takes nothing of the receiver's configuration.
            *("--upload-pack", "git -c 'safe.directory=*' upload-pack"),
            *("--", str(path.absolute()), str(target.absolute())),
        )
    except MaintenanceFailed as error:
        return str(error)
    return None


def _by_libgit2(path: Path, target: Path) -> str | None:
    try:
        # Of a URL libgit2 links no files, as it would of a path.
        pygit2.clone_repository(path.resolve().as_uri(), str(target), bare=True)
    except pygit2.GitError as error:
        return str(error)[:_MOST_SAID]
    return None
