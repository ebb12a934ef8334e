"""A fresh clone of a repository, in which nothing is shared with it; it changes neither's history."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import pygit2

from confkeep import modes

#: Seconds after which a clone is given up.
_CLONE_S: Final = 3600.0
_POLL_S: Final = 0.1
#: Seconds in which what was killed has ended.
_END_S: Final = 30.0
_MOST_SAID: Final = 300


def clone_repository(
    path: Path, target: Path, *, stop: Callable[[], bool] | None = None
) -> str | None:
    """Clone all branches of the repository at `path` into a bare one at `target`.

    As over a network: every object is read, sent in a new pack and hashed by the receiver. By the
    git binary, as a person would do it, and by libgit2 when there is none.

    Args:
        stop: asked while git runs; when it says so, git is killed, with all that it started.

    Returns:
        Why it failed; None: it did not.
    """
    git = shutil.which("git")
    # Root starts no program that obeys another user's configuration.
    if git is None or modes.user_of(path) is not None:
        return _by_libgit2(path, target)
    # Of the variables only those that say which configuration to read may decide anything here.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith("GIT_CONFIG")
    }
    # The sender is another process, which takes nothing of the receiver's configuration.
    command = [git, "-c", "safe.directory=*", "clone", "--quiet", "--bare", "--no-local"]
    command += ["--upload-pack", "git -c 'safe.directory=*' upload-pack"]
    command += ["--", str(path), str(target)]
    # All that git starts inherit one end; the other one tells when none of them lives any more.
    alive, held = os.pipe()
    with tempfile.TemporaryFile() as said, os.fdopen(alive, "rb") as watched:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                env={**environment, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"},
                pass_fds=[held],
                # A group of its own, to be ended with all that it started.
                process_group=0,
            )
        finally:
            os.close(held)
        deadline = time.monotonic() + _CLONE_S
        try:
            while process.poll() is None:
                if (stop is not None and stop()) or time.monotonic() >= deadline:
                    return "git took too long, or was stopped"
                time.sleep(_POLL_S if deadline - time.monotonic() < _CLONE_S - 1 else 0.005)
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            # Whoever still writes into the folder would be in the way of its removal.
            select.select([watched], [], [], _END_S)
        said.seek(0)
        text = said.read(10_000).decode("utf-8", "replace").strip()
    return (text[:_MOST_SAID] or "git failed") if process.returncode else None


def _by_libgit2(path: Path, target: Path) -> str | None:
    try:
        # Of a URL libgit2 links no files, as it would of a path.
        pygit2.clone_repository(path.resolve().as_uri(), str(target), bare=True)
    except pygit2.GitError as error:
        return str(error)[:_MOST_SAID]
    return None
