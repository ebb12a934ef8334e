"""Arrivals: what a producer hands over is admitted once, in order and whole, whatever else comes."""

from __future__ import annotations

import dataclasses
import json
import uuid
from typing import Any

import pytest
import redis

from confkeep import enqueue
from confkeep.broker import keys
from confkeep.errors import (
    BackupIdConflict,
    BackupsWaiting,
    BrokerUnavailable,
    InboxFull,
    NotPermitted,
    PoisonedBackup,
    StoreUnavailable,
)
from confkeep.models import BackupPayload
from confkeep.queue import acceptance, arrivals, handover, receipts, staging, wakeups
from confkeep.queue.acceptance import Accepted, Submission
from confkeep.queue.entry import Entry
from confkeep.queue.receipts import Outcome
from confkeep.queue.staged_bytes import Contents
from confkeep.settings import Settings
from tests.judge import assert_all_readable
from tests.unit.queue.test_inbox import DEVICE, TENANT, all_keys, batch, submission
from tests.unit.queue.test_signed_entries import NEW, OLD, with_key
from tests.unit.queue.test_sweeper import sent, sweeper_of
from worker.engine import drain, forget, hold
from worker.process.local import EmbeddedServer
from worker.queue import backoff, dead_letters, inboxes, tidy, totals
from worker.queue.inbox import Inbox

OTHER = str(uuid.UUID(int=77))

__all__ = ["sent"]


def hand_over(client: redis.Redis, settings: Settings, *given: Submission) -> list[str]:
    return [answer.outcome for answer in handover.hand_over(client, settings, given)]


def at_the_same_moment(client: redis.Redis, settings: Settings, *given: Submission) -> None:
    """Hand over as calls do that looked before any of them had written."""
    for one in given:
        client.delete(keys.arriving(one.tenant_id))
        assert hand_over(client, settings, one) == ["accepted"]


def admit(client: redis.Redis, settings: Settings, tenant: str = TENANT, **more: Any) -> int:
    return arrivals.admit(client, settings, tenant, **more)


def settle(client: redis.Redis, settings: Settings, *, dead: bool = False) -> None:
    settled = batch(client)
    for waiting in settled:
        entry = waiting.entry
        value: Any = PoisonedBackup("broken") if dead else {"sha": "0" * 40}
        if dead:
            dead_letters.bury(Inbox(client, settings, TENANT), entry, value)
        receipts.publish(
            client, TENANT, [Outcome(entry.backup_id, entry.digest(TENANT), value)], 60
        )
    Inbox(client, settings, TENANT).settle(settled, keep_bytes=dead)
    client.delete(keys.wake(TENANT))


def test_what_was_handed_over_becomes_what_an_enqueue_leaves(
    client: redis.Redis, settings: Settings
) -> None:
    acceptance.accept(client, settings, [submission(1), submission(2, b"/ip\n" * 900)])
    client.delete(keys.wake(TENANT))
    wanted, load = all_keys(client), client.hgetall(keys.LOAD)
    entries = batch(client)
    client.flushall()

    given = [submission(1), submission(2, b"/ip\n" * 900)]
    assert hand_over(client, settings, *given) == ["accepted"] * 2
    assert client.hgetall(keys.ARRIVING) == load
    assert Inbox(client, settings, TENANT).depth() == 2
    assert not client.exists(keys.inbox(TENANT))
    assert admit(client, settings) == 2
    assert all_keys(client) == wanted
    assert client.hgetall(keys.LOAD) == load
    assert [one.entry for one in batch(client)] == [one.entry for one in entries]
    for one in given:
        assert client.get(keys.staged(TENANT, one.entry.backup_id)) == one.data
        record: Any = client.get(keys.result(one.entry.backup_id))
        assert json.loads(record)["accepted"] == one.entry.digest(TENANT)
    assert totals.read_totals(client).enqueued == 2
    assert admit(client, settings) == 0


def test_many_are_admitted_in_their_order(client: redis.Redis, settings: Settings) -> None:
    order = [submission((n * 37) % 500) for n in range(500)]
    for start in range(0, 500, 50):
        hand_over(client, settings, *order[start : start + 50])
    assert admit(client, settings, most=1) == 200, "in steps"
    assert client.hlen(keys.arriving(TENANT)) == 300, "what is admitted has its record"
    assert admit(client, settings) == 300
    assert [one.entry for one in batch(client, 1000)] == [one.entry for one in order]


