"""Each hook gets all that it wants, in order, whatever receivers, Redis and people do."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import redis

from confkeep.broker import keys
from confkeep.errors import BrokerUnavailable
from confkeep.settings import Settings
from tests.receiving import Receiver, answer, babble
from tests.servers import wait_for
from tests.unit.hooks.conftest import OTHER, TENANT, Events
from worker.hooks import progress as waits
from worker.hooks import sender as module
from worker.hooks.hook import Hook, new_secret
from worker.hooks.hook_store import HookStore, Kept
from worker.hooks.senders import Senders


def hook(receiver: Receiver, name: str = "portal", **values: Any) -> Hook:
    values = {"start": "0", **values}
    return Hook.checked(name=name, url=receiver.url, secret=new_secret(), **values)


@dataclass
class Hooks:
    """What a process that sends has, and the events that it tells."""

    client: redis.Redis
    settings: Settings
    store: HookStore
    events: Events


@pytest.fixture
def hooks(client: redis.Redis, settings: Settings, events: Events) -> Hooks:
    return Hooks(client, settings, HookStore(client, settings), events)


@contextmanager
def one_of_two(hooks: Hooks) -> Iterator[None]:
    """A process that sends, or waits for the lease."""
    stop = threading.Event()
    senders = Senders(hooks.client, hooks.settings)
    thread = threading.Thread(target=senders.run, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()


@contextmanager
def sending(hooks: Hooks) -> Iterator[None]:
    """The one process that sends."""
    with one_of_two(hooks):
        yield
    assert not hooks.client.exists(keys.HOOKS_LEASE)


def first_times(receiver: Receiver) -> list[str]:
    return list(dict.fromkeys(receiver.ids))


def test_all_since_the_hook_was_added_comes_once_and_in_order(
    hooks: Hooks, receiver: Receiver
) -> None:
    hooks.events.happen(1, 2)
    hooks.store.add(hook(receiver, start=str(len(hooks.events.all))))
    expected = hooks.events.happen(*range(3, 260))
    with sending(hooks):
        wait_for(lambda: len(receiver.ids) == len(expected), "all deliveries")
        expected += hooks.events.happen(900)
        wait_for(lambda: len(receiver.ids) == len(expected), "what came later")
    assert receiver.ids == expected
    progress = hooks.store.progress("portal")
    assert progress is not None
    assert (progress.delivered, progress.tries) == (len(expected), 0)
    log = hooks.store.log("portal", 3)
    assert [one.event_id for one in log] == expected[:-4:-1]


def test_a_failing_receiver_gets_all_in_order_with_the_same_ids(
    hooks: Hooks, receiver: Receiver
) -> None:
    hooks.store.add(hook(receiver))
    expected = hooks.events.happen(*range(20))
    receiver.answers += [
        lambda handler: answer(handler, 500),
        lambda handler: answer(handler, 204),
        *[lambda handler: answer(handler, 503)] * 5,
        babble,
    ]
    with sending(hooks):
        wait_for(lambda: len(first_times(receiver)) == 20, "all deliveries")
        wait_for(
            lambda: (p := hooks.store.progress("portal")) and p.delivered == 20, "the last note"
        )
    assert first_times(receiver) == expected
    assert len(receiver.ids) == 27
    bodies: dict[str, bytes] = {}
    for request in receiver.requests:
        assert bodies.setdefault(request.id, request.body) == request.body
    failed = [one for one in hooks.store.log("portal", 100) if one.problem]
    assert [one.number for one in reversed(failed)] == [1, 1, 2, 3, 4, 5, 6]


def test_a_dead_receiver_delays_nobody_else(
    hooks: Hooks, receiver: Receiver, other: Receiver
) -> None:
    receiver.always = receiver.hang
    hooks.store.add(hook(receiver, "hangs"))
    hooks.store.add(hook(other, "works"))
    expected = hooks.events.happen(*range(30))
    with sending(hooks):
        wait_for(lambda: len(other.ids) == 30, "the deliveries of the other hook", 5)
        wait_for(lambda: receiver.ids, "the request that hangs")
        receiver.ended.set()
    assert other.ids == expected
    assert len(receiver.ids) == 1


def test_a_hook_hears_only_what_it_wants(hooks: Hooks, receiver: Receiver) -> None:
    hooks.store.add(hook(receiver, tenants=[TENANT], changed_only=True))
    hooks.events.happen(1, tenant=OTHER)
    hooks.events.happen(2, export_changed=False)
    [wanted] = hooks.events.happen(3)
    with sending(hooks):
        wait_for(lambda: receiver.ids, "the delivery")
    assert receiver.ids == [wanted]


def test_what_was_sent_and_not_noted_is_sent_again_with_its_id(
    hooks: Hooks, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the process is killed between the two: its successor knows only what Redis knows."""
    hooks.store.add(hook(receiver))
    expected = hooks.events.happen(1, 2, 3)

    class Killed(BaseException):
        pass

    real = HookStore.note
    lives = [2]

    def note(self: HookStore, *arguments: Any) -> None:
        lives[0] -= 1
        if lives[0] == 0:
            raise Killed
        real(self, *arguments)

    monkeypatch.setattr(HookStore, "note", note)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    with sending(hooks):
        wait_for(lambda: len(receiver.ids) == 4, "the repetition")
    assert receiver.ids == [expected[0], expected[1], expected[1], expected[2]]


