"""The code of an earlier commit beside today's: each runs a program in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from tests.bench.fleet import folder

_ROOT = Path(__file__).parents[2]


class Measured:
    """A process that runs a program with the code of one tree."""

    def __init__(self, tree: Path, program: str) -> None:
        self._process = subprocess.Popen(
            # Without the folder of the program in its path: there is a `queue.py`.
            [sys.executable, "-P", str(Path(__file__).with_name(program))],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, what: str) -> Any:
        """What it answers to a word."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(what, file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


@contextmanager
def now_and_before(commit: str, program: str) -> Iterator[tuple[Measured, Measured] | None]:
    """The program with today's code and with that of a commit; None where that is not in the repository."""
    git = ["git", "-C", str(_ROOT)]
    if subprocess.run([*git, "cat-file", "-e", f"{commit}^{{commit}}"], check=False).returncode:
        print(f"{commit} is not here (a shallow clone?): NOT MEASURED", file=sys.stderr)
        yield None
        return
    with ExitStack() as stack:
        tree = stack.enter_context(folder()) / "before"
        worktree = [*git, "worktree"]
        subprocess.run([*worktree, "add", "--quiet", "--detach", str(tree), commit], check=True)
        stack.callback(subprocess.run, [*worktree, "remove", "--force", str(tree)], check=True)
        now, before = (stack.enter_context(Measured(each, program)) for each in (_ROOT, tree))
        yield now, before
