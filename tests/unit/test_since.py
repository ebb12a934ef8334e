"""Since when a line stands in an export, with `git blame` as the judge."""

from __future__ import annotations

import random
import uuid
from pathlib import Path

import pytest

from tests.judge import git
from worker.reading import since
from worker.store.repository.backup import Backup
from worker.store.repository.tenant_repository import create_repository
from worker.store.writing.commit import Writer

DEVICE, OTHER = (str(uuid.UUID(int=n)) for n in (1, 2))


def commit(path: Path, *exports: bytes, device: str = DEVICE) -> list[str]:
    writer = Writer(create_repository(path))
    shas = []
    for export in exports:
        backup = Backup(str(uuid.uuid4()), device, export, None, "poll")
        shas.append(writer.commit_backups([backup])[0].sha)
    return shas


def since_when(path: Path, sha: str) -> list[str]:
    return [each.sha for each in since.since_when(create_repository(path), DEVICE, sha)]


def blamed(path: Path, sha: str) -> list[str]:
    told = git(path, "blame", "-l", "-s", "--root", sha, "--", f"{DEVICE}/export.rsc").decode()
    return [line.split(" ", 1)[0].lstrip("^") for line in told.splitlines()]


@pytest.mark.parametrize(
    ("seed", "size"),
    [
        *((n, 30) for n in range(6)),
        *((n, 900) for n in range(2)),
        *(pytest.param(n, 900, marks=pytest.mark.chaos) for n in range(2, 8)),
    ],
)
def test_it_says_what_git_blame_says(seed: int, size: int, store: Path) -> None:
    """For lines that are all different: elsewhere there are several right answers."""
    chance, path = random.Random(seed), store / "t.git"
    lines, number, exports = [b"# line %d\n" % n for n in range(size)], size, []
    for _ in range(25):
        for _ in range(chance.randrange(4)):
            at = chance.randrange(len(lines) + 1)
            many = chance.choice((1, 3, size // 5))
            match chance.randrange(3):
                case 0:
                    lines[at:at] = [b"add n=%d\n" % n for n in range(number, number + many)]
                    number += many
                case 1:
                    del lines[at : at + many]
                case _:
                    lines[at : at + 1] = [b"set n=%d\n" % number]
                    number += 1
        exports.append(b"".join(lines))
    shas = []
    for export in exports:
        shas += commit(path, export)
        commit(path, b"%d\n" % chance.randrange(10**9), device=OTHER)
    for sha in (shas[-1], shas[10]):
        assert since_when(path, sha) == blamed(path, sha)


def test_a_line_that_came_back_stands_since_it_came_back(store: Path) -> None:
    path = store / "t.git"
    shas = commit(path, b"a\nb\n", b"a\n", b"a\nb\n")
    assert since_when(path, shas[-1]) == [shas[0], shas[2]]


def test_an_export_without_a_last_line_end_has_that_line_too(store: Path) -> None:
    path = store / "t.git"
    shas = commit(path, b"a\n", b"a\nb")
    assert since_when(path, shas[-1]) == shas


def test_a_last_line_that_gets_its_end_stands_since_then(store: Path) -> None:
    path = store / "t.git"
    shas = commit(path, b"a\nb", b"a\nb\n")
    assert since_when(path, shas[-1]) == shas == blamed(path, shas[-1])
