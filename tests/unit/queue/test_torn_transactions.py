"""A power cut keeps the first writes of a script or transaction, which appear two starts later.

Each script and transaction is cut after each of its writes. What the server holds at the first start is
played without these, then somebody works with it or not, and at the second start the beginning appears
before what was done meanwhile. Then the call is repeated, all is drained and tidied, and judged.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from confkeep.broker import keys, scripts
from confkeep.errors import ConfkeepError, MessageRefused, StagedBytesMissing, StoreUnavailable
from confkeep.queue import acceptance, receipts, staging, wakeups
from confkeep.queue.acceptance import Submission
from confkeep.queue.staged_bytes import Contents
from confkeep.settings import Settings
from tests import append_only
from tests.judge import assert_readable, git
from tests.servers import wait_for
from tests.turns import DEVICE, TENANT, lose_wake_ups, publish, read_batch, submission, tidy_all
from worker.broker import received
from worker.broker.gate import Refusal
from worker.engine import drain, stale
from worker.process.local import EmbeddedServer
from worker.process.sweeper import Sweeper
from worker.queue import (
    backoff,
    dead_letters,
    inboxes,
    oddities,
    recount,
    refused,
    totals,
)
from worker.queue.inbox import Inbox
from worker.queue.sweep_lease import SweepLease
from worker.store.repository.tenant_repository import repository_path

OTHER = str(uuid.UUID(int=9))
FIRST = submission(1)
SECOND = submission(2, b"/ip address")
BEFORE = submission(3, b"/system")
NEXT = submission(4, b"/interface")
LAST = submission(5, b"/user")
ELSEWHERE = submission(6, b"/queue", tenant=OTHER)


class World:
    """A server, a store, and what was promised of it."""

    def __init__(self, client: redis.Redis, file: Path, settings: Settings) -> None:
        self.client = client
        self.settings = settings
        self._file = file
        #: Ids in the order in which their calls returned.
        self.promised: list[str] = []
        self.base: list[append_only.Command] = []
        self._torn: list[append_only.Command] = []
        self._restarted = 0
        client.flushall()
        self._began = file.stat().st_size

    def accept(self, *ones: Submission) -> list[str]:
        accepted = acceptance.accept(self.client, self.settings, ones)
        answers = [answer.outcome for answer in accepted]
        for one, answer in zip(ones, answers, strict=True):
            assert answer in ("accepted", "waiting", "done")
            if one.entry.backup_id not in self.promised:
                self.promised.append(one.entry.backup_id)
        return answers

    def drain(self) -> None:
        for tenant in (TENANT, OTHER):
            drain.drain_inbox(Inbox(self.client, self.settings, tenant))

    def written(self, start: int) -> list[append_only.Written]:
        return append_only.read(self._file, start)

    @property
    def size(self) -> int:
        return self._file.stat().st_size

    def cut(self, act: Callable[[World], object], kept: int, marker: bytes) -> int:
        """Run `act`, and start again with `kept` writes of its transaction that has the command `marker`.

        Returns:
            How many writes the transaction has.
        """
        before = [one.command for one in self.written(self._began)]
        if self.base:
            before = [*self.base, *(one.command for one in self.written(self._restarted))]
        promised = list(self.promised)
        start = self.size
        act(self)
        commands = self.written(start)
        at = next(n for n, one in enumerate(commands) if one.name == marker)
        begin = max(n for n in range(at) if commands[n].name == b"MULTI")
        end = next(n for n in range(at, len(commands)) if commands[n].name == b"EXEC")
        writes = commands[begin + 1 : end]
        self.promised = promised
        self.base = [*before, *(one.command for one in commands[:begin])]
        self._torn = [one.command for one in writes[:kept]]
        self._start(self.base)
        self._restarted = self.size
        return len(writes)

    def _start(self, commands: list[append_only.Command]) -> None:
        # A start takes longer than a lock lives, and than a stream id's millisecond.
        now_ms = inboxes.server_time_ms(self.client)
        append_only.play(self.client, commands)
        wait_for(lambda: inboxes.server_time_ms(self.client) > now_ms, "the next millisecond")
        self.client.delete(keys.lock(TENANT), keys.lock(OTHER))

    def start_again(self) -> None:
        """The second start: what was torn comes first, then what was done since."""
        later = self.written(self._restarted)
        commands = self.base
        # Where no transaction ended since, the server takes all back to before the torn one.
        if any(one.name == b"EXEC" for one in later):
            commands = [*self.base, *self._torn, *(one.command for one in later)]
        self._start(commands)
        self.base = commands
        self._restarted = self.size


@dataclasses.dataclass(frozen=True)
class Case:
    """A script or transaction, and what stands before it."""

    act: Callable[[World], object]
    #: A command that only this transaction has.
    marker: bytes
    before: Callable[[World], object] = lambda _: None
    #: Ids that are dead letters at the end, or may be.
    dead: tuple[str, ...] = ()
    #: What must hold at the end; None: what `judge` looks at.
    look: Callable[[World], None] | None = None


def on_volume(world: World) -> None:
    """What a producer with a shared volume does."""
    staging.VolumeStaging(world.settings.staging_path).stage(
        TENANT, VOLUME.entry, Contents(b"/ip", None)
    )
    world.accept(VOLUME)


VOLUME = Submission(TENANT, dataclasses.replace(submission(7).entry, staging="volume"), None, None)


def bury(world: World, one: Submission = FIRST, error: ConfkeepError | None = None) -> None:
    """Let a backup be a dead letter whose bytes are there."""
    world.accept(one)
    batch = read_batch(Inbox(world.client, world.settings, TENANT))
    [waiting] = [w for w in batch.entries if w.entry.backup_id == one.entry.backup_id]
    error = error or StagedBytesMissing("gone")
    dead_letters.bury(Inbox(world.client, world.settings, TENANT), waiting.entry, error)
    outcome = receipts.Outcome(one.entry.backup_id, one.entry.digest(TENANT), error)
    publish(world.client, [outcome], 3600)
    Inbox(world.client, world.settings, TENANT).settle(
        [waiting],
        marks={one.entry.backup_id: totals.DEAD},
    )


def lose_bytes(world: World) -> None:
    world.accept(BEFORE, FIRST)
    world.client.delete(keys.staged(TENANT, FIRST.entry.backup_id))
    world.promised.remove(FIRST.entry.backup_id)


def lose_entry(world: World) -> None:
    world.accept(FIRST)
    world.client.delete(keys.inbox(TENANT))
    world.promised.clear()


def fail(world: World) -> None:
    backoff.failed(Inbox(world.client, world.settings, TENANT), StoreUnavailable("no space"))


def show(world: World) -> None:
    drain.show_retrying(Inbox(world.client, world.settings, TENANT), StoreUnavailable("no space"))


def begin(world: World) -> None:
    read_batch(Inbox(world.client, world.settings, TENANT))


def begin_slice(world: World) -> None:
    world.accept(BEFORE, FIRST)
    Inbox(world.client, world.settings, TENANT).begin("a turn")


def end_slice(world: World) -> None:
    Inbox(world.client, world.settings, TENANT).settle([], leave="now", token="a turn")


WITH_REPLY = dataclasses.replace(SECOND, reply_to=str(uuid.UUID(int=77)))
CASES = {
    "accept": Case(lambda w: w.accept(FIRST), b"XADD"),
    "accept behind others": Case(
        lambda w: w.accept(FIRST), b"XADD", before=lambda w: w.accept(BEFORE)
    ),
    "accept two": Case(lambda w: w.accept(FIRST, WITH_REPLY), b"XADD"),
    "accept from a volume": Case(on_volume, b"XADD"),
    "accept a dead letter": Case(lambda w: w.accept(FIRST), b"XADD", before=bury),
    "retry a dead letter": Case(
        lambda w: dead_letters.retry(w.client, w.settings, FIRST.entry.backup_id),
        b"XADD",
        before=bury,
    ),
    "begin": Case(begin, b"SET", before=lambda w: w.accept(BEFORE, FIRST)),
    "settle": Case(lambda w: w.drain(), b"XDEL", before=lambda w: w.accept(BEFORE, FIRST)),
    "settle with a further receipt": Case(
        lambda w: w.drain(),
        b"XDEL",
        before=lambda w: w.accept(BEFORE, dataclasses.replace(FIRST, reply_to=OTHER)),
    ),
    "end a slice": Case(end_slice, b"DEL", before=begin_slice),
    "settle what is dead": Case(
        lambda w: w.drain(), b"XDEL", before=lose_bytes, dead=(FIRST.entry.backup_id,)
    ),
    "a fault": Case(fail, b"PEXPIREAT", before=lambda w: w.accept(BEFORE, FIRST)),
    "show a fault": Case(show, b"SET", before=lambda w: w.accept(BEFORE, FIRST)),
    "discard": Case(
        lambda w: dead_letters.discard(w.client, w.settings, FIRST.entry.backup_id),
        b"HDEL",
        before=bury,
    ),
    "lose": Case(lambda w: tidy_all(w.client, w.settings), b"HSETNX", before=lose_entry),
}


def nothing(world: World) -> None:
    """Only another tenant works."""
    world.accept(ELSEWHERE)


def another_waits(world: World) -> None:
    world.accept(NEXT)


def another_is_committed(world: World) -> None:
    world.accept(NEXT)
    world.drain()


def it_is_repeated(world: World) -> None:
    world.accept(FIRST)


def it_is_committed(world: World) -> None:
    world.accept(FIRST)
    world.drain()
    world.accept(NEXT)


MEANWHILE = (nothing, another_waits, another_is_committed, it_is_repeated, it_is_committed)


@pytest.fixture
def world(real_server: EmbeddedServer, settings: Settings) -> Iterator[Callable[[], World]]:
    with redis.Redis(unix_socket_path=str(real_server.socket)) as client:
        # Else the server begins another file at some size, in the midst of a test.
        client.config_set("auto-aof-rewrite-percentage", 0)
        wait_for(
            lambda: not client.info("persistence")["aof_rewrite_in_progress"], "the last rewrite"
        )
        file = append_only.newest(real_server.data)
        made = 0

        def make() -> World:
            nonlocal made
            made += 1
            store = settings.git_store_path / str(made)
            return World(client, file, settings.model_copy(update={"git_store_path": store}))

        yield make


def judge(world: World, case: Case, *, repeated: bool = True, lasting: bool = False) -> None:
    """Repeat what was not promised, let all drain, tidy, and look at everything."""
    client, settings = world.client, world.settings
    if repeated:
        world.accept(FIRST)
    world.accept(LAST)
    for _ in range(2):
        world.drain()
        tidy_all(client, settings, abandoned_s=0)
    letters = {letter.backup_id for letter in dead_letters.list_dead_letters(client)}
    assert letters <= set(case.dead)
    for tenant in (TENANT, OTHER):
        path = repository_path(settings.git_store_path, tenant)
        raw = git(path, "log", "--reverse", "--format=raw", "main") if path.exists() else b""
        wanted = (b"commit ", b"backup-id ")
        words = [line.decode().split() for line in raw.splitlines() if line.startswith(wanted)]
        shas = [word[1] for word in words if word[0] == "commit"]
        committed = [word[1] for word in words if word[0] == "backup-id"]
        assert len(committed) == len(set(committed)), "committed twice"
        for backup_id, sha in zip(committed, shas, strict=True):
            record = json.loads(client.get(keys.result(backup_id)) or b"{}")
            assert record.get("status") == "SUCCESS", f"{backup_id} has no receipt"
            assert record["result"]["sha"] == sha
        own = [i for i in world.promised if (i == ELSEWHERE.entry.backup_id) == (tenant == OTHER)]
        own = [i for i in own if i not in letters]
        assert set(own) <= set(committed), "promised and not committed"
        # What was given twice has two places in the order.
        once = [i for i in own if i != FIRST.entry.backup_id]
        assert [i for i in committed if i in once] == once, "out of order"
    counted = totals.read_totals(client)
    assert counted.enqueued == counted.committed + counted.dead
    stays = {
        keys.TOTALS,
        keys.RECENT,
        keys.EVENTS,
        keys.inbox(TENANT),
        keys.inbox(OTHER),
        keys.WORKERS,
        keys.STORES,
        keys.sweep("0-16-1"),
    }
    left = {name.decode() for name in client.scan_iter(match="confkeep:*")}
    left = {name for name in left if not name.startswith(keys.wake(""))}
    if not letters and not lasting:
        assert left <= stays, "left behind"
    assert Inbox(client, settings, TENANT).depth() == Inbox(client, settings, OTHER).depth() == 0
    files = [path for path in settings.staging_path.rglob("*") if path.is_file()]
    assert files == [] or letters


def run(
    make: Callable[[], World],
    case: Case,
    meanwhile: Callable[[World], None],
    *,
    repeated: bool = True,
) -> None:
    kept, writes = 0, 1
    while kept <= writes:
        world = make()
        case.before(world)
        writes = world.cut(case.act, kept, case.marker)
        meanwhile(world)
        world.start_again()
        try:
            if case.look is None:
                judge(world, case, repeated=repeated)
            else:
                case.look(world)
        except AssertionError as error:
            error.add_note(f"of {writes} writes {kept} were kept")
            raise
        kept += 1


@pytest.mark.parametrize("meanwhile", MEANWHILE, ids=lambda one: one.__name__)
@pytest.mark.parametrize("name", CASES)
def test_each_beginning_is_safe(
    world: Callable[[], World], name: str, meanwhile: Callable[[World], None]
) -> None:
    run(world, CASES[name], meanwhile)


def test_two_beginnings_in_a_row_are_safe(world: Callable[[], World]) -> None:
    case = CASES["accept"]
    for first in range(2, 8):
        for second in (2, 6, 7):
            one = world()
            one.cut(case.act, first, case.marker)
            one.accept(NEXT)
            one.start_again()
            one.cut(lambda w: w.accept(SECOND), second, case.marker)
            one.accept(ELSEWHERE)
            one.drain()
            one.start_again()
            judge(one, case)


def expire_leases(client: redis.Redis) -> None:
    for lease in client.scan_iter(match=keys.sweep("*")):
        assert client.pttl(lease) > 0, "a lease that stays"
        client.delete(lease)


def queued(world: World) -> set[str]:
    """The tenants whose wake-ups are in the queues."""
    shards = range(world.settings.shards)
    return set().union(*(wakeups.queued(world.client, shard, 100) or set() for shard in shards))


def sweep(world: World) -> list[tuple[str, bool]]:
    """Sweep as another worker does once the flags and the lease of before are old.

    Returns:
        The tenants that it wakes, and whether they go first.
    """
    client = world.client
    expire_leases(client)
    settings = world.settings.model_copy(update={"wake_ttl_s": 0.0, "stale_hours": 0.0})
    woken: list[tuple[str, bool]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            wakeups,
            "send",
            lambda _app, _settings, tenant, _ms, *, high: woken.append((tenant, high)),
        )
        Sweeper(None, settings, client, "another").sweep()
    return woken


def wait_unwoken(world: World) -> None:
    """A backup waits, and its wake-up was lost with a worker."""
    world.accept(FIRST)
    lose_wake_ups(world.client)


def look_at_priority(world: World) -> None:
    """Either the wake-up is in the queue that goes first, or the next sweep sends it there.

    The flag comes first: without its `h`, what a turn leaves would go behind others' bulk.
    """
    client = world.client
    flag: Any = client.get(keys.wake(TENANT))
    sent = client.llen(keys.queue_of(TENANT, world.settings.shards, high=True))
    woken_before = TENANT in queued(world)
    ours = [high for tenant, high in sweep(world) if tenant == TENANT]
    waiting = [one.entry for one in Inbox(client, world.settings, TENANT).peek(9)]
    if sent:
        assert ours == [], "woken twice"
        is_told = wakeups.high_upto(flag) is not None
        assert is_told or FIRST.entry not in waiting, "it goes first only once"
    elif waiting and not woken_before:
        assert ours == [wakeups.high_upto(flag) is not None], "forgotten"
    judge(world, Case(nothing, b""), lasting=True)


def lease_of(world: World, name: str) -> SweepLease:
    return SweepLease(world.client, name, range(world.settings.shards), 1.0)


def lead(world: World) -> None:
    """A worker that notes its store takes the lease."""
    expire_leases(world.client)
    assert lease_of(world, "a worker").begin(None, "a" * 32).holds


def lead_of_another_store(world: World) -> None:
    """Before any other, a worker of another store: what it notes is whole."""
    expire_leases(world.client)
    lease_of(world, "of another store").begin(None, "b" * 32)


def leave(world: World) -> None:
    lease = lease_of(world, "a worker")
    lease.begin(None, None)
    lease.leave()


def look_at_lease(world: World) -> None:
    """The lease expires, and the workers of one of the stores can sweep; never none of them.

    No order is needed: a report or a note of a store tells no worker that another one sweeps.
    """
    client = world.client
    refused_ones = []
    for store in ("a", "b"):
        expire_leases(client)
        begun = lease_of(world, f"later {store}").begin(None, store * 32)
        assert begun.holds is (begun.other_store is None), "nobody sweeps"
        refused_ones.append(begun.other_store)
    assert sorted(map(bool, refused_ones)) == [False, True], "two stores, or none"
    assert len(set(client.hvals(keys.STORES))) == 1
    for name in client.hkeys(keys.WORKERS):
        assert json.loads(client.hget(keys.WORKERS, name) or b"")["swept_ms"] > 0


IN_TWO_DAYS = 2 * 86_400


def commit_one(world: World) -> None:
    world.accept(FIRST)
    world.drain()


def note_stale(world: World) -> None:
    now_s = inboxes.server_time_ms(world.client) // 1000
    stale.note_tenant(Inbox(world.client, world.settings, TENANT), now_s + IN_TWO_DAYS)


def look_at_stale(world: World) -> None:
    """Whoever reads the events learns of the stale device: once, since a repeated event has its id."""
    note_stale(world)
    assert world.client.hkeys(keys.stale(TENANT)) == [DEVICE.encode()]
    rows: Any = world.client.xrange(keys.EVENTS)
    told = [json.loads(fields[b"event"]) for _, fields in rows]
    assert len({one["id"] for one in told if one["type"] == "device.stale"}) == 1, "untold"


TAG, TASK_ID = b"a tag", str(uuid.UUID(int=70))


def take(world: World) -> None:
    """A worker has taken a message that it is going to refuse."""
    world.client.hset(keys.UNACKED, TAG, MESSAGE)
    world.client.zadd(keys.UNACKED_INDEX, {TAG: 1})


MESSAGE = json.dumps([{"body": "e30=", "properties": {}}, "", keys.RECEIVE_QUEUE]).encode()


def refuse(world: World) -> None:
    """What a worker does with a taken message, whenever it meets it."""
    if world.client.hexists(keys.UNACKED, TAG):
        refusal = Refusal(MessageRefused("task", "is none of ours"), None, TASK_ID)
        args = (world.client, MESSAGE, keys.UNACKED, refusal, 60)
        refused.set_aside(*args, unacked_tag=TAG)


def look_at_refused(world: World) -> None:
    """The message is kept, its sender is told, and nobody takes it any more."""
    client = world.client
    # The sweep lets a worker meet what is in no index; two looks, since it gives others time.
    for _ in range(2):
        received.bring_back(client)
    indexed = client.zscore(keys.UNACKED_INDEX, TAG) is not None
    assert indexed is bool(client.hexists(keys.UNACKED, TAG)), "never met again"
    refuse(world)
    kept = list(refused.list_refused(client))
    assert {one.message for one in kept} == {MESSAGE}, "lost"
    record = json.loads(client.get(keys.result(TASK_ID)) or b"{}")
    assert record.get("status") == "FAILURE", "its sender waits"
    assert 1 <= totals.read_totals(client).refused <= len(kept)
    assert not client.exists(keys.UNACKED, keys.UNACKED_INDEX)


def lose_counts(world: World) -> None:
    """Backups wait that no counter and no sweep knows of."""
    world.accept(BEFORE, FIRST)
    lose_wake_ups(world.client)
    world.client.delete(keys.WAITING, keys.LOAD)


def leave_marks(world: World) -> None:
    """Nothing waits, and the counters say that something does."""
    world.client.zadd(keys.WAITING, {TENANT: 1})
    world.client.hset(keys.LOAD, mapping={TENANT: 5, "bytes": 5, "entries": 1})
    for name in (keys.replies(TENANT), keys.backoff(TENANT)):
        world.client.hset(name, "tries", 1)


def count_wrongly(world: World) -> None:
    world.accept(BEFORE, FIRST)
    world.client.hset(keys.LOAD, mapping={"bytes": 99, "entries": 99})
    world.client.hset(keys.TOTALS, "enqueued", 1)


def look_at_counts(world: World) -> None:
    """The next tidying counts what waits, and lets the sweep find it.

    No order is needed: what is wrong is counted again.
    """
    client = world.client
    tidy_all(client, world.settings, abandoned_s=0)
    depths = {t: Inbox(client, world.settings, t).depth() for t in (TENANT, OTHER)}
    marked: Any = client.zrange(keys.WAITING, 0, -1)
    held: Any = client.hgetall(keys.LOAD)
    waiting = {name.decode() for name in marked}
    assert waiting == {tenant for tenant, depth in depths.items() if depth}, "no sweep finds it"
    load = {name.decode(): int(value) for name, value in held.items()}
    assert load.pop("entries", 0) == sum(depths.values())
    assert load.pop("bytes", 0) == sum(load.values())
    assert load.keys() == waiting
    assert depths[TENANT] or not client.exists(keys.replies(TENANT), keys.backoff(TENANT))
    counted = totals.read_totals(client)
    assert counted.enqueued == counted.committed + counted.dead + sum(depths.values())
    assert queued(world) | {tenant for tenant, _ in sweep(world)} >= waiting, "forgotten"
    judge(world, Case(nothing, b""), lasting=True)


def plant(world: World) -> None:
    """What confkeep does not write, of another type and without an end, in the place of its keys."""
    world.client.rpush(keys.inbox(TENANT), "x", "y")
    world.client.set(keys.repack(TENANT), "for ever")


def set_aside(world: World) -> None:
    """What each fifth sweep does."""
    oddities.set_aside(world.client, keys.types_of(TENANT))


def look_at_odd(world: World) -> None:
    """What was planted is set aside whole, is told, and goes after a while."""
    client = world.client
    set_aside(world)
    noted = {note.key: note.problem.split()[1] for note in oddities.notes(client)}
    assert noted == {keys.inbox(TENANT): "list", keys.repack(TENANT): "string"}, "untold"
    assert client.lrange(keys.odd(keys.inbox(TENANT)), 0, -1) == [b"x", b"y"]
    for name in client.scan_iter(match=f"{keys.ODD}*"):
        assert client.ttl(name) > 0, "it stays for ever"
    judge(world, Case(nothing, b""), lasting=True)


#: Scripts that no receipt depends on, each with what is done meanwhile.
ASIDE: dict[str, tuple[Case, tuple[Callable[[World], None], ...]]] = {
    "wake first": (
        Case(
            lambda w: wakeups.wake_first(w.client, w.settings, [TENANT]),
            b"LPUSH",
            before=wait_unwoken,
            look=look_at_priority,
        ),
        (nothing, another_waits, it_is_committed),
    ),
    "sweep": (Case(lead, b"SET", look=look_at_lease), (nothing, lead, lead_of_another_store)),
    "leave": (
        Case(leave, b"DEL", look=look_at_lease),
        (nothing, lead),
    ),
    "set aside": (
        Case(set_aside, b"RENAME", before=plant, look=look_at_odd),
        (nothing, set_aside, another_waits),
    ),
    "note stale": (
        Case(note_stale, b"XADD", before=commit_one, look=look_at_stale),
        (nothing, note_stale),
    ),
    "refuse": (Case(refuse, b"XADD", before=take, look=look_at_refused), (nothing, refuse)),
    "recount": (
        Case(
            lambda w: recount.tenant(w.client, TENANT),
            b"ZADD",
            before=lose_counts,
            look=look_at_counts,
        ),
        (nothing, another_waits, another_is_committed),
    ),
    "recount nothing": (
        Case(
            lambda w: recount.tenant(w.client, TENANT),
            b"ZREM",
            before=leave_marks,
            look=look_at_counts,
        ),
        (nothing, another_waits, another_is_committed),
    ),
    "recount all": (
        Case(
            lambda w: recount.rest(w.client, {TENANT}),
            b"HSET",
            before=count_wrongly,
            look=look_at_counts,
        ),
        (nothing, another_waits, another_is_committed),
    ),
}


@pytest.mark.parametrize(
    ("name", "meanwhile"),
    [(name, one) for name, (_, each) in ASIDE.items() for one in each],
    ids=lambda one: one if isinstance(one, str) else one.__name__,
)
def test_each_beginning_beside_the_receipts_is_safe(
    world: Callable[[], World], name: str, meanwhile: Callable[[World], None]
) -> None:
    run(world, ASIDE[name][0], meanwhile)


#: What scripts did once, or might do, and what the beginnings of them left behind.
WRONG: dict[str, tuple[str, str, Callable[[str], str], Callable[[World], None]]] = {
    "the record before the entry": (
        "accept",
        "accept",
        lambda text: text.replace(
            "  local signed =",
            "  redis.call('SET', result, record, 'EX', record_s)\n  local signed =",
        ).replace("has_entry(known, inbox, backup)", "true"),
        nothing,
    ),
    "the inbox goes when it is empty": (
        "accept a dead letter",
        "settle",
        lambda text: text.replace(
            "\nif left == 0 then", "\nif left == 0 then\n  redis.call('DEL', inbox)", 1
        ),
        another_is_committed,
    ),
    "the entry goes before its receipt": (
        "settle",
        "settle",
        # Both halves of the loop of receipts go behind the loop that takes the entries out.
        lambda text: (
            text[: text.index("for _, each in ipairs(backups)")]
            + text[text.index("-- The entries are usually") : text.index("for i = 12, #KEYS")]
            + text[
                text.index("for _, each in ipairs(backups)") : text.index(
                    "-- The entries are usually"
                )
            ]
            + text[text.index("for i = 12, #KEYS") :]
        ),
        nothing,
    ),
    "a letter goes before its entry": (
        "accept a dead letter",
        "accept",
        lambda text: text.replace(
            "  if has_bytes == '1' then\n    redis.call('SET'",
            "  redis.call('HDEL', dead, backup)\n  if has_bytes == '1' then\n    redis.call('SET'",
        ),
        nothing,
    ),
    "a stale device is noted before it is told": (
        "note stale",
        "note_stale",
        lambda text: text.replace(
            "    if event ~= ''",
            "    if seconds ~= '' then redis.call('HSET', stale, device, seconds) end\n"
            "    if event ~= ''",
        ),
        nothing,
    ),
    "a message is acknowledged before it is kept": (
        "refuse",
        "refuse",
        lambda text: text.replace(
            "local last =", "redis.call('HDEL', unacked, tag)\nlocal last =", 1
        ),
        nothing,
    ),
    "what is set aside gets its life in a second step": (
        "set aside",
        "set_aside",
        lambda text: re.sub(
            r"(  redis.call\('EXPIRE', key, ODD_LIFE_S\)\n)(  redis.call\('RENAME', key, (.*)\)\n)",
            r"\2  redis.call('EXPIRE', \3, ODD_LIFE_S)\n",
            text,
        ),
        nothing,
    ),
    "a wake-up is sent before its flag": (
        "wake first",
        "wake_first",
        lambda text: re.sub(
            r"(redis.call\('SET', wake.*\n)(if not sent (?:.*\n)*end\n)", r"\2\1", text
        ),
        nothing,
    ),
    "a lease gets its life in a second step": (
        "sweep",
        "sweep",
        lambda text: text.replace(
            "redis.call('SET', lease, token, 'PX', life_ms)",
            "redis.call('SET', lease, token)\nredis.call('PEXPIRE', lease, life_ms)",
        ),
        nothing,
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_another_order_is_caught(
    world: Callable[[], World], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    case, script, change, meanwhile = WRONG[name]
    load = scripts.load
    text = change(load(script).text)
    assert text != load(script).text

    def changed(wanted: str) -> scripts.Script:
        if wanted != script:
            return load(wanted)
        return scripts.Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    monkeypatch.setattr(scripts, "load", changed)
    with pytest.raises((AssertionError, KeyError)):
        wrong = CASES[case] if case in CASES else ASIDE[case][0]
        run(world, wrong, meanwhile, repeated=case == "accept")


@pytest.mark.parametrize("rewritten", [False, True])
def test_a_real_server_does_what_is_played_here(
    tmp_path: Path, settings: Settings, rewritten: bool
) -> None:
    with EmbeddedServer(tmp_path / "torn") as server:
        file = append_only.newest(server.data)
        with redis.Redis(unix_socket_path=str(server.socket)) as client:
            acceptance.accept(client, settings, [BEFORE])
            acceptance.accept(client, settings, [FIRST])
        _multi, *writes, _exec = append_only.transactions(append_only.read(file))[-1]
        server.kill()
        os.truncate(file, writes[4].end + 5)
        server.start()
        with redis.Redis(unix_socket_path=str(server.socket)) as client:
            assert client.xlen(keys.inbox(TENANT)) == 1
            if rewritten:
                client.bgrewriteaof()
                wait_for(
                    lambda: not client.info("persistence")["aof_rewrite_in_progress"], "the rewrite"
                )
            acceptance.accept(client, settings, [NEXT])
            drain.drain_inbox(Inbox(client, settings, TENANT))
        later = append_only.read(append_only.newest(server.data))
        server.kill()
        server.start()
        with redis.Redis(unix_socket_path=str(server.socket)) as client:
            found = {name: client.dump(name) for name in client.scan_iter()}
            if not rewritten:
                assert b"XADD" in [one.name for one in later]
                append_only.play(client, [one.command for one in later])
                assert {name: client.dump(name) for name in client.scan_iter()} == found
            assert client.xlen(keys.inbox(TENANT)) == (0 if rewritten else 1)
            waiting = {
                waiting.entry.backup_id for waiting in Inbox(client, settings, TENANT).peek(9)
            }
            assert waiting == (set() if rewritten else {FIRST.entry.backup_id})
            tidy_all(client, settings)
            assert bool(client.zscore(keys.WAITING, TENANT)) is not rewritten
            drain.drain_inbox(Inbox(client, settings, TENANT))
            counted = totals.read_totals(client)
            assert counted.enqueued == counted.committed == (2 if rewritten else 3)
    assert_readable(repository_path(settings.git_store_path, TENANT))
