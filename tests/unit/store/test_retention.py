"""Retention where it meets other programs' commits, a rewrite that died, and many commits."""

from __future__ import annotations

import dataclasses
import errno
import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from confkeep.errors import (
    MaintenanceFailed,
    RemovedByRetention,
    RepositoryDamaged,
    StoreUnavailable,
)
from tests.damage import flip, loose, loosen, offset_at
from tests.failpoints import killed_at, raising
from tests.histories import START_S, Stream, device_ids, random_backups, write_linear
from tests.judge import assert_sound, git
from worker.store.git import flock, git_process, refs
from worker.store.git.root_tree import RootTree
from worker.store.history import index_build
from worker.store.repository import id_map
from worker.store.repository.backup import Backup
from worker.store.repository.reader import find_commit, read_file
from worker.store.repository.tenant_repository import create_repository, open_repository
from worker.store.rewriting import prune, rewrite
from worker.store.rewriting.forget import forget_device
from worker.store.rewriting.retention import apply_retention, plan_retention
from worker.store.rewriting.retention_rules import Policy, policy_of
from worker.store.upkeep.repair import repair_repository
from worker.store.upkeep.verify import verify_repository
from worker.store.writing.commit import Writer

NAME = "7a1e0c5e-5f0b-4a3b-9f57-0f1f4a6e2a10.git"
ONE, TWO = device_ids(2)
NOW_S = START_S + 1_000
LAST = policy_of({"keep_last": 1})


def tree(path: Path, commit: str) -> dict[str, bytes]:
    names = git(path, "ls-tree", "-r", "--name-only", commit).decode().split()
    return {name: git(path, "show", f"{commit}:{name}") for name in names}


def test_commits_that_are_no_captures_stay_with_all_that_they_changed(path: Path) -> None:
    stream = Stream()
    stream.commit({f"{ONE}/export.rsc": b"1\n", f"{TWO}/export.rsc": b"a\n"}, when_s=START_S)
    stream.commit({f"{ONE}/export.rsc": b"2\n"}, when_s=START_S + 1)
    stream.commit({"README": b"ours\n"}, when_s=START_S + 2)
    stream.commit({f"{ONE}/export.rsc": b"3\n", f"{ONE}/notes": b"by hand\n"}, when_s=START_S + 3)
    stream.commit({}, when_s=START_S + 4, message=b"nothing")
    stream.commit({f"{TWO}/export.rsc": None}, when_s=START_S + 5)
    stream.commit({f"{TWO}/export.rsc": b"c\n"}, when_s=START_S + 6)
    stream.commit({f"{TWO}/export.rsc": b"d\n"}, when_s=START_S + 7)
    stream.write(path)
    before = tree(path, "main")
    applied = apply_retention(create_repository(path), LAST, now_s=NOW_S, grace_s=0)
    assert applied.plan.captures_removed == 2
    times = [int(line) - START_S for line in git(path, "log", "--format=%ct", "main").split()]
    assert times == [7, 5, 4, 3, 2, 0]
    assert tree(path, "main") == before
    assert tree(path, "main~1") == {
        "README": b"ours\n",
        f"{ONE}/export.rsc": b"3\n",
        f"{ONE}/notes": b"by hand\n",
    }
    assert tree(path, "main~4") == {
        "README": b"ours\n",
        f"{ONE}/export.rsc": b"1\n",
        f"{TWO}/export.rsc": b"a\n",
    }
    assert_sound(path)


def test_another_programs_commit_that_changed_nothing_goes_with_the_one_before_it(
    path: Path,
) -> None:
    """It is an unchanged capture, as a rule; kept alone it would show an older version, or none."""
    stream = Stream()
    steps: list[dict[str, bytes | None]] = [
        {}, {f"{ONE}/export.rsc": b"1\n"}, {}, {},
        {f"{TWO}/export.rsc": b"a\n"}, {},
        {f"{ONE}/export.rsc": b"2\n"}, {},
    ]  # fmt: skip
    for number, files in enumerate(steps):
        stream.commit(files, when_s=START_S + number)
    stream.write(path)
    shas = git(path, "rev-list", "--reverse", "main").decode().split()
    applied = apply_retention(create_repository(path), LAST, now_s=NOW_S, grace_s=0)
    assert applied.plan.captures_removed == 1
    repository = open_repository(path)
    for gone in shas[1:4]:
        with pytest.raises(RemovedByRetention):
            read_file(repository, gone, ONE, "export.rsc")
    times = [int(line) - START_S for line in git(path, "log", "--format=%ct", "main").split()]
    assert times == [7, 6, 5, 4, 0]
    assert read_file(repository, shas[5], TWO, "export.rsc") == b"a\n"
    assert read_file(repository, shas[7], ONE, "export.rsc") == b"2\n"
    assert_sound(path)


