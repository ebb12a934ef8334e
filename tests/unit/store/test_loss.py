"""The marks of captures that lost much are the same in batches of any size, and from git alone."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.histories import START_S, device_ids, walked_detail
from worker.store.history.index import INDEX_NAME, HistoryIndex, open_index
from worker.store.repository import reader
from worker.store.repository.backup import Backup
from worker.store.repository.detail import exports_of
from worker.store.repository.tenant_repository import create_repository, open_repository
from worker.store.rewriting.retention import apply_retention
from worker.store.rewriting.retention_rules import policy_of
from worker.store.upkeep.verify import verify_repository
from worker.store.writing.commit import Writer

DAY_S = 86_400
DEVICE, OTHER = device_ids(2)
LINES = [
    line for menu in range(9) for line in (f"/ip menu{menu}", f"add x={menu}", f"add y={menu}")
]


def capture(lines: Sequence[str], device: str = DEVICE, binary: bytes | None = None) -> Backup:
    export = "# 2026-01-02 03:04:05 by RouterOS 7.16\n" + "".join(f"{line}\n" for line in lines)
    return Backup(str(uuid.uuid4()), device, export.encode(), binary, "poll")


def commit(path: Path, *batches: Sequence[Backup]) -> list[str | None]:
    """Commits them in batches; why each is suspect."""
    writer = Writer(create_repository(path))
    answers = [
        answer for batch in batches for answer in writer.commit_backups(batch, now_s=START_S)
    ]
    writer.close()
    return [answer.detail.suspect for answer in answers]


def marks(path: Path, device: str = DEVICE) -> list[str | None]:
    """Of the device's versions, newest first, as the index has them or finds them out."""
    repository = open_repository(path)
    with open_index(repository) as index:
        versions = index.versions(device, tip=repository.tip(), details=True)
    details = [version.detail for version in versions]
    return [detail.suspect for detail in details if detail is not None]


def history() -> list[Backup]:
    """What a device may go through, with another one's captures in between."""
    wrong = ["bus error"]
    half = LINES[:12]
    edited = [*half[:-1], "add z=1"]
    return [
        capture(LINES),
        capture(LINES[:15]),
        capture(LINES, OTHER),
        capture(LINES[:24]),
        capture(wrong),
        capture(LINES[:18]),
        capture(LINES),
        capture(half),
        capture(half, OTHER),
        capture(half),
        capture(half, binary=b"\0"),
        capture(edited),
        capture(LINES),
        capture([*LINES[:3], *LINES[15:]]),
        capture([*LINES[:3], *LINES[15:], "add more=1"]),
    ]


def kinds(suspects: Sequence[str | None]) -> str:
    return "".join(
        "g" if each is None else "e" if "holds an error" in each else "l" for each in suspects
    )


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_batches_of_any_size_give_the_same_marks(path: Path, size: int) -> None:
    backups = history()
    batches = [backups[at : at + size] for at in range(0, len(backups), size)]
    found = commit(path, *batches)
    assert kinds(found) == "glglelgllgggglg"
    listed = {device: marks(path, device) for device in (DEVICE, OTHER)}
    assert kinds(listed[OTHER]) == "lg"
    assert verify_repository(path).findings == []
    assert commit(path, backups) == found, "from git, for backups that came again"

    (path / INDEX_NAME).unlink()
    repository = open_repository(path)
    with open_index(repository) as index:
        assert index.catch_up(repository.tip())
    assert {device: marks(path, device) for device in listed} == listed, "rebuilt"
    assert verify_repository(path).findings == []
    (path / INDEX_NAME).unlink()
    assert {device: marks(path, device) for device in listed} == listed, "by git alone"


def test_the_last_good_one_may_be_that_of_the_batch_before(path: Path) -> None:
    found = commit(path, [capture(LINES)], [capture(LINES[:12]), capture(LINES[:18])])
    assert kinds(found) == "gll"


@pytest.mark.parametrize("seed", range(6))
def test_random_histories_are_marked_alike(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    backups, now = [], list(LINES)
    for _ in range(40):
        if rng.random() < 0.5:
            now[rng.randrange(len(now))] = f"add z={rng.randrange(100)}"
        if rng.random() < 0.1:
            now = [*now[: rng.randrange(1, len(now))], f"/tool x{rng.randrange(9)}", "add a=1"]
        elif rng.random() < 0.2:
            now += [f"/tool y{rng.randrange(9)}", "add a=1", "add b=1", "add c=1"]
        cut = now[: rng.randrange(1, len(now))] if rng.random() < 0.3 else now
        backups.append(capture(cut, binary=rng.choice([None, b"\0"])))
    sizes = iter(rng.choices([1, 2, 5, 9], k=40))
    batches, at = [], 0
    while at < len(backups):
        size = next(sizes)
        batches.append(backups[at : at + size])
        at += size
    assert "l" in kinds(commit(path, *batches))
    listed = marks(path)
    repository = open_repository(path)
    walked = [
        walked_detail(repository, version.sha, DEVICE).suspect
        for version in reader.walk_versions(repository, DEVICE)
    ]
    assert listed == walked
    (path / INDEX_NAME).unlink()
    with open_index(repository) as index:
        assert index.catch_up(repository.tip())
    assert marks(path) == listed
    assert verify_repository(path).findings == []


def test_what_was_lost_is_still_told_after_a_retention(path: Path) -> None:
    now_s = START_S + 400 * DAY_S
    commit(path, [capture(LINES), capture(LINES[:12]), capture(LINES), capture(LINES[:18])])
    assert kinds(marks(path)) == "lglg"
    for keep_last in (3, 1):
        policy = policy_of({"keep_last": keep_last})
        apply_retention(create_repository(path), policy, now_s=now_s, grace_s=7 * DAY_S)
        assert kinds(marks(path)) == "lg"
        assert verify_repository(path).findings == []


def test_older_versions_are_read_only_where_the_last_two_disagree(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    below = HistoryIndex.exports_below

    def counted(index: HistoryIndex, device: str, tip: str, skip: int) -> Iterator[bytes]:
        asked.append(skip)
        return below(index, device, tip, skip)

    monkeypatch.setattr(HistoryIndex, "exports_below", counted)
    edits = [[*LINES[:9], f"add e={n}", f"add f={n}", f"add g={n}", *LINES[9:]] for n in range(9)]
    assert kinds(commit(path, *([capture(lines)] for lines in edits))) == "g" * 9
    assert asked == []
    assert kinds(commit(path, [capture(LINES[:12])])) == "l"
    assert asked == [1]


def test_a_version_that_git_lacks_ends_the_search(path: Path) -> None:
    commit(path, [capture(LINES), capture(LINES[:9])])
    repository = open_repository(path)
    tip = str(repository.tip())
    assert len(list(exports_of(repository, [tip, "0" * 40, tip], DEVICE))) == 1
