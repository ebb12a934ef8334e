"""Retention against a model: rules that are read as docs/retention.md says them, and whole stores."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections import defaultdict
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confkeep.errors import RemovedByRetention
from confkeep.routeros.export import same_configuration
from tests.histories import device_ids, random_backups
from tests.judge import assert_sound, git
from worker.store.history.index import open_index
from worker.store.repository.backup import BINARY_NAME, EXPORT_NAME, Backup
from worker.store.repository.detail import detail_of
from worker.store.repository.reader import Pair, find_commit, read_file, read_pair, walk_versions
from worker.store.repository.tenant_repository import (
    TenantRepository,
    create_repository,
    open_repository,
)
from worker.store.rewriting.retention import apply_retention, plan_retention
from worker.store.rewriting.retention_rules import Capture, Policy, Rules, decide
from worker.store.upkeep.verify import verify_repository
from worker.store.writing.commit import Writer

DAY_S = 86_400
NOW_S = 1_760_000_000

_counts = st.none() | st.integers(1, 4)
_rules = st.builds(Rules, _counts, st.none() | st.integers(1, 40), _counts, _counts, _counts)
_captures = st.lists(
    st.builds(
        Capture,
        # Clocks also go back.
        committed_s=st.integers(NOW_S - 90 * DAY_S, NOW_S),
        config_changed=st.booleans(),
        changed=st.booleans(),
        suspect=st.sampled_from([False, False, True]),
        binary=st.sampled_from([None, "a", "b", "c"]),
    ),
    max_size=25,
)


def period(name: str, seconds: int) -> tuple[int, ...]:
    date = dt.datetime.fromtimestamp(seconds, dt.UTC)
    if name == "keep_weekly":
        return date.isocalendar()[:2]
    return (date.year, date.month, date.day)[: 3 if name == "keep_daily" else 2]


def kept_by_model(captures: list[tuple[int, Capture]], rules: Rules, now_s: int) -> set[int]:
    """One rule after the other, each by its sentence in the docs."""
    numbers = [number for number, _capture in captures]
    wanted = {name: value for name, value in asdict(rules).items() if value is not None}
    if not wanted or not captures:
        return set(numbers)
    kept = {numbers[-1]}
    good = [n for n, c in captures if not c.suspect]
    if good:
        kept.add(good[-1])
    ranked = []
    for suspect in (False, True):
        newest_first = [(n, c) for n, c in reversed(captures) if c.suspect == suspect]
        ranked += [n for n, c in newest_first if c.config_changed]
        ranked += [n for n, c in newest_first if not c.config_changed and c.changed]
        ranked += [n for n, c in newest_first if not c.config_changed and not c.changed]
    for name, value in wanted.items():
        if name == "keep_last":
            kept.update(ranked[:value])
        elif name == "keep_days":
            kept.update(n for n, c in captures if now_s - c.committed_s <= value * DAY_S)
        else:
            of_period = defaultdict(list)
            for number, capture in captures:
                of_period[period(name, capture.committed_s)].append(number)
            for key in sorted(of_period, reverse=True)[:value]:
                kept.add(next(n for n in ranked if n in of_period[key]))
    return kept


def decide_by_model(
    captures: list[Capture], policy: Policy, now_s: int
) -> tuple[set[int], set[int]]:
    kept = kept_by_model(list(enumerate(captures)), policy.versions, now_s)
    left = [(n, c) for n, c in enumerate(captures) if n in kept and c.binary is not None]
    chosen = kept_by_model(left, policy.binaries, now_s)
    there = {captures[n].binary for n in chosen}
    return kept, {n for n, c in left if c.binary in there}


@given(_captures, _rules, _rules)
@settings(max_examples=250, deadline=None)
def test_the_rules_are_those_of_the_docs(
    captures: list[Capture], versions: Rules, binaries: Rules
) -> None:
    policy = Policy(versions, binaries)
    decision = decide(captures, policy, NOW_S)
    kept, with_binary = decide_by_model(captures, policy, NOW_S)
    assert {n for n, keep in enumerate(decision.keep) if keep} == kept
    assert {n for n, keep in enumerate(decision.keep_binary) if keep} == with_binary
    assert not captures or decision.keep[-1]


@given(
    st.integers(0, 10_000),
    st.integers(1, 30),
    _rules,
    _rules,
    st.integers(0, 20),
    st.integers(0, 9),
)
@settings(max_examples=12, deadline=None)
def test_a_store_holds_what_the_rules_keep(
    seed: int, count: int, versions: Rules, binaries: Rules, more: int, skip: int
) -> None:
    policy = Policy(versions, binaries)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "7a1e0c5e-5f0b-4a3b-9f57-0f1f4a6e2a10.git"
        backups = random_backups(device_ids(3), count + more, seed)
        first, second = backups[:count], backups[count:]
        ids: dict[str, list[str]] = defaultdict(list)
        model: list[tuple[Backup, int, bool]] = []
        now_s = commit(path, first, model, ids, NOW_S, skip)
        for later in ([], second):
            now_s = commit(path, later, model, ids, now_s, skip)
            model = rewrite(path, model, policy, now_s)
            judge(path, model, ids, backups)


def commit(
    path: Path,
    backups: list[Backup],
    model: list[tuple[Backup, int, bool]],
    ids: dict[str, list[str]],
    now_s: int,
    skip: int,
) -> int:
    writer = Writer(create_repository(path))
    for backup in backups:
        now_s += DAY_S * skip // 3
        (answer,) = writer.commit_backups([backup], now_s=now_s)
        ids[backup.backup_id].append(answer.sha)
        model.append((backup, now_s, backup.binary is not None))
    return now_s


def rewrite(
    path: Path, model: list[tuple[Backup, int, bool]], policy: Policy, now_s: int
) -> list[tuple[Backup, int, bool]]:
    fates: dict[int, bool | None] = {}
    for device in {backup.device_id for backup, _s, _has in model}:
        own = [n for n, (backup, _s, _has) in enumerate(model) if backup.device_id == device]
        captures: list[Capture] = []
        last: tuple[bytes, bytes | None] | None = None
        exports: list[bytes] = []
        suspect = False
        for n in own:
            backup, committed_s, has = model[n]
            pair = (backup.export, backup.binary if has else None)
            if last is None or last[0] != pair[0]:
                before = list(reversed(exports))
                detail = detail_of(
                    before[0] if before else None, Pair(pair[0], None), partial(iter, before[1:])
                )
                suspect = detail.suspect is not None
                exports.append(pair[0])
            captures.append(
                Capture(
                    committed_s=committed_s,
                    config_changed=last is None or not same_configuration(last[0], pair[0]),
                    changed=last != pair,
                    suspect=suspect,
                    binary=pair[1],
                )
            )
            last = pair
        kept, with_binary = decide_by_model(captures, policy, now_s)
        fates.update({own[n]: n in with_binary for n in kept})
    repository = create_repository(path)
    plan = plan_retention(repository, policy, now_s)
    assert plan.captures_removed == (len(model) - len(fates) if policy else 0)
    assert (plan.freed_bytes > 0) >= bool(plan.captures_removed)
    apply_retention(repository, policy, now_s=now_s, grace_s=0)
    return [(model[n][0], model[n][1], bool(fates[n])) for n in sorted(fates)]


def judge(
    path: Path,
    model: list[tuple[Backup, int, bool]],
    ids: dict[str, list[str]],
    backups: list[Backup],
) -> None:
    assert_sound(path)
    assert verify_repository(path).findings == []
    raw = git(path, "log", "--reverse", "--format=%H %ct %an <%ae>", "main").decode().splitlines()
    assert [line.split()[1] for line in raw] == [str(s) for _b, s, _has in model]
    shas = [line.split()[0] for line in raw]
    repository = open_repository(path)
    with open_index(repository) as index:
        tip = repository.tip()
        assert index.is_complete(tip)
        for device in {backup.device_id for backup, _s, _has in model}:
            listed = [version.sha for version in index.versions(device, tip=tip)]
            assert listed == [version.sha for version in walk_versions(repository, device)]
    state: dict[str, tuple[bytes, bytes | None]] = {}
    for sha, (backup, _s, has) in zip(shas, model, strict=True):
        state[backup.device_id] = backup.export, backup.binary if has else None
        for device, (export, binary) in state.items():
            assert read_file(repository, sha, device, EXPORT_NAME) == export
            assert has_binary(repository, sha, device) == (binary is not None)
        for old in ids[backup.backup_id]:
            assert read_file(repository, old, backup.device_id, EXPORT_NAME) == backup.export
            assert read_file(repository, old[:39], backup.device_id, EXPORT_NAME) == backup.export
            if has:
                assert read_file(repository, old, backup.device_id, BINARY_NAME) == backup.binary
            elif backup.binary is not None:
                with pytest.raises(RemovedByRetention):
                    read_file(repository, old, backup.device_id, BINARY_NAME)
        assert repository.git[sha].message == backup.message  # type: ignore[attr-defined]
    kept = {backup.backup_id for backup, _s, _has in model}
    done = [backup for backup in backups if backup.backup_id in ids]
    for backup in done:
        for old in ids[backup.backup_id]:
            if backup.backup_id not in kept:
                with pytest.raises(RemovedByRetention, match="removed by retention on 20"):
                    read_file(repository, old, backup.device_id, EXPORT_NAME)
    # Enqueued once more, nothing is committed twice, whether it was removed or not.
    answers = Writer(create_repository(path)).commit_backups(done)
    assert all(answer.replayed for answer in answers)
    assert [answer.backup_id for answer in answers] == [backup.backup_id for backup in done]
    for answer in answers:
        if answer.backup_id in kept:
            ids[answer.backup_id].append(answer.sha)


def has_binary(repository: TenantRepository, sha: str, device: str) -> bool:
    pair = read_pair(repository, find_commit(repository, sha), device)
    return pair.binary is not None