def test_what_is_below_the_newest_merge_stays_and_the_rules_count_above_it(path: Path) -> None:
    stream = Stream()
    stream.commit({f"{ONE}/export.rsc": b"1\n"}, when_s=1)
    stream.commit({f"{ONE}/export.rsc": b"2\n"}, when_s=2)
    stream.commit({f"{TWO}/export.rsc": b"3\n"}, when_s=3, parents=[1])
    stream.commit({}, when_s=4, parents=[2, 3])
    stream.write(path)
    merge = git(path, "rev-parse", "main").decode().strip()
    below = git(path, "log", "--format=%H %P", "main")
    plan = plan_retention(open_repository(path), LAST, NOW_S)
    assert (bool(plan), plan.merge) == (False, merge)
    again = Backup(str(uuid.uuid4()), ONE, tree(path, "main")[f"{ONE}/export.rsc"], None, "poll")
    backups = [again, *random_backups([ONE], 3, 1)]
    backups.insert(2, *random_backups([TWO], 1, 2))
    shas = [a.sha for a in Writer(create_repository(path)).commit_backups(backups, now_s=NOW_S)]
    before = tree(path, "main")
    plan = plan_retention(open_repository(path), policy_of({"keep_last": 4}), NOW_S)
    # The first one above the merge is compared with what the merge holds.
    assert plan.captures_removed == 0
    assert (first := plan.selection.commits[0].capture)
    assert not first.changed
    applied = apply_retention(create_repository(path), LAST, now_s=NOW_S, grace_s=0)
    assert (applied.plan.merge, applied.plan.captures_removed) == (merge, 3)
    assert tree(path, "main") == before
    assert git(path, "rev-parse", "main~2").decode().strip() == merge
    assert git(path, "log", "--format=%H %P", merge) == below
    assert read_file(open_repository(path), shas[-1], ONE, "export.rsc") == backups[-1].export
    with pytest.raises(RemovedByRetention):
        find_commit(open_repository(path), shas[0])


def test_what_stays_before_the_first_that_goes_keeps_its_ids(path: Path) -> None:
    repository = create_repository(path)
    backups = random_backups([ONE], 1, 1) + random_backups([TWO], 6, 2)
    shas = [answer.sha for answer in Writer(repository).commit_backups(backups, now_s=NOW_S)]
    apply_retention(create_repository(path), LAST, now_s=NOW_S, grace_s=0)
    ids = git(path, "rev-list", "--reverse", "main").decode().split()
    assert ids[0] == shas[0]
    assert ids[1] not in shas


def test_a_history_of_several_packs_is_one_history(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewrite, "_PACK_COMMITS", 50)
    monkeypatch.setattr(index_build, "_LET_GO_COMMITS", 7)
    devices = device_ids(20, seed=4)
    write_linear(path, devices, 600, seed=1)
    before = git(path, "rev-parse", "main^{tree}")
    policy = policy_of({"keep_last": 20, "binary_keep_last": 2})
    applied = apply_retention(create_repository(path), policy, now_s=NOW_S, grace_s=86_400)
    assert applied.plan.captures_removed > 100
    assert len(list((path / "objects" / "pack").glob("*.pack"))) > 3
    assert git(path, "rev-parse", "main^{tree}") == before
    assert_sound(path)
    # Again, a year later: the old history goes, and nothing else.
    later = apply_retention(
        create_repository(path), policy, now_s=NOW_S + 31_536_000, grace_s=86_400
    )
    assert (later.tip, later.pruned) == (None, 1)
    assert len(list((path / "objects" / "pack").glob("*.pack"))) == 1