def test_while_redis_is_away_nothing_is_lost(
    hooks: Hooks, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks.store.add(hook(receiver))
    expected = hooks.events.happen(*range(10))
    away = [True] * 6
    real = HookStore.progress

    def progress(self: HookStore, name: str) -> Any:
        if away and len(receiver.ids) > 3:
            away.pop()
            raise BrokerUnavailable("away")
        return real(self, name)

    monkeypatch.setattr(HookStore, "progress", progress)
    with sending(hooks):
        wait_for(lambda: len(first_times(receiver)) == 10, "all deliveries")
    assert first_times(receiver) == expected


def test_410_ends_a_hook_and_that_is_told(hooks: Hooks, receiver: Receiver) -> None:
    hooks.store.add(hook(receiver))
    expected = hooks.events.happen(1, 2, 3)
    receiver.answers += [
        lambda handler: answer(handler, 204),
        lambda handler: answer(handler, 410),
    ]
    with sending(hooks):
        wait_for(lambda: (p := hooks.store.progress("portal")) and p.off, "the end")
        assert receiver.ids == expected[:2]
        [told] = hooks.events.emitted
        assert (told.type, told.data["hook"]) == ("hook.disabled", "portal")
        hooks.store.resume("portal")
        wait_for(lambda: len(receiver.ids) == 4, "what it had missed")
    assert receiver.ids == [expected[0], expected[1], expected[1], expected[2]]


def test_after_three_days_of_failures_a_hook_is_off(
    hooks: Hooks, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waits, "GIVE_UP_S", 0.1)
    receiver.always = lambda handler: answer(handler, 500)
    hooks.store.add(hook(receiver))
    hooks.events.happen(1, 2)
    with sending(hooks):
        wait_for(lambda: (p := hooks.store.progress("portal")) and p.off, "the end")
        tries = len(receiver.ids)
        assert tries > 1
        monkeypatch.setattr(module, "_IDLE_S", 0.001)
    assert len(set(receiver.ids)) == 1
    assert len(receiver.ids) == tries
    assert [event.type for event in hooks.events.emitted] == ["hook.disabled"]


def test_of_two_processes_one_sends_until_it_ends(hooks: Hooks, receiver: Receiver) -> None:
    hooks.store.add(hook(receiver))
    expected = hooks.events.happen(*range(50))
    with ExitStack() as stack:
        first = stack.enter_context(ExitStack())
        first.enter_context(one_of_two(hooks))
        wait_for(lambda: receiver.ids, "the first to send")
        stack.enter_context(one_of_two(hooks))
        wait_for(lambda: len(receiver.ids) == 50, "all deliveries")
        first.close()
        expected += hooks.events.happen(99)
        wait_for(lambda: len(receiver.ids) == 51, "the second to go on")
    assert receiver.ids == expected


def test_who_lost_the_lease_sends_no_more(hooks: Hooks, receiver: Receiver) -> None:
    hooks.store.add(hook(receiver))
    expected = hooks.events.happen(1)
    senders, stop = Senders(hooks.client, hooks.settings), threading.Event()
    thread = threading.Thread(target=senders.run, args=(stop,), daemon=True)
    thread.start()
    try:
        wait_for(lambda: receiver.ids == expected, "the first delivery")
        hooks.client.set(keys.HOOKS_LEASE, "of another process", px=60_000)
        wait_for(lambda: senders._lease is None, "it to notice, and to end its senders")
        expected += hooks.events.happen(2)
        assert len(receiver.ids) == 1
        hooks.client.delete(keys.HOOKS_LEASE)
        wait_for(lambda: len(receiver.ids) == 2, "the second delivery")
    finally:
        stop.set()
        thread.join(10)
    assert receiver.ids == expected


def test_a_failure_counts_for_nothing_once_a_person_has_switched_the_hook_on_again(
    hooks: Hooks, receiver: Receiver
) -> None:
    hooks.store.add(hook(receiver))
    [expected] = hooks.events.happen(1)

    def late(handler: BaseHTTPRequestHandler) -> None:
        hooks.store.resume("portal")
        answer(handler, 410)

    receiver.answers.append(late)
    with sending(hooks):
        wait_for(lambda: receiver.ids == [expected] * 2, "the next try")
        wait_for(lambda: (p := hooks.store.progress("portal")) and p.delivered, "its note")
    assert hooks.events.emitted == []


def test_hooks_that_are_changed_or_removed_are_followed(
    hooks: Hooks,
    receiver: Receiver,
    other: Receiver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "hooks.toml"
    secret = new_secret().get_secret_value()
    looks: list[int] = []
    real = HookStore.hooks

    def counted(self: HookStore) -> list[Kept]:
        looks.append(1)
        return real(self)

    monkeypatch.setattr(HookStore, "hooks", counted)

    def write(url: str) -> None:
        path.write_text(f'[[hook]]\nname = "portal"\nurl = "{url}"\nsecret = "{secret}"\n')

    write(receiver.url)
    hooks = replace(hooks, settings=hooks.settings.model_copy(update={"hooks_file": path}))
    hooks.events.happen(1)
    with sending(hooks):
        wait_for(lambda: hooks.client.hexists(keys.HOOK_STATES, "portal"), "the hook of the file")
        [second] = hooks.events.happen(2)
        wait_for(lambda: receiver.ids == [second], "what came since it is there")
        path.write_text("[[hook]]\nname = ")
        seen = len(looks)
        wait_for(lambda: len(looks) > seen + 2, "looks at what is half written")
        [third] = hooks.events.happen(3)
        wait_for(lambda: receiver.ids == [second, third], "those that run to go on")
        write(other.url)
        numbers = itertools.count(4)

        def comes_there() -> bool:
            hooks.events.happen(next(numbers))
            return bool(other.ids)

        wait_for(comes_there, "the new address")
        expected = [event.id for event in hooks.events.all[1:]]
        wait_for(lambda: len(receiver.ids + other.ids) == len(expected), "all deliveries")
    assert receiver.ids + other.ids == expected


def test_a_hook_of_the_file_outlives_an_emptied_server(
    hooks: Hooks, receiver: Receiver, tmp_path: Path
) -> None:
    path = tmp_path / "hooks.toml"
    secret = new_secret().get_secret_value()
    path.write_text(f'[[hook]]\nname = "portal"\nurl = "{receiver.url}"\nsecret = "{secret}"\n')
    hooks = replace(hooks, settings=hooks.settings.model_copy(update={"hooks_file": path}))
    with sending(hooks):
        wait_for(lambda: hooks.client.hexists(keys.HOOK_STATES, "portal"), "the hook of the file")
        hooks.client.delete(keys.HOOK_STATES)
        [first] = hooks.events.happen(1)
        wait_for(lambda: receiver.ids == [first], "the delivery")
        wait_for(lambda: hooks.client.hexists(keys.HOOK_STATES, "portal"), "its note")


def test_a_hook_whose_place_is_lost_is_told_all_since_it_was_added(
    hooks: Hooks, receiver: Receiver
) -> None:
    hooks.events.happen(1)
    hooks.store.add(hook(receiver, start="1"))
    expected = hooks.events.happen(2, 3)
    with sending(hooks):
        wait_for(lambda: len(receiver.ids) == 2, "the deliveries")
    hooks.client.hset(keys.HOOK_STATES, "portal", "garbage")
    with sending(hooks):
        wait_for(lambda: len(receiver.ids) == 4, "the repetitions")
    assert receiver.ids == expected * 2


def test_what_confkeep_did_not_write_is_no_hook(hooks: Hooks, receiver: Receiver) -> None:
    mine = hook(receiver)
    hooks.store.add(mine)
    hooks.client.hset(keys.HOOKS, mapping={"x": "garbage", "other": mine.model_dump_json()})
    hooks.client.hset(keys.HOOK_STATES, mapping={"portal": "[" * 1_000})
    [kept] = hooks.store.hooks()
    assert (kept.hook, kept.progress) == (mine, None)
