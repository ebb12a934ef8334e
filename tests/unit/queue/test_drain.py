"""A turn: it reads as often as there are batches, and its last look sees what came meanwhile."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from confkeep.broker import keys
from confkeep.errors import BrokerUnavailable, RepositoryBusy, StoreUnavailable
from confkeep.queue import acceptance, wakeups
from confkeep.queue.staged_bytes import Contents
from confkeep.queue.staging import RedisStaging, VolumeStaging
from confkeep.settings import Settings
from tasks import commit
from tests.judge import assert_all_readable, git
from tests.servers import names_of
from tests.turns import TENANT, accept, lose_wake_ups, submission, try_lock
from worker.broker.locks import TenantLock
from worker.engine import batch, drain, hold
from worker.engine.batch import BatchCommitter
from worker.process import shutdown
from worker.queue import backoff, dead_letters
from worker.queue.inbox import Begun, Inbox, Settled
from worker.store.repository.tenant_repository import repository_path
from worker.store.writing.commit import Writer


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A batch is of two backups at most."""
    return settings.model_copy(update={"batch_max_backups": 2})


def test_an_inbox_that_was_emptied_is_not_read_again(
    client: redis.Redis, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(inbox, [submission(number) for number in range(3)])
    lose_wake_ups(client)
    reads: list[int] = []
    begin = Inbox.begin

    def counted(*arguments: Any, **options: Any) -> Begun:
        begun = begin(*arguments, **options)
        reads.append(len(begun.batch.entries))
        return begun

    monkeypatch.setattr(Inbox, "begin", counted)
    turn = drain.drain_inbox(inbox)
    assert (turn.committed, turn.left) == (3, 0)
    assert reads == [2, 1]
    kept = {keys.result(submission(number).entry.backup_id) for number in range(3)}
    assert names_of(client) == {
        *kept,
        keys.TOTALS,
        keys.RECENT,
        keys.EVENTS,
        keys.STORES,
    }
    assert_all_readable(inbox.settings.git_store_path)


def test_a_turn_of_one_asks_the_server_twice(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual turn: one script begins it, one ends it."""
    inbox = Inbox(client, settings, TENANT)
    asked: list[str] = []
    execute, execute_all = redis.Redis.execute_command, redis.client.Pipeline.execute

    def one(*arguments: Any, **options: Any) -> Any:
        asked.append(arguments[1])
        return execute(*arguments, **options)  # type: ignore[no-untyped-call]

    def all_at_once(*arguments: Any, **options: Any) -> Any:
        asked.append("a pipeline")
        return execute_all(*arguments, **options)

    # At the first one the server learns the scripts, and which store it is.
    for number in (1, 2):
        acceptance.accept(client, settings, [submission(number)])
        with monkeypatch.context() as patch:
            asked.clear()
            patch.setattr(redis.Redis, "execute_command", one)
            patch.setattr(redis.client.Pipeline, "execute", all_at_once)
            assert drain.drain_inbox(inbox).committed == 1
    assert asked == ["EVALSHA", "EVALSHA"]


@pytest.mark.parametrize("entries", [1, 3])
def test_what_comes_after_the_last_batch_is_left_and_not_forgotten(
    client: redis.Redis, inbox: Inbox, monkeypatch: pytest.MonkeyPatch, entries: int
) -> None:
    """Whatever the number of batches: its last step is its last look."""
    accept(inbox, [submission(number) for number in range(entries)])
    settle, late = Inbox.settle, submission(9)

    def settled_late(*arguments: Any, **options: Any) -> Settled:
        if options.get("leave") != "no":
            [answer] = accept(inbox, [late])
            assert answer.wake_ms is None, "the producer relies on the turn"
        return settle(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Inbox, "settle", settled_late)
        turn = drain.drain_inbox(inbox)
    waits = [waiting.entry for waiting in inbox.peek(9)]
    assert (turn.committed, turn.left) == (entries + 1 - len(waits), len(waits))
    assert waits in ([], [late.entry])
    # Who comes next neither finds a lock nor relies on a turn that is over.
    assert not client.exists(keys.lock(TENANT))
    flag = client.get(keys.wake(TENANT))
    assert flag == (f"{turn.ended_ms}t".encode() if waits else None)


def test_a_wake_up_is_answered_when_its_time_has_come(client: redis.Redis, inbox: Inbox) -> None:
    def due(sent_ms: int | None = None, *, retry: bool = False) -> bool:
        before = {name: client.dump(name) for name in names_of(client)}
        begun = inbox.begin("a", sent_ms, retry=retry)
        if begun.outcome != "begun":
            assert {name: client.dump(name) for name in names_of(client)} == before
            assert not begun.batch
        client.delete(keys.lock(TENANT))
        return begun.outcome == "begun"

    assert due()
    accept(inbox, [submission(1)])
    backoff.failed(inbox, StoreUnavailable("no space"))
    assert (due(), due(retry=True)) == (False, True)
    client.hset(keys.backoff(TENANT), "next_ms", "1")
    assert due()
    client.hset(keys.backoff(TENANT), "next_ms", "9" * 15)
    assert due(), "a time that we never wait for is not ours"
    settled = inbox.settle([], leave="now")
    assert (settled.left, settled.over) == (1, True)
    own_ms = settled.at_ms
    assert (due(own_ms), due(own_ms - 1), due(own_ms - 1, retry=True)) == (True, False, False)
    client.set(keys.wake(TENANT), "what we never wrote")
    assert due(own_ms - 1)


def test_a_server_that_refuses_counts_no_attempt_though_it_cannot_be_taken_back_at_once(
    client: redis.Redis, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(inbox, [submission(1)])

    refuses = False
    settle, forget = Inbox.settle, Inbox.forget_attempts

    def begin(*_: Any, **__: Any) -> Any:
        nonlocal refuses
        refuses = True
        raise BrokerUnavailable("Redis refused the command (READONLY)")

    def refused(*arguments: Any) -> None:
        if refuses:
            raise BrokerUnavailable("Redis refused the command (READONLY)")
        forget(*arguments)

    monkeypatch.setattr(Inbox, "forget_attempts", refused)
    monkeypatch.setattr(Inbox, "settle", begin)
    for _ in range(30):
        refuses = False
        with pytest.raises(BrokerUnavailable):
            drain.drain_inbox(inbox)
        assert client.get(keys.attempts(TENANT)) == b"1", "that of the last turn alone"
    refuses = False
    monkeypatch.setattr(Inbox, "settle", settle)
    assert drain.drain_inbox(inbox).committed == 1
    assert not client.exists(keys.DEAD)


def commits_of(settings: Settings) -> list[str]:
    """The messages on the tenant's `main` as git tells them, oldest first."""
    path = repository_path(settings.git_store_path, TENANT)
    return git(path, "log", "--reverse", "--format=%s", "main").decode().splitlines()


@pytest.mark.parametrize("ends", ["the lock is lost", "the worker stops", "the slice is over"])
def test_a_turn_begins_no_batch_that_it_may_not_begin(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    accept(inbox, [submission(number) for number in range(5)])
    run, over = BatchCommitter.run, list[bool]()

    def run_and_end(*arguments: Any, **options: Any) -> batch.Done:
        over.append(True)
        return run(*arguments, **options)

    monkeypatch.setattr(BatchCommitter, "run", run_and_end)
    if ends == "the lock is lost":
        monkeypatch.setattr(TenantLock, "lost", property(lambda _lock: bool(over)))
    elif ends == "the worker stops":
        monkeypatch.setattr(shutdown, "requested", lambda: bool(over))
    else:
        ends_s = iter([0.0, inbox.settings.slice_s - 1, inbox.settings.slice_s])
        clock = SimpleNamespace(monotonic=lambda: next(ends_s), perf_counter=float)
        monkeypatch.setattr("worker.engine.drain.time", clock)
    turn = drain.drain_inbox(inbox)
    assert (turn.committed, turn.left) == (2, 3)
    monkeypatch.undo()
    assert drain.drain_inbox(inbox).committed == 3
    assert commits_of(inbox.settings) == [f"message {number}" for number in range(5)]


def test_a_turn_that_is_refused_the_lock_changes_nothing(client: redis.Redis, inbox: Inbox) -> None:
    held = try_lock(client, TENANT, 60)
    assert held is not None
    accept(inbox, [submission(1)])
    before = {name: client.dump(name) for name in names_of(client)}
    assert drain.drain_inbox(inbox) == drain.Turn()
    assert {name: client.dump(name) for name in names_of(client)} == before
    held.release()


def test_the_lock_is_free_with_the_last_look(
    client: redis.Redis, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is refused it relies on that look, so nobody may be refused it later."""
    accept(inbox, [submission(1)])
    let_go, free = TenantLock.let_go, list[bool]()

    def over(self: TenantLock) -> None:
        free.append(not client.exists(keys.lock(TENANT), keys.wake(TENANT)))
        let_go(self)

    monkeypatch.setattr(TenantLock, "let_go", over)
    assert drain.drain_inbox(inbox).committed == 1
    assert free == [True]


def killed_before_it_settles(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn that ends between the commit and the settling."""

    def killed(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Inbox, "settle", killed)
        with pytest.raises(KeyboardInterrupt):
            drain.drain_inbox(Inbox(client, settings, TENANT))


@pytest.mark.parametrize("entries", [1, 3])
def test_a_turn_whose_last_answer_is_lost_is_over_all_the_same(
    client: redis.Redis, inbox: Inbox, monkeypatch: pytest.MonkeyPatch, entries: int
) -> None:
    sent = [submission(number) for number in range(entries)]
    accept(inbox, sent)
    settle = Inbox.settle

    def unanswered(*arguments: Any, **options: Any) -> Settled:
        settled = settle(*arguments, **options)
        if settled.over:
            raise BrokerUnavailable("Redis does not answer")
        return settled

    with monkeypatch.context() as patch:
        patch.setattr(Inbox, "settle", unanswered)
        with pytest.raises(BrokerUnavailable):
            drain.drain_inbox(inbox)
    for one in sent:
        record: Any = client.get(keys.result(one.entry.backup_id))
        assert json.loads(record)["status"] == "SUCCESS"
    assert not client.exists(keys.lock(TENANT), keys.wake(TENANT), keys.attempts(TENANT))
    [answer] = accept(inbox, [submission(9)])
    assert answer.wake_ms is not None
    assert drain.drain_inbox(inbox, answer.wake_ms).committed == 1
    assert len(commits_of(inbox.settings)) == entries + 1


def test_a_turn_whose_first_answer_is_lost_holds_the_tenant_until_the_lock_expires(
    client: redis.Redis, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(inbox, [submission(1)])
    begin = Inbox.begin

    def unanswered(*arguments: Any, **options: Any) -> Begun:
        begin(*arguments, **options)
        raise BrokerUnavailable("Redis does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(Inbox, "begin", unanswered)
        with pytest.raises(BrokerUnavailable):
            drain.drain_inbox(inbox)
    assert 0 < client.pttl(keys.lock(TENANT)) <= inbox.settings.lock_ttl_s * 1000
    assert drain.drain_inbox(inbox) == drain.Turn()
    client.delete(keys.lock(TENANT))
    assert drain.drain_inbox(inbox).committed == 1
    assert not client.exists(keys.attempts(TENANT))


@pytest.mark.parametrize("size", [3, 2 * 1024 * 1024])
def test_bytes_that_come_with_their_entry_are_not_read_again_and_large_ones_are(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    accept(inbox, [submission(1), submission(2, b"x" * size)])
    read, found = RedisStaging.read, list[int]()

    def counted(self: RedisStaging, tenant: str, entries: Any) -> Any:
        found.append(len(entries))
        return read(self, tenant, entries)

    monkeypatch.setattr(RedisStaging, "read", counted)
    assert drain.drain_inbox(inbox).committed == 2
    assert found == ([1] if size > 3 else [])
    assert_all_readable(inbox.settings.git_store_path)


def test_entries_whose_bytes_are_gone_are_answered_from_git(
    client: redis.Redis, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(inbox, [submission(1), submission(2)])
    killed_before_it_settles(client, inbox.settings, monkeypatch)
    accept(inbox, [submission(3), submission(4)])
    gone = [submission(number).entry.backup_id for number in (1, 3)]
    client.delete(*(keys.staged(TENANT, backup_id) for backup_id in gone))
    turn = drain.drain_inbox(inbox)
    assert (turn.committed, turn.dead, turn.left) == (3, 1, 0)
    assert commits_of(inbox.settings) == ["message 1", "message 2", "message 4"]
    [letter] = dead_letters.list_dead_letters(client)
    assert (letter.backup_id, letter.kind) == (gone[1], "StagedBytesMissing")
    record: Any = client.get(keys.result(gone[0]))
    path = repository_path(inbox.settings.git_store_path, TENANT)
    oldest = git(path, "rev-parse", "main~2").decode().strip()
    assert json.loads(record)["result"]["sha"] == oldest
    assert_all_readable(inbox.settings.git_store_path)


def test_an_entry_goes_when_its_receipt_is_there_and_its_bytes_go_last(
    client: redis.Redis, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = submission(1)
    entry = dataclasses.replace(one.entry, staging="volume")
    volume = VolumeStaging(inbox.settings.staging_path)
    volume.stage(TENANT, entry, Contents(b"/ip", None))
    accept(inbox, [acceptance.Submission(TENANT, entry, data=None)])
    discard, states = VolumeStaging.discard, []

    def looked(*arguments: Any) -> None:
        record: Any = client.get(keys.result(entry.backup_id))
        states.append((json.loads(record)["status"], client.xlen(keys.inbox(TENANT))))
        discard(*arguments)

    monkeypatch.setattr(VolumeStaging, "discard", looked)
    drain.drain_inbox(inbox)
    assert states == [("SUCCESS", 0)]
    assert volume.read(TENANT, [entry]) == [None]


def test_what_lies_on_the_volume_is_read_there(client: redis.Redis, settings: Settings) -> None:
    """A torn transaction may have left an earlier enqueue's bytes in the server, under the same id."""
    entry = dataclasses.replace(submission(1).entry, staging="volume")
    VolumeStaging(settings.staging_path).stage(TENANT, entry, Contents(b"/ip", None))
    acceptance.accept(client, settings, [acceptance.Submission(TENANT, entry, data=None)])
    client.set(keys.staged(TENANT, entry.backup_id), b"/i")
    turn = drain.drain_inbox(Inbox(client, settings, TENANT))
    assert (turn.committed, turn.dead) == (1, 0)


@pytest.mark.parametrize(("busy", "committed"), [(4, 1), (5, 0)])
def test_a_branch_that_others_move_is_tried_again_and_not_for_ever(
    client: redis.Redis, inbox: Inbox, monkeypatch: pytest.MonkeyPatch, busy: int, committed: int
) -> None:
    accept(inbox, [submission(1)])
    commit_backups, tries = Writer.commit_backups, list[int]()

    def moved(*arguments: Any, **options: Any) -> Any:
        tries.append(1)
        if len(tries) <= busy:
            raise RepositoryBusy("main was moved by another writer")
        return commit_backups(*arguments, **options)

    monkeypatch.setattr(Writer, "commit_backups", moved)
    if committed:
        assert drain.drain_inbox(inbox).committed == 1
    else:
        with pytest.raises(RepositoryBusy):
            drain.drain_inbox(inbox)
    assert (len(tries), client.xlen(keys.inbox(TENANT))) == (5, 1 - committed)
    assert not client.exists(keys.DEAD)


@pytest.mark.parametrize(
    ("attempts", "backups", "dead"), [(9, 1, 0), (10, 1, 1), (11, 1, 1), (10, 2, 1)]
)
def test_only_what_ended_ten_tries_alone_is_given_up(
    client: redis.Redis, inbox: Inbox, attempts: int, backups: int, dead: int
) -> None:
    accept(inbox, [submission(number) for number in range(backups)])
    client.set(keys.attempts(TENANT), attempts)
    turn = drain.drain_inbox(inbox)
    assert (turn.committed, turn.dead, turn.left) == (backups - dead, dead, 0)
    kinds = [letter.kind for letter in dead_letters.list_dead_letters(client)]
    assert kinds == ["PoisonedBackup"] * dead
    # Its bytes stay for a person, those of the others go.
    assert client.exists(keys.staged(TENANT, submission(0).entry.backup_id)) == dead


def test_a_fault_of_the_store_counts_no_attempt(
    client: redis.Redis, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(inbox, [submission(1)])

    def full(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("no space left on the device")

    monkeypatch.setattr(Writer, "commit_backups", full)
    for _ in range(12):
        with pytest.raises(StoreUnavailable):
            drain.drain_inbox(inbox)
        assert not client.exists(keys.attempts(TENANT), keys.lock(TENANT))
    monkeypatch.undo()
    assert drain.drain_inbox(inbox).committed == 1


@pytest.fixture
def woken(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[str, int]]:
    """The wake-ups that the task sent: tenant, and the ms in it."""
    found: list[tuple[str, int]] = []
    monkeypatch.setattr(commit, "get_settings", lambda: settings)
    monkeypatch.setattr(commit, "get_client", lambda _settings: client)
    monkeypatch.setattr(
        wakeups, "send", lambda _app, _settings, tenant, ms, **_: found.append((tenant, ms))
    )
    return found


def test_what_a_slice_leaves_gets_a_wake_up_at_the_tail(
    client: redis.Redis, inbox: Inbox, monkeypatch: pytest.MonkeyPatch, woken: list[tuple[str, int]]
) -> None:
    accept(inbox, [submission(number) for number in range(5)])
    with monkeypatch.context() as patch:
        # Whatever ends a turn early: here it learns of a loss behind the first batch.
        lost = iter([False, True])
        patch.setattr(TenantLock, "lost", property(lambda _lock: next(lost)))
        commit.commit_inbox(TENANT)
    assert client.xlen(keys.inbox(TENANT)) == 3
    [(tenant, own_ms)] = woken
    assert (tenant, client.get(keys.wake(TENANT))) == (TENANT, f"{own_ms}t".encode())
    commit.commit_inbox(TENANT, own_ms)
    assert client.xlen(keys.inbox(TENANT)) == 0
    assert (len(woken), client.exists(keys.wake(TENANT))) == (1, 0), "nothing is left"


def test_a_turn_sends_no_wake_up_where_another_turn_is_on_it(
    client: redis.Redis, inbox: Inbox, monkeypatch: pytest.MonkeyPatch, woken: list[tuple[str, int]]
) -> None:
    accept(inbox, [submission(1)])
    held = try_lock(client, TENANT, 60)
    assert held is not None
    commit.commit_inbox(TENANT)
    held.release()
    assert (client.xlen(keys.inbox(TENANT)), woken) == (1, [])
    run = BatchCommitter.run

    def lost(*arguments: Any, **options: Any) -> batch.Done:
        # A paused turn: another one has taken the lock, and one more backup has come.
        client.set(keys.lock(TENANT), "another turn", px=60_000)
        accept(inbox, [submission(2)])
        return run(*arguments, **options)

    monkeypatch.setattr(BatchCommitter, "run", lost)
    flag = client.get(keys.wake(TENANT))
    commit.commit_inbox(TENANT)
    assert (client.xlen(keys.inbox(TENANT)), woken) == (1, [])
    assert client.get(keys.lock(TENANT)) == b"another turn"
    assert client.get(keys.wake(TENANT)) == flag


def test_who_holds_a_tenant_outside_of_a_turn_wakes_what_came_meanwhile(
    client: redis.Redis, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: list[str] = []

    def send(_app: object, _settings: Settings, tenant: str, **_: object) -> None:
        assert not client.exists(keys.lock(tenant)), "the lock would refuse the turn"
        woken.append(tenant)

    monkeypatch.setattr(wakeups, "send", send)
    for module in (hold, commit):
        monkeypatch.setattr(module, "get_client", lambda _settings: client)
    monkeypatch.setattr(commit, "get_settings", lambda: inbox.settings)
    with pytest.raises(ZeroDivisionError), hold.hold_tenant(inbox.settings, TENANT):
        [answer] = accept(inbox, [submission(1)])
        commit.commit_inbox(TENANT, answer.wake_ms)
        assert client.xlen(keys.inbox(TENANT)) == 1, "its wake-up was in vain"
        1 / 0  # noqa: B018
    assert (woken, client.exists(keys.lock(TENANT), keys.wake(TENANT))) == ([TENANT], 0)
    commit.commit_inbox(TENANT)
    with hold.hold_tenant(inbox.settings, TENANT):
        pass
    assert (woken, client.xlen(keys.inbox(TENANT))) == ([TENANT], 0), "nothing is left"


def test_a_batch_that_is_settled_ends_the_wait_after_a_fault(
    client: redis.Redis, inbox: Inbox
) -> None:
    accept(inbox, [submission(1)])
    for tries in (1, 2, 3):
        assert backoff.failed(inbox, StoreUnavailable("no space")).tries == tries
        # Since when it waits is told to the end.
        client.hset(keys.backoff(TENANT), "since_ms", 12_345)
    assert backoff.failed(inbox, StoreUnavailable("no space")).tries == 4
    wait = backoff.get(inbox)
    assert wait is not None
    assert wait.since_ms == 12_345
    assert drain.drain_inbox(inbox).committed == 1
    assert backoff.get(inbox) is None
    [answer] = accept(inbox, [submission(2)])
    assert answer.wake_ms is not None, "what comes now need not wait"
    assert backoff.failed(inbox, StoreUnavailable("no space")).tries == 1