def test_a_repeated_call_is_admitted_once_whatever_became_of_the_first(
    client: redis.Redis, settings: Settings
) -> None:
    # Not admitted yet: nobody can know, so it is handed over again.
    assert hand_over(client, settings, submission(1), submission(1)) == ["accepted", "waiting"]
    assert hand_over(client, settings, submission(1)) == ["accepted"]
    assert admit(client, settings) == 2
    # This user cannot see whether its entry is there.
    assert hand_over(client, settings, submission(1)) == ["accepted"]
    assert admit(client, settings) == 1
    assert len(batch(client)) == 1
    hand_over(client, settings, submission(2))
    settle(client, settings)
    assert hand_over(client, settings, submission(1)) == ["done"]
    # One that was handed over while it was known to nobody, and is done by now.
    late = arrivals.Arrival(submission(1).entry.to_json(), None, str(uuid.uuid4()), 1)
    client.set(keys.arrived(TENANT, late.name), b"/ip")
    client.rpush(keys.arrivals(TENANT), late.to_json())
    admit(client, settings)
    assert [one.entry for one in batch(client)] == [submission(2).entry]
    assert not [key for key in all_keys(client) if key.startswith("confkeep:arriv")]
    assert totals.read_totals(client).enqueued == 2


def test_a_dead_letter_that_comes_again_starts_anew(
    client: redis.Redis, settings: Settings
) -> None:
    hand_over(client, settings, submission(1))
    admit(client, settings)
    settle(client, settings, dead=True)
    client.set(keys.staged(TENANT, submission(1).entry.backup_id), b"damaged")
    assert hand_over(client, settings, submission(1)) == ["accepted"]
    admit(client, settings)
    assert len(batch(client)) == 1
    assert client.get(keys.staged(TENANT, submission(1).entry.backup_id)) == b"/ip"
    assert not client.hlen(keys.DEAD)


@pytest.mark.parametrize("admitted", [False, True])
def test_another_backup_under_a_known_id_is_a_conflict(
    client: redis.Redis, settings: Settings, admitted: bool
) -> None:
    hand_over(client, settings, submission(1))
    if admitted:
        admit(client, settings)
    before = {key: client.dump(key) for key in all_keys(client)}
    assert hand_over(client, settings, submission(1, b"/other")) == ["conflict"]
    if admitted:
        assert hand_over(client, settings, submission(1, tenant=OTHER)) == ["conflict"]
    assert {key: client.dump(key) for key in all_keys(client)} == before
    assert hand_over(client, settings, submission(2), submission(2, b"/x")) == [
        "accepted",
        "conflict",
    ]