@pytest.mark.parametrize("rule", [{"keep_monthly": 1}, {"keep_last": 1}])
def test_a_cut_export_does_not_displace_the_last_good_one(
    rule: dict[str, int], store: Path
) -> None:
    path, (device,) = store / "t.git", device_ids(1)
    whole = b"".join(b"/ip address add address=10.0.0.%d/32\n" % n for n in range(20))
    exports = [whole.replace(b"10.0", b"10.1"), whole, whole[:200], whole[:200]]
    writer = Writer(create_repository(path))
    backups = [Backup(str(uuid.uuid4()), device, export, None, "poll") for export in exports]
    for backup in backups:
        writer.commit_backups([backup], now_s=START_S)
    repository = open_repository(path)
    apply_retention(repository, policy_of(rule), now_s=START_S, grace_s=0)
    kept = git(path, "log", "--format=%H", "main").decode().split()
    assert [tree(path, sha)[f"{device}/export.rsc"] for sha in kept] == [whole[:200], whole]


def captured(path: Path, count: int) -> list[dict[str, str]]:
    """Commit captures of one device with files of their own; the ids of each one's objects."""
    backups = [
        Backup(str(uuid.uuid4()), ONE, b"/ip\nadd %d\n" % number, b"\0%d" % number, "poll")
        for number in range(count)
    ]
    found = []
    for answer in Writer(create_repository(path)).commit_backups(backups, now_s=START_S):
        names = {
            "commit": "",
            "tree": ":",
            "export": f":{ONE}/export.rsc",
            "binary": f":{ONE}/backup.bin",
        }
        found.append(
            {
                what: git(path, "rev-parse", answer.sha + name).decode().strip()
                for what, name in names.items()
            }
        )
    return found


def test_what_would_be_freed_are_the_bytes_that_packs_and_files_hold_of_it(path: Path) -> None:
    objects = captured(path, 3)
    (idx,) = (path / "objects" / "pack").glob("*.idx")
    lines = [line.split() for line in git(path, "verify-pack", "-v", str(idx)).splitlines()]
    packed = {words[0].decode(): int(words[3]) for words in lines if len(words[0]) == 40}
    gone = {id_ for capture in objects[:2] for id_ in _gone(capture)}
    plan = plan_retention(open_repository(path), LAST, NOW_S)
    assert plan.freed_bytes == sum(packed[id_] for id_ in gone)
    loosen(path)
    plan = plan_retention(open_repository(path), LAST, NOW_S)
    assert plan.freed_bytes == sum(loose(path, id_).stat().st_size for id_ in gone)


def _gone(capture: dict[str, str]) -> set[str]:
    return {id_ for what, id_ in capture.items() if what != "tree"}


@pytest.mark.parametrize("what", ["commit", "tree", "export", "binary"])
def test_an_idx_that_misleads_is_damage(what: str, tmp_path: Path) -> None:
    path = tmp_path / NAME
    misled = captured(path, 2)[0][what]
    (idx,) = (path / "objects" / "pack").glob("*.idx")
    at = offset_at(idx.read_bytes(), bytes.fromhex(misled))
    # Beyond the end of the pack: libgit2 calls that a ValueError. Of binaries git alone is asked.
    flip(idx, at, bit=6)
    with pytest.raises(RepositoryDamaged, match="cat-file" if what == "binary" else misled):
        plan_retention(open_repository(path), LAST, NOW_S)


def fill(path: Path) -> list[str]:
    """Commit twenty backups of two devices."""
    backups = random_backups([ONE, TWO], 20, 5)
    return [a.sha for a in Writer(create_repository(path)).commit_backups(backups, now_s=NOW_S)]


def rewritten(path: Path) -> list[str]:
    shas = fill(path)
    apply_retention(create_repository(path), LAST, now_s=NOW_S, grace_s=0)
    return shas


@pytest.mark.parametrize("failpoint", ["map-written", "rewritten"])
def test_repair_settles_what_a_dead_rewrite_left(failpoint: str, path: Path) -> None:

    with killed_at(failpoint):
        rewritten(path)
    report = verify_repository(path)
    assert [found.place for found in report.findings] == [id_map.PENDING_NAME]
    assert repair_repository(report).left == []
    assert (path / id_map.FILE_NAME).exists() == (failpoint == "rewritten")


