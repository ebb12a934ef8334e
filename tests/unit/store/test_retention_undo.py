"""Undoing retention: what went is back, what came since stays, and every id that was ever given is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from confkeep.errors import RemovedByRetention, UndoImpossible
from tests.failpoints import killed_at
from tests.histories import START_S, device_ids, random_backups
from tests.judge import assert_sound, backup_ids, git
from worker.store.history.index import open_index
from worker.store.repository import id_map
from worker.store.repository.backup import Backup
from worker.store.repository.reader import find_commit, read_pair
from worker.store.repository.tenant_repository import create_repository, open_repository
from worker.store.rewriting import prune
from worker.store.rewriting.forget import forget_device
from worker.store.rewriting.retention import apply_retention
from worker.store.rewriting.retention_rules import policy_of
from worker.store.rewriting.retention_undo import undo_retention
from worker.store.upkeep.verify import verify_repository
from worker.store.writing.commit import Writer

DEVICES = device_ids(2)
NOW_S = START_S + 1_000
DAY_S = 86_400
POLICY = policy_of({"keep_last": 3, "binary_keep_last": 1})

#: Each backup with every id that its commit ever had.
Given = dict[str, tuple[Backup, list[str]]]


def commit(path: Path, given: Given, count: int, seed: int) -> None:
    backups = random_backups(DEVICES, count, seed)
    for backup, answer in zip(
        backups, Writer(create_repository(path)).commit_backups(backups, now_s=NOW_S), strict=True
    ):
        given[backup.backup_id] = (backup, [answer.sha])


@pytest.fixture
def given(path: Path) -> Given:
    """What is in the repository at first."""
    found = Given()
    commit(path, found, 20, 1)
    return found


def apply(path: Path, given: Given, days: int = 0, **rules: int) -> None:
    """Rewrite, and take up the new ids."""
    policy = policy_of(rules) if rules else POLICY
    now_s = NOW_S + days * DAY_S
    apply_retention(create_repository(path), policy, now_s=now_s, grace_s=7 * DAY_S)
    take_up(path, given)


def take_up(path: Path, given: Given) -> None:
    shas = git(path, "log", "--reverse", "--format=%H", "main").decode().split()
    for backup_id, sha in zip(backup_ids(path), shas, strict=True):
        if sha not in given[backup_id][1]:
            given[backup_id][1].append(sha)


def assert_all_there(path: Path, given: Given) -> None:
    assert_sound(path)
    assert verify_repository(path).findings == []
    assert backup_ids(path) == list(given)
    repository = open_repository(path)
    with open_index(repository) as index:
        assert index.is_complete(repository.tip())
    for backup, shas in given.values():
        for sha in shas:
            pair = read_pair(repository, find_commit(repository, sha), backup.device_id)
            assert (pair.export, pair.binary) == (backup.export, backup.binary)
    again = [backup for backup, _shas in given.values()]
    assert all(answer.replayed for answer in Writer(create_repository(path)).commit_backups(again))


def test_what_went_is_back_and_what_came_since_stays(path: Path, given: Given) -> None:
    before = git(path, "log", "--format=%H", "main").split()
    apply(path, given)
    kept = len(backup_ids(path))
    commit(path, given, 4, 2)
    undone = undo_retention(create_repository(path), now_s=NOW_S + DAY_S)
    assert (undone.back, undone.since) == (20 - kept, 4)
    assert undone.tip == git(path, "rev-parse", "main").decode().strip()
    assert git(path, "log", "--format=%H", "main~4").split() == before
    assert_all_there(path, given)


def test_without_anything_since_the_history_is_the_very_same(path: Path, given: Given) -> None:
    before = git(path, "rev-parse", "main")
    apply(path, given)
    assert undo_retention(create_repository(path), now_s=NOW_S).since == 0
    assert git(path, "rev-parse", "main") == before
    assert_all_there(path, given)


def test_undone_twice_it_is_applied_again(path: Path, given: Given) -> None:
    apply(path, given)
    kept = backup_ids(path)
    commit(path, given, 2, 2)
    for day in (1, 2, 3):
        undone = undo_retention(create_repository(path), now_s=NOW_S + day * DAY_S)
        take_up(path, given)
        if day == 2:
            assert undone.back == 0
            assert backup_ids(path)[: len(kept)] == kept
            with pytest.raises(RemovedByRetention):
                find_commit(open_repository(path), next(iter(given.values()))[1][0])
    assert_all_there(path, given)


def test_of_two_rewrites_the_newer_one_is_undone(path: Path, given: Given) -> None:
    apply(path, given, keep_last=7)
    after = {id_: given[id_] for id_ in backup_ids(path)}
    commit(path, after, 3, 2)
    apply(path, after, days=1, keep_last=2)
    commit(path, after, 1, 3)
    undo_retention(create_repository(path), now_s=NOW_S + 2 * DAY_S)
    take_up(path, after)
    assert_all_there(path, after)
    gone = next(shas for id_, (_backup, shas) in given.items() if id_ not in after)
    with pytest.raises(RemovedByRetention):
        find_commit(open_repository(path), gone[0])


def test_of_two_rewrites_of_the_same_history_the_newer_one_is_undone(
    path: Path, given: Given
) -> None:
    apply(path, given, keep_last=7)
    undo_retention(create_repository(path), now_s=NOW_S + DAY_S)
    apply(path, given, days=2, keep_last=2)
    assert len(git(path, "for-each-ref", "refs/confkeep").splitlines()) == 3
    undo_retention(create_repository(path), now_s=NOW_S + 3 * DAY_S)
    assert_all_there(path, given)


def test_what_cannot_be_undone_is_refused(path: Path, given: Given) -> None:
    with pytest.raises(UndoImpossible, match="has not rewritten"):
        undo_retention(create_repository(path), now_s=NOW_S)
    apply(path, given)
    tip = git(path, "rev-parse", "main").decode().strip()
    git(path, "update-ref", "refs/heads/main", "main~1")
    with pytest.raises(UndoImpossible, match="another program"):
        undo_retention(create_repository(path), now_s=NOW_S)
    git(path, "update-ref", "refs/heads/main", tip)
    apply(path, given, days=8)
    assert not list(path.glob(f"{id_map.BEFORE_PREFIX}*"))
    with pytest.raises(UndoImpossible, match="not there any more"):
        undo_retention(create_repository(path), now_s=NOW_S)


def test_an_erasure_leaves_nothing_to_undo(path: Path, given: Given) -> None:
    apply(path, given)
    assert list(path.glob(f"{id_map.BEFORE_PREFIX}*"))
    forget_device(path, DEVICES[0], now_s=NOW_S)
    with pytest.raises(UndoImpossible):
        undo_retention(create_repository(path), now_s=NOW_S)


@pytest.mark.parametrize(
    "failpoint",
    ["pack-durable", "map-written", "old-kept", "ref-locked", "ref-moved", "rewritten",
     "map-settled"],
)  # fmt: skip
def test_a_killed_undoing_leaves_the_one_or_the_other(
    failpoint: str, path: Path, given: Given
) -> None:
    apply(path, given)
    kept = len(backup_ids(path))
    commit(path, given, 2, 2)

    with killed_at(failpoint):
        undo_retention(create_repository(path), now_s=NOW_S + DAY_S)
    assert_sound(path)
    assert prune.is_due(path), "what no ref reaches would stay"
    commit(path, given, 1, 3)
    if len(backup_ids(path)) == kept + 3:
        undo_retention(create_repository(path), now_s=NOW_S + 2 * DAY_S)
    assert_all_there(path, given)
    apply(path, given, days=20, keep_days=3_650)


def test_a_merge_above_what_retention_made_is_not_undone(path: Path, given: Given) -> None:
    apply(path, given)
    main = git(path, "rev-parse", "main").decode().strip()
    side = git(path, "commit-tree", "-m", "side", "-p", main, "main^{tree}").decode().strip()
    merge = git(path, "commit-tree", "-m", "merge", "-p", main, "-p", side, "main^{tree}")
    git(path, "update-ref", "refs/heads/main", merge.decode().strip())
    with pytest.raises(UndoImpossible, match="another program moved main"):
        undo_retention(open_repository(path), now_s=NOW_S)
    assert git(path, "rev-parse", "main") == merge