@pytest.mark.parametrize("where", ["redis", "volume"])
def test_an_id_used_for_two_at_once_loses_neither(
    client: redis.Redis,
    settings: Settings,
    where: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each call returned before anything was known of the other."""
    volume = staging.VolumeStaging(settings.staging_path)
    given = []
    for data in (b"/first", b"/second", b"/second"):
        one = submission(1, data)
        if where == "volume":
            entry = dataclasses.replace(one.entry, staging="volume")
            volume.stage(TENANT, entry, Contents(data, None))
            one = Submission(TENANT, entry, None)
        given.append(one)
    at_the_same_moment(client, settings, *given)
    given.append(submission(2))
    hand_over(client, settings, given[-1])
    assert admit(client, settings) == 4

    entries = [waiting.entry for waiting in batch(client)]
    assert [entries[0], entries[2]] == [given[0].entry, given[3].entry]
    assert entries[1].backup_id not in {one.entry.backup_id for one in given}
    assert dataclasses.replace(entries[1], backup_id=given[1].entry.backup_id) == given[1].entry
    for entry, data in zip(entries, (b"/first", b"/second", b"/ip"), strict=True):
        store = staging.of_entry(entry, settings, client)
        [found] = store.read(TENANT, [entry])
        assert staging.checked(entry, found).export == data
    [line] = [record for record in caplog.records if getattr(record, "action", "")]
    assert line.__dict__["action"] == "arrival.renamed"
    assert line.__dict__["backup_id"] == entries[1].backup_id
    assert line.__dict__["device_name"] == entries[1].device_name
    assert not [key for key in all_keys(client) if key.startswith("confkeep:arriv")]


def test_the_limits_count_what_was_handed_over(client: redis.Redis, settings: Settings) -> None:
    few = settings.model_copy(update={"inbox_max_backups": 3, "total_max_backups": 5})
    acceptance.accept(client, few, [submission(1)])
    assert hand_over(client, few, submission(2)) == ["accepted"]
    before = {key: client.dump(key) for key in all_keys(client)}
    given = [submission(n) for n in (3, 4, 5)]
    answers = handover.hand_over(client, few, [*given, *(submission(9, tenant=OTHER),) * 1])
    assert [answer.outcome for answer in answers] == [
        "accepted",
        "tenant full",
        "behind",
        "accepted",
    ]
    assert (answers[1].entries, answers[1].bytes) == (3, 9)
    assert set(before) < all_keys(client)
    more = [submission(n, tenant=str(uuid.UUID(int=n))) for n in (20, 21)]
    assert hand_over(client, few, *more) == ["accepted", "all full"]
    small = settings.model_copy(update={"inbox_max_bytes": 5})
    assert hand_over(client, small, submission(30)) == ["tenant full"]
    new = submission(31, b"/longer than that", tenant=str(uuid.UUID(int=31)))
    assert hand_over(client, small, new) == ["accepted"], "a large one alone has room"
    total = settings.model_copy(update={"total_max_bytes": 5})
    assert hand_over(client, total, submission(32)) == ["all full"]


def test_a_burst_asks_for_one_wake_up_and_none_where_somebody_is_on_the_way(
    client: redis.Redis, settings: Settings
) -> None:
    def asks(*numbers: int) -> list[bool]:
        answers = handover.hand_over(client, settings, [submission(n) for n in numbers])
        return [answer.wake_ms is not None for answer in answers]

    assert asks(1, 2, 3) == [True, False, False]
    assert asks(4) == [False], "that one's wake-up finds it"
    admit(client, settings)
    assert asks(5) == [True]
    admit(client, settings, by_turn=True)
    assert asks(6) == [False], "the turn looks again at its end"
    admit(client, settings)
    client.delete(keys.wake(TENANT))
    backoff.failed(Inbox(client, settings, TENANT), StoreUnavailable("no space"))
    assert asks(7) == [False], "it must not hasten the next try"


def test_only_a_turn_sets_the_flag(client: redis.Redis, settings: Settings) -> None:
    hand_over(client, settings, submission(1))
    admit(client, settings)
    assert not client.exists(keys.wake(TENANT))
    admit(client, settings, by_turn=True)
    assert not client.exists(keys.wake(TENANT)), "nothing came"


def test_what_is_accepted_directly_stays_behind_what_was_handed_over(
    client: redis.Redis, settings: Settings
) -> None:
    small = settings.model_copy(update={"inbox_max_backups": 4})
    hand_over(client, settings, submission(1), submission(2))
    hand_over(client, settings, submission(3, tenant=OTHER))
    given = [submission(4), submission(5, tenant=OTHER), submission(6), submission(7)]
    answers = acceptance.accept(client, small, given)
    assert [answer.outcome for answer in answers] == ["accepted"] * 3 + ["tenant full"]
    assert [answer.wake_ms is None for answer in answers] == [False, False, True, True]
    assert [one.entry for one in batch(client)] == [submission(n).entry for n in (1, 2, 4, 6)]
    assert len(Inbox(client, settings, OTHER).peek(9)) == 2
    assert not client.exists(keys.ARRIVING)
    # A mark that nothing stands behind holds nobody up.
    client.hset(keys.ARRIVING, TENANT, 5)
    assert acceptance.accept(client, settings, [submission(8)])[0].outcome == "accepted"


def test_a_call_ends_also_while_others_hand_over_without_end(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> int:
        return 0

    hand_over(client, settings, submission(1))
    monkeypatch.setattr(arrivals, "admit", never)
    with pytest.raises(BrokerUnavailable, match="faster"):
        acceptance.accept(client, settings, [submission(2)])


def test_two_that_admit_at_once_admit_each_once(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over(client, settings, *(submission(n) for n in range(5)))
    run = arrivals._run
    calls = []

    def late(*args: Any, **options: Any) -> list[str]:
        calls.append(args)
        if len(calls) == 1:
            # Another process, between our look and our step.
            assert admit(client, settings) == 5
            hand_over(client, settings, submission(9))
        return run(*args, **options)

    monkeypatch.setattr(arrivals, "_run", late)
    admit(client, settings)
    numbers = [*range(5), 9]
    assert [one.entry for one in batch(client)] == [submission(n).entry for n in numbers]


@pytest.mark.parametrize(
    "text",
    [
        b"{nonsense",
        b"\xff\xfe",
        b"[]",
        b"{}",
        json.dumps({"entry": "{", "signature": None, "name": OTHER, "at_ms": 1}).encode(),
        json.dumps({"entry": None, "signature": None, "name": OTHER, "at_ms": 1}).encode(),
        json.dumps({"entry": "{}", "signature": None, "name": "../x", "at_ms": 1}).encode(),
        json.dumps({"entry": "{}", "signature": None, "name": OTHER, "at_ms": 2**60}).encode(),
        json.dumps({"entry": "\udcff", "signature": None, "name": OTHER, "at_ms": 1}).encode(),
        json.dumps({"entry": "{}", "signature": 5, "name": OTHER, "at_ms": 1}).encode(),
    ],
)
def test_what_is_no_backup_is_left_to_a_person_and_holds_nothing_up(
    client: redis.Redis, settings: Settings, text: bytes
) -> None:
    hand_over(client, settings, submission(1))
    client.rpush(keys.arrivals(TENANT), text)
    hand_over(client, settings, submission(2))
    turn = drain.drain_inbox(Inbox(client, settings, TENANT))
    assert (turn.committed, turn.dead, turn.left) == (2, 1, 0)
    [letter] = dead_letters.list_dead_letters(client)
    assert letter.backup_id.startswith("unreadable-")
    assert letter.entry.encode() in (text, text.decode("utf-8", "replace").encode())
    assert not client.exists(keys.ARRIVING, keys.LOAD, keys.WAITING)
    assert_all_readable(settings.git_store_path)


def test_what_no_key_signed_touches_no_backup_of_ours(
    client: redis.Redis, settings: Settings
) -> None:
    ours, stranger = with_key(settings, NEW), with_key(settings, OLD)
    at_the_same_moment(client, ours, submission(1))
    at_the_same_moment(client, stranger, submission(1, b"/planted"), submission(2, b"/planted"))
    hand_over(client, settings, submission(3))
    assert admit(client, ours) == 4
    found = Inbox(client, ours, TENANT).read_batch()
    assert [one.entry for one in found.entries] == [submission(1).entry]
    assert [one.error.__class__.__name__ for one in found.unreadable] == ["NotSigned"] * 3
    assert client.get(keys.staged(TENANT, submission(1).entry.backup_id)) == b"/ip"
    # Of an id that nobody else uses the bytes are kept, for a person to vouch for.
    assert client.get(keys.staged(TENANT, submission(2).entry.backup_id)) == b"/planted"
    record: Any = client.get(keys.result(submission(1).entry.backup_id))
    assert json.loads(record)["accepted"] == submission(1).entry.digest(TENANT)
    assert not [key for key in all_keys(client) if key.startswith("confkeep:arriv")]
    assert totals.read_totals(client).enqueued == 1


def test_an_id_used_for_two_is_signed_anew(client: redis.Redis, settings: Settings) -> None:
    signed = with_key(settings, NEW)
    at_the_same_moment(client, signed, submission(1), submission(1, b"/second"))
    admit(client, signed)
    found = Inbox(client, signed, TENANT).read_batch()
    assert (len(found.entries), found.unreadable) == (2, [])


def test_a_turn_commits_what_was_handed_over_and_sees_what_comes_meanwhile(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over(client, settings, submission(1), submission(2))
    clear = wakeups.clear

    def late(*args: Any) -> None:
        [answer] = handover.hand_over(client, settings, [submission(3)])
        assert answer.wake_ms is None, "the producer relies on the turn"
        clear(*args)

    monkeypatch.setattr(wakeups, "clear", late)
    turn = drain.drain_inbox(Inbox(client, settings, TENANT))
    assert (turn.committed, turn.left) == (2, 1)
    monkeypatch.undo()
    turn = drain.drain_inbox(Inbox(client, settings, TENANT))
    assert (turn.committed, turn.left) == (1, 0)
    ids = {keys.result(submission(n).entry.backup_id) for n in (1, 2, 3)}
    assert all_keys(client) == {*ids, keys.TOTALS, keys.RECENT, keys.EVENTS}
    assert_all_readable(settings.git_store_path)


def test_age_and_latency_begin_with_the_hand_over(client: redis.Redis, settings: Settings) -> None:
    now_ms = inboxes.server_time_ms(client)
    for number, ago_s in ((1, 500), (2, -900)):
        name = str(uuid.uuid4())
        at_ms = now_ms - ago_s * 1000
        arrival = arrivals.Arrival(submission(number).entry.to_json(), None, name, at_ms)
        client.rpush(keys.arrivals(TENANT), arrival.to_json())
        client.hincrby(keys.ARRIVING, TENANT, 3)
        client.set(keys.arrived(TENANT, name), b"/ip")
    [box] = inboxes.list_inboxes(client)
    assert (box.entries, 500 <= box.oldest_age_s < 530) == (2, True)
    assert inboxes.count_inboxes(client) == 1
    assert inboxes.read_load(client).tenant_bytes == {TENANT: 6}
    admit(client, settings)
    [box] = inboxes.list_inboxes(client)
    assert (box.entries, 500 <= box.oldest_age_s < 530) == (2, True)
    assert inboxes.count_inboxes(client) == 1
    first, second = batch(client)
    assert first.age_s(now_ms) == 500
    assert second.age_s(inboxes.server_time_ms(client)) < 30, "not before it was there"
    marks = {one.entry.backup_id: totals.Mark(("committed",), None) for one in (first, second)}
    Inbox(client, settings, TENANT).settle([first], marks=marks)
    assert totals.read_totals(client).latency.sum_s >= 500
    [box] = inboxes.list_inboxes(client)
    assert box.oldest_age_s < 30, "that of the one that is left"


def test_the_sweep_wakes_arrivals_and_forgets_marks_without_any(
    client: redis.Redis, settings: Settings, sent: list[str]
) -> None:
    client.set(keys.TIDY, "not now", ex=60)
    hand_over(client, settings, submission(1))
    junk = str(uuid.UUID(int=5))
    client.hset(keys.ARRIVING, mapping={junk: 5, "x": 5, b"\xff": 1})
    assert arrivals.marked(client) == {TENANT, junk}
    assert sweeper_of(client, settings).sweep() == 1
    assert sent == [TENANT]
    assert arrivals.marked(client) == {TENANT}
    assert sweeper_of(client, settings).sweep() == 0, "its wake-up is under way"
    assert admit(client, settings) == 1


def test_counters_that_a_producer_spoiled_hold_nothing_up(
    client: redis.Redis, settings: Settings
) -> None:
    hand_over(client, settings, *(submission(n) for n in range(3)))
    client.hset(keys.ARRIVING, mapping={"bytes": -(2**63), "entries": 2**63 - 1, TENANT: 2**62})
    assert admit(client, settings, most=1) == 3
    assert not client.exists(keys.ARRIVING)
    assert inboxes.read_load(client) == inboxes.Load(3, 9, {TENANT: 9})


def test_a_counter_at_its_end_loses_no_arrival(client: redis.Redis, settings: Settings) -> None:
    hand_over(client, settings, submission(1), submission(2))
    client.hset(keys.LOAD, mapping={"entries": 2**63 - 1, "bytes": 2**63 - 1, TENANT: 2**63 - 1})
    turn = drain.drain_inbox(Inbox(client, settings, TENANT))
    assert (turn.committed, turn.left) == (2, 0)
    assert_all_readable(settings.git_store_path)


def test_an_erasure_waits_for_what_was_handed_over(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (forget, hold):
        monkeypatch.setattr(module, "get_client", lambda _settings=None: client)
    monkeypatch.setattr(wakeups, "send", lambda *_arguments: None)
    hand_over(client, settings, submission(1))
    with pytest.raises(BackupsWaiting, match=DEVICE):
        forget.forget_device(settings, TENANT, DEVICE)
    with pytest.raises(BackupsWaiting, match=TENANT):
        forget.forget_tenant(settings, TENANT)


def test_tidying_keeps_the_files_of_what_was_handed_over(
    client: redis.Redis, settings: Settings
) -> None:
    volume = staging.VolumeStaging(settings.staging_path)
    entries = [dataclasses.replace(submission(n).entry, staging="volume") for n in (1, 2)]
    for entry in entries:
        volume.stage(TENANT, entry, Contents(b"/ip", None))
    hand_over(client, settings, Submission(TENANT, entries[0], None))
    deleted = list(tidy._tidy_volume(client, settings, -60))
    assert sum(deleted) == 1
    assert volume.read(TENANT, entries) == [Contents(b"/ip", None), None]


def test_a_client_tries_once_whether_it_may_accept_by_itself(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch, sent: list[str]
) -> None:
    tried = []

    def refused(*_: object) -> list[Accepted]:
        tried.append(1)
        raise NotPermitted("Redis does not allow this to its user")

    monkeypatch.setattr(acceptance, "accept", refused)
    monkeypatch.setattr(enqueue, "get_settings", lambda: settings)
    monkeypatch.setattr(enqueue, "get_client", lambda _settings: client)
    for number in range(3):
        enqueue.enqueue_backup(TENANT, DEVICE, f"/ip {number}", None, "m")
    assert (len(tried), sent, client.llen(keys.arrivals(TENANT))) == (1, [TENANT], 3)
    payload = BackupPayload.checked(
        tenant_id=TENANT, device_id=DEVICE, export_text="/ip", message="m"
    )
    monkeypatch.setattr(enqueue, "_hand_over", set())
    with pytest.raises(NotPermitted):
        enqueue.submit([payload], reply_to=str(uuid.uuid4()))


def test_a_repeated_call_that_is_refused_takes_no_file_from_what_was_handed_over(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch, sent: list[str]
) -> None:
    volume = settings.model_copy(update={"staging": "volume", "inbox_max_backups": 1})
    monkeypatch.setattr(enqueue, "get_settings", lambda: volume)
    monkeypatch.setattr(enqueue, "get_client", lambda _settings: client)
    monkeypatch.setattr(enqueue, "_hand_over", {client})
    one: Any = {"tenant_id": TENANT, "device_id": DEVICE, "export_text": "/ip", "message": "m"}
    one["backup_id"] = str(uuid.uuid4())
    enqueue.enqueue_backups([one])
    # Its producer got no answer and asks again, while there is no room.
    with pytest.raises(InboxFull):
        enqueue.enqueue_backups([one])
    monkeypatch.setattr(enqueue, "_hand_over", set())
    with pytest.raises(BackupIdConflict):
        enqueue.enqueue_backups([one | {"device_id": OTHER}])
    turn = drain.drain_inbox(Inbox(client, volume, TENANT))
    assert (turn.committed, turn.dead) == (1, 0)
    enqueue.enqueue_backups([one])
    assert not [path for path in settings.staging_path.rglob("*-*") if path.is_file()]
    assert_all_readable(settings.git_store_path)


def test_an_arrival_comes_back_as_it_was_written() -> None:
    text = submission(1).entry.to_json()
    for signature in (None, "0" * 64):
        arrival = arrivals.Arrival(text, signature, str(uuid.uuid4()), 1_700_000_000_000)
        assert arrivals.Arrival.from_json(arrival.to_json().encode()) == arrival
        assert Entry.from_json(arrival.entry) == submission(1).entry


@pytest.mark.parametrize("refused", ["setnx", "hsetnx", "rpush", "hincrby", "exists"])
def test_a_hand_over_of_which_a_part_is_refused_leaves_nothing(
    real_server: EmbeddedServer, settings: Settings, refused: str
) -> None:
    """Half of it would wait where no worker looks, or keep its place in the limits for ever."""
    name = f"without-{refused}"
    with redis.Redis(unix_socket_path=str(real_server.socket)) as client:
        client.flushall()
        client.execute_command(
            "ACL", "SETUSER", name, "on", "nopass", "~*", "&*", "+@all", f"-{refused}"
        )
        try:
            with (
                redis.Redis(unix_socket_path=str(real_server.socket), username=name) as producer,
                pytest.raises(NotPermitted),
            ):
                handover.hand_over(producer, settings, [submission(1), submission(2)])
            assert client.keys() == []
        finally:
            client.execute_command("ACL", "DELUSER", name)


def test_a_turn_that_fails_before_it_admits_lets_the_arrivals_wait(
    client: redis.Redis, settings: Settings
) -> None:
    hand_over(client, settings, submission(1))
    assert backoff.failed(Inbox(client, settings, TENANT), StoreUnavailable("no space")).tries == 1
    wait = backoff.get(client, TENANT)
    assert wait is not None
    assert not wait.is_over(inboxes.server_time_ms(client))


def test_what_another_process_admitted_just_now_is_not_admitted_again(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over(client, settings, submission(1))
    client.rpush(keys.arrivals(TENANT), b"{nonsense", b"{other nonsense")
    read = arrivals._texts
    late = [lambda: admit(client, settings)]

    def overtaken(*arguments: Any) -> list[bytes]:
        found = read(*arguments)
        if late:
            late.pop()()
        return found

    monkeypatch.setattr(arrivals, "_texts", overtaken)
    assert admit(client, settings) == 0
    assert client.xlen(keys.inbox(TENANT)) == 3
    turn = drain.drain_inbox(Inbox(client, settings, TENANT))
    assert (turn.committed, turn.dead, turn.left) == (1, 2, 0)
    assert len(dead_letters.list_dead_letters(client)) == 2