@pytest.mark.parametrize("place", ["config", "packed-refs"])
def test_what_a_prune_cannot_read_is_told_before_the_rewrite(place: str, tmp_path: Path) -> None:
    path = tmp_path / NAME
    tip = fill(path)[-1]
    repository = open_repository(path)
    sound = (path / place).read_bytes() if (path / place).exists() else b""
    # What libgit2 passes over.
    bad = {"config": b"[core]\n\tfilemode = perhaps\n", "packed-refs": b"zzz"}
    (path / place).write_bytes(sound + bad[place])
    with pytest.raises(RepositoryDamaged, match="git cannot read its refs"):
        apply_retention(repository, LAST, now_s=NOW_S, grace_s=0)
    assert refs.read_main(path) == tip
    assert not prune.is_due(path)
    (path / place).write_bytes(sound)
    assert apply_retention(open_repository(path), LAST, now_s=NOW_S, grace_s=0).tip


def unreachable(path: Path) -> set[str]:
    every = git(path, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split()
    reached = git(path, "rev-list", "--objects", "--no-object-names", "--all").split()
    return {id_.decode() for id_ in set(every) - set(reached)}


@pytest.mark.parametrize("policy", [LAST, policy_of({}), policy_of({"keep_last": 2})])
def test_the_next_run_removes_what_a_killed_rewrite_left(policy: Policy, path: Path) -> None:

    with killed_at("map-written"):
        rewritten(path)
    assert unreachable(path)
    apply_retention(create_repository(path), policy, now_s=NOW_S, grace_s=86_400)
    assert unreachable(path) == set()
    assert not prune.is_due(path)


@pytest.mark.parametrize("failpoint", ["pack-durable", "map-written", "old-kept", "ref-locked"])
def test_a_rewrite_that_fails_takes_its_packs_along(
    failpoint: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(path)
    before = sorted(os.listdir(path / "objects" / "pack"))

    monkeypatch.setattr(rewrite, "_PACK_COMMITS", 3)
    full = OSError(errno.ENOSPC, "injected")
    with raising(failpoint, full), pytest.raises(StoreUnavailable, match="no space left"):
        apply_retention(create_repository(path), LAST, now_s=NOW_S, grace_s=0)
    assert sorted(os.listdir(path / "objects" / "pack")) == before
    assert_sound(path)
    assert apply_retention(create_repository(path), LAST, now_s=NOW_S, grace_s=0).tip
    assert unreachable(path) == set()


def test_a_prune_that_git_failed_is_done_by_the_next_run(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(path)

    run = git_process.Git.run

    def fail(git: git_process.Git, *arguments: str, stdin: Iterable[bytes] = ()) -> bytes:
        if "cat-file" in arguments:  # the plan asks what would be freed
            return run(git, *arguments, stdin=stdin)
        (git.path / "objects" / "pack" / "tmp_pack_Ab12Cd").write_bytes(b"half of one")
        raise MaintenanceFailed("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(git_process.Git, "run", fail)
        with pytest.raises(MaintenanceFailed):
            apply_retention(create_repository(path), LAST, now_s=NOW_S, grace_s=0)
    assert len(unreachable(path)) > 20
    apply_retention(create_repository(path), LAST, now_s=NOW_S, grace_s=86_400)
    assert unreachable(path) == set()
    assert len(os.listdir(path / "objects" / "pack")) == 2


def test_a_git_that_hangs_does_not_hang_a_prune(
    path: Path, fake_git: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(path)
    before = sorted(os.listdir(path / "objects" / "pack"))
    fake_git("exec sleep 300")
    monkeypatch.setattr(prune, "_TIMEOUT_S", 0.2)
    with flock.alone(path) as held:
        for asked in (prune.prune, prune.reachable_ids):
            with pytest.raises(MaintenanceFailed, match="took too long"):
                asked(path, held)
    monkeypatch.undo()
    assert sorted(os.listdir(path / "objects" / "pack")) == before


def test_an_abbreviation_that_is_of_two_ids_is_refused(path: Path) -> None:
    shas = rewritten(path)
    repository = open_repository(path)
    gone = 0
    for sha in shas:
        try:
            assert find_commit(repository, sha[:12]).id == find_commit(repository, sha).id
        except RemovedByRetention:
            gone += 1
    assert gone == 18
    with pytest.raises(RemovedByRetention):
        read_file(repository, shas[0], ONE, "export.rsc")


def test_a_packed_ref_that_a_loose_one_overrides_names_nothing_that_a_prune_removed(
    path: Path,
) -> None:
    for number in range(3):
        backup = Backup(
            backup_id=str(uuid.uuid4()),
            device_id=ONE,
            export=b"/ip address\nadd %d\n" % number,
            binary=None,
            message="poll",
            captured_at=None,
        )
        Writer(create_repository(path)).commit_backups([backup], now_s=START_S + number)
        git(path, "pack-refs", "--all")
    Writer(create_repository(path)).commit_backups(
        [dataclasses.replace(backup, backup_id=str(uuid.uuid4()), export=b"/ip address\nadd 9\n")],
        now_s=START_S + 9,
    )
    apply_retention(create_repository(path), LAST, now_s=NOW_S, grace_s=0)
    assert verify_repository(path).findings == []
    assert git(path, "rev-parse", "main") == (path / "refs/heads/main").read_bytes()


@pytest.mark.parametrize("how", ["retention", "erasure"])
def test_a_rewrite_that_would_lose_a_device_is_refused_and_leaves_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Whatever goes wrong on the way: the newest state of every device that stays is what it was."""
    backups = random_backups([ONE, TWO, *device_ids(3, 7)], 30, 5)
    Writer(create_repository(path)).commit_backups(backups, now_s=NOW_S)
    before, packs = git(path, "rev-parse", "main"), sorted(os.listdir(path / "objects" / "pack"))
    put, change = RootTree.put, rewrite.HistoryWriter.change

    def forgets_one(self: RootTree, name: bytes, id_: bytes) -> None:
        if name != TWO.encode():
            put(self, name, id_)

    def forgets_a_change(
        self: rewrite.HistoryWriter, changes: Sequence[tuple[bytes, bytes | None]]
    ) -> None:
        change(self, [one for one in changes if one[0] != TWO.encode()])

    with monkeypatch.context() as patch:
        patch.setattr(RootTree, "put", forgets_one)
        patch.setattr(rewrite.HistoryWriter, "change", forgets_a_change)
        with pytest.raises(RepositoryDamaged, match="does not end with the tree"):
            if how == "retention":
                apply_retention(create_repository(path), LAST, now_s=NOW_S, grace_s=0)
            else:
                forget_device(path, ONE, now_s=NOW_S)
    assert git(path, "rev-parse", "main") == before
    assert sorted(os.listdir(path / "objects" / "pack")) == packs
    assert not (path / id_map.FILE_NAME).exists()


def test_packs_stay_if_main_moved_although_the_rewrite_failed(path: Path) -> None:
    fill(path)
    before = git(path, "rev-parse", "main")
    with (
        raising("rewritten", OSError(errno.EIO, "injected")),
        pytest.raises(StoreUnavailable, match="input/output error"),
    ):
        apply_retention(create_repository(path), LAST, now_s=NOW_S, grace_s=86_400)
    assert git(path, "rev-parse", "main") != before
    assert_sound(path)
    assert apply_retention(create_repository(path), LAST, now_s=NOW_S, grace_s=86_400).plan.tip
    assert_sound(path)


@pytest.mark.parametrize(("later_s", "pruned"), [(0, 0), (86_399, 0), (86_400, 1)])
def test_a_history_of_before_stays_for_the_whole_grace_time(
    path: Path, later_s: int, pruned: int
) -> None:
    fill(path)
    apply_retention(create_repository(path), LAST, now_s=NOW_S, grace_s=86_400)
    applied = apply_retention(create_repository(path), LAST, now_s=NOW_S + later_s, grace_s=86_400)
    assert applied.pruned == pruned
    assert len(rewrite.before_refs(open_repository(path).git)) == 1 - pruned
