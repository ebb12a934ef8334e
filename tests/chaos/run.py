"""A chaos run: faults at random moments by a seed, then a judgement on everything that was accepted."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import uuid
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from confkeep.broker import keys
from confkeep.broker.connections import open_client
from confkeep.errors import ConfkeepError
from confkeep.queue import wakeups
from confkeep.settings import load_settings
from tests.chaos.faults import FAULTS, HOOK_FAULTS, Faults
from tests.chaos.history import Commit, History, Record, complaints
from tests.chaos.hooks import Hooks
from tests.chaos.hostile import left_by_hostility, made_of_garbage
from tests.chaos.machine import LAYOUTS, Machine
from tests.chaos.readers import Readers
from tests.chaos.report import Report
from tests.judge import assert_sound, backup_ids, git
from tests.servers import LASTING_KEYS, wait_for
from tests.turns import tidy_all
from worker.queue import tidy
from worker.store.upkeep.verify import verify_repository
from worker.store.writing.commit import open_for_writing

_TENANTS = 6


def run_round(
    machine: Machine,
    folder: Path,
    report: Report,
    *,
    seconds: float,
    kills: int,
    staging: str,
    faults: AbstractSet[str] = FAULTS,
) -> None:
    """Let a producer and the workers live with faults, calm down, and judge all that came.

    Args:
        kills: number of processes to kill, if `faults` has kills.
        faults: names of `FAULTS`.
    """
    folder.mkdir()
    tears = report.tears
    record = folder / "record"
    tenants = [
        str(uuid.UUID(int=machine.random.getrandbits(128), version=4)) for _ in range(_TENANTS)
    ]
    machine.variables["CONFKEEP_STAGING"] = staging
    with machine.client() as client:

        def all_swept() -> bool:
            # Some ended only now, of what the last round did to them.
            machine.supervise()
            there = {name.decode() for name in client.hkeys(keys.WORKERS)}
            return {f"{slot.name}@test" for slot in machine.slots} <= there

        wait_for(all_swept, "the workers to start")
    if faults & HOOK_FAULTS:
        with machine.client() as client:
            machine.hooks = Hooks(
                folder / "hooks",
                lambda: machine.environment(machine.proxy),
                machine.log,
                f"{machine.random.getrandbits(64)}",
            )
            machine.hooks.add_to(client, load_settings(git_store_path=machine.store))
    settings = load_settings(git_store_path=machine.store, redis_url=machine.own.url)
    readers = Readers(open_client(settings), settings, tenants, folder.name)
    with readers.beside():
        machine.start_producer(record, tenants)
        # On a busy machine it may take as long to start as a round lasts, which would then have no load.
        wait_for(record.exists, "the producer to send")
        Faults(machine, report, tenants, faults).play(seconds, kills)
        calm = time.monotonic()
        machine.calm_down()
        try:
            machine.wait_until_drained()
            if report.tears > tears:
                # What a torn file left comes back, now that the producer repeats nothing any more.
                machine.restart_broker()
                report.faults["orderly restart"] += 1
                machine.wait_until_drained()
        except AssertionError as error:
            report.complaints.append(str(error))
        report.drained_s.append(time.monotonic() - calm)
    _judge_readers(machine, readers, tenants, report)
    if machine.hooks is not None:
        _judge_hooks(machine, machine.hooks, tenants, report)
    _judge(machine, record, tenants, report, was_torn=report.tears > tears)
    report.complaints += machine.unexpected
    machine.unexpected.clear()
    report.ended += len(machine.ended)
    if "pool child" not in faults:
        # Celery ends a worker whose pool loses a process in the moment of its start.
        report.complaints += machine.ended
    machine.ended.clear()
    for tenant in tenants:
        for path in machine.store.glob(f"{tenant}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with machine.client() as client:
        of_the_round = [keys.DEAD, *client.keys(keys.result("*")), *client.keys(keys.inbox("*"))]
        client.delete(*of_the_round, *client.keys(keys.staged("*", "*")))


def _judge_hooks(machine: Machine, hooks: Hooks, tenants: list[str], report: Report) -> None:
    """Compare what receivers took with git, then end senders and receivers."""
    commits: dict[str, list[Commit]] = {}
    for tenant in tenants:
        # `_judge` tells of a destroyed one.
        with contextlib.suppress(AssertionError):
            commits[tenant] = _commits(machine.store / f"{tenant}.git")
    hooks.wait_until_delivered(commits)
    machine.hooks = None
    hooks.end()
    report.complaints += hooks.complaints(commits)
    report.deliveries += hooks.taken()
    with machine.client() as client:
        hooks.forget(client)


def _judge_readers(machine: Machine, readers: Readers, tenants: list[str], report: Report) -> None:
    """What each reader was told against `git log`, once each has read the rest."""
    try:
        with machine.client() as client:
            wait_for(lambda: client.exists(keys.EVENTS), "the sweep to begin a stream")
        readers.finish()
    except (AssertionError, ConfkeepError) as error:
        report.complaints.append(f"a reader of events could not finish: {error}")
    paths = {tenant: machine.store / f"{tenant}.git" for tenant in tenants}
    in_git = {tenant: backup_ids(path) for tenant, path in paths.items() if path.exists()}
    report.complaints += readers.complaints(in_git)
    for reader in readers.readers:
        report.told[reader.kind] += sum(map(len, reader.told.values()))
        report.repeated += reader.repeats


def _judge(
    machine: Machine, record: Path, tenants: list[str], report: Report, *, was_torn: bool
) -> None:
    accepted: dict[str, list[str]] = {tenant: [] for tenant in tenants}
    sent: dict[str, set[str]] = {tenant: set() for tenant in tenants}
    late: set[str] = set()
    for line in record.read_text().splitlines():
        what, tenant, ids = json.loads(line)
        match what:
            case "sent":
                sent[tenant].update(ids)
            case "late":
                late.update(ids)
            case "accepted":
                accepted[tenant] += ids
    committed: set[str] = set()
    unknown: set[str] = set()
    with machine.client() as client:
        for tenant in tenants:
            path = machine.store / f"{tenant}.git"
            try:
                commits = _commits(path)
            except AssertionError as error:
                report.complaints.append(f"tenant {tenant}: destroyed: {error}")
                commits = []
            promised = list(dict.fromkeys(accepted[tenant]))
            all_ids = sorted(sent[tenant])
            found: Any = client.mget([keys.result(i) for i in all_ids]) if all_ids else []
            records = {
                i: _record(text) for i, text in zip(all_ids, found, strict=True) if text is not None
            }
            history = History(tenant, promised, sent[tenant], commits, records, late)
            report.complaints += complaints(history)
            report.accepted += len(promised)
            report.commits += len(commits)
            committed.update(commit.backup_id for commit in commits)
            unknown |= sent[tenant] - set(promised)
            if path.exists():
                report.complaints += _unsound(path)
        report.unknown += len(unknown)
        staging = machine.path / "staging"
        settings = load_settings(staging_path=staging)
        if not was_torn:
            unknown.clear()
        else:
            # The beginning of a transaction may leave bytes, counters and records that nobody was
            # promised; the hourly tidying finds them.
            tidy_all(client, settings, abandoned_s=0)
        report.complaints += _foreign_keys(client, committed, unknown)
        # A worker that was killed before it discarded files, and a producer before their backup was
        # accepted, leave files to the hourly tidy, which looks for those older than a day.
        tidy_all(client, settings, abandoned_s=0)
        dead = unknown & _dead(client)
    left = [p.name for p in staging.rglob("*") if p.is_file() and p.name[:36] not in dead]
    if left:
        report.complaints.append(f"left on the volume: {', '.join(left[:5])} ({len(left)})")


def _unsound(path: Path) -> list[str]:
    """What git and `verify` say, once the next writer has removed what killed ones left."""
    with open_for_writing(path):
        pass
    found = [f"{path.name}: {f.kind} {f.place}: {f.text}" for f in verify_repository(path).findings]
    try:
        assert_sound(path)
    except AssertionError as error:
        found.append(str(error))
    return found


def _commits(path: Path) -> list[Commit]:
    if not path.exists():
        return []
    shas = git(path, "log", "--reverse", "--first-parent", "--format=%H", "main").decode().split()
    return [Commit(sha, i) for sha, i in zip(shas, backup_ids(path), strict=True)]


def _record(text: bytes) -> Record:
    meta = json.loads(text)
    result = meta["result"]
    sha = result.get("sha") if isinstance(result, dict) else None
    return Record(meta["status"], sha)


def _foreign_keys(client: Any, committed: set[str], unknown: set[str]) -> list[str]:
    """What is in Redis and should not be; wake flags get the seconds that they live.

    A turn whose last step the server refused leaves its flag: then the sweep sends the wake-up of what
    comes next, so nobody waits for the flag to expire.

    Args:
        unknown: ids of which a torn file may have left something.
    """
    tidy.drop_foreign_queues(client, load_settings(shards=LAYOUTS[0][0]))
    expected = {*LASTING_KEYS, *map(keys.result, committed | unknown)}

    def may_stay(name: bytes) -> bool:
        text = name.decode()
        if text.startswith(keys.inbox("")):
            return not client.xlen(name)
        if text == keys.DEAD:
            return _dead(client) <= unknown
        if text.startswith(keys.staged("", "").rstrip(":")):
            return text[-36:] in _dead(client) & unknown
        if text.startswith(keys.sweep("")):
            # Of the layouts before: it expires, as that of this one does not.
            return bool(client.pttl(name) > 0)
        if text.startswith(keys.repack("")):
            # The question for a repack that went with a killed worker: asked again when it expires.
            return bool(client.ttl(name) > 0)
        return text in expected or text.startswith("_kombu.") or left_by_hostility(text)

    def foreign(*but: str) -> list[str]:
        names = sorted(name for name in client.keys("*") if not may_stay(name))
        named = [f"{name.decode()} ({client.ttl(name)} s)" for name in names]
        return [name for name in named if not name.startswith(but)]

    try:
        wait_for(lambda: not foreign(keys.wake("")), "foreign keys to go", 5)
        wait_for(lambda: not foreign(), "wake flags to expire", wakeups.FLAG_LIFE_MS / 1000 + 1)
    except AssertionError:
        return [f"left in Redis: {', '.join(foreign()[:8])} ({len(foreign())})"]
    return []


def _dead(client: Any) -> set[str]:
    names = {name.decode() for name in client.hkeys(keys.DEAD)}
    return {name for name in names if not made_of_garbage(name)}
