"""A portal follows events with Redis alone: what the stream lacks, the workers tell from git."""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import threading
import time
import uuid
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from click.testing import CliRunner

import confkeep
from confkeep.broker import keys
from confkeep.broker.connections import get_client
from confkeep.event_reader import cursor_from
from confkeep.queue import event_stream, events
from confkeep.queue.events import Event
from confkeep.settings import get_settings
from tests.integration.conftest import become_producer, forget_environment, with_variables
from tests.servers import Deployment, deployment, wait_for
from worker.cli import cli

EXPORT = "/system identity\nset name=core1\n/ip address\nadd address=10.0.0.{}/24\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployment(tmp_path_factory.mktemp("events"), CONFKEEP_SHARDS="3") as running:
        running.start_worker(pool="threads", concurrency=2)
        yield running


@pytest.fixture
def tenant(running: Deployment, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    become_producer(running, monkeypatch)
    yield str(uuid.uuid4())
    # Celery's results tell their server when they are collected, which must not be after its end.
    gc.collect()
    forget_environment()


def hand_over(tenant: str, number: int) -> confkeep.BackupResult:
    device = uuid.uuid5(uuid.UUID(tenant), "device")
    return confkeep.enqueue_backup(tenant, device, EXPORT.format(number), None, f"{number}")


def enqueue(tenant: str, number: int) -> confkeep.Receipt:
    return hand_over(tenant, number).receipt(timeout=30)


def test_every_commit_is_told_with_its_receipt(tenant: str) -> None:
    receipts = [enqueue(tenant, number) for number in range(3)]
    told = list(confkeep.events(tenants=[tenant], follow=False))
    assert [confkeep.Receipt.of(event.data) for event in told] == receipts
    again = confkeep.events(told[0].cursor, tenants=[uuid.UUID(tenant)], follow=False)
    assert [event.id for event in again] == [event.id for event in told[1:]]


def test_what_the_stream_lost_is_asked_of_the_workers(running: Deployment, tenant: str) -> None:
    first = enqueue(tenant, 1)
    [told] = confkeep.events(tenants=[tenant], follow=False)
    others = [enqueue(tenant, number) for number in (2, 3)]
    with running.client() as client:
        client.delete(keys.EVENTS)
    more = list(confkeep.events(told.cursor, tenants=[tenant], follow=False))
    assert [event.type for event in more].count(events.SKIPPED) == 1
    commits = [event for event in more if event.type == events.COMMITTED]
    assert [event.data["sha"] for event in commits] == [each.sha for each in others]
    # Without a tenant, the workers are asked which ones there are.
    every = confkeep.events(types=[events.COMMITTED], follow=False)
    shas = [event.data["sha"] for event in every if event.tenant_id == tenant]
    assert shas == [first.sha, *(each.sha for each in others)]


def test_asyncio_follows_too(tenant: str) -> None:
    # In threads of their own, Celery's connections for results would stay open until they are collected.
    start = cursor_from(get_client(), None)

    async def follow() -> list[Event]:
        found = []
        result = hand_over(tenant, 0)
        async for event in confkeep.events(start, tenants=[tenant]):
            assert event.data["sha"] == (await result).sha
            found.append(event)
            if len(found) == 3:
                break
            result = hand_over(tenant, len(found))
        return found

    found = asyncio.run(asyncio.wait_for(follow(), 60))
    assert [event.type for event in found] == [events.COMMITTED] * 3
    assert len({event.id for event in found}) == 3


def test_an_event_comes_within_a_second_of_its_receipt(tenant: str) -> None:
    start = cursor_from(get_client(), None)
    came: dict[str, float] = {}

    def follow() -> None:
        for event in confkeep.events(start, tenants=[tenant]):
            came[event.data["sha"]] = time.monotonic()
            if len(came) == 10:
                return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    published = {enqueue(tenant, number).sha: time.monotonic() for number in range(1, 11)}
    thread.join(30)
    assert came.keys() == published.keys()
    assert statistics.median(came[sha] - published[sha] for sha in came) < 1


@with_variables(
    {
        "CONFKEEP_STALE_HOURS": "0.00001",
        "CONFKEEP_SHARDS": "2",
        "CONFKEEP_SWEEP_INTERVAL_S": "0.2",
    }
)
def test_a_worker_tells_of_stale_devices_when_the_sweep_asks(deployed: Deployment) -> None:
    deployed.start_worker(pool="threads", concurrency=2)
    tenant = str(uuid.uuid4())
    enqueue(tenant, 1)
    with deployed.client() as client:
        wait_for(lambda: client.exists(keys.TIDY), "the tidying")
        time.sleep(0.1)

        def told() -> list[Event]:
            # The next hour.
            client.delete(keys.TIDY)
            return list(confkeep.events(types=[events.STALE], follow=False))

        wait_for(told, "the event")
    [event] = told()
    gc.collect()
    assert (event.tenant_id, event.data["device_name"]) == (tenant, "core1")


def test_the_command_prints_and_goes_on(tenant: str) -> None:
    for number in range(2):
        enqueue(tenant, number)
    done = CliRunner().invoke(cli, ["events", "--since", "all", "--tenant", tenant, "--json"])
    assert done.exit_code == 0, done.output
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["type"] for one in told] == [events.COMMITTED] * 2
    assert told[0]["device_name"] == "core1"
    rest = CliRunner().invoke(cli, ["events", "--since", told[0]["cursor"], "--tenant", tenant])
    [line] = rest.stdout.splitlines()
    assert "backup.committed" in line
    assert "core1 (" in line
    assert len(line) <= 80
    wrong = CliRunner().invoke(cli, ["events", "--type", "backup.comitted"])
    assert wrong.exit_code == 2
    assert "backup.committed" in wrong.output
    wrong = CliRunner().invoke(cli, ["events", "--since", "yesterdayish"])
    assert wrong.exit_code == 2


@pytest.mark.parametrize("by", ["a program", "the command"])
def test_who_does_not_follow_ends_with_what_was_there_at_the_first_look(
    running: Deployment, tenant: str, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    enqueue(tenant, 1)
    looks, real = count(1), event_stream.read

    def read(*arguments: Any) -> event_stream.Part:
        # On a busy deployment something happens between any two looks.
        number = next(looks)
        assert number < 1_000, "it goes on for ever"
        with running.client() as client:
            events.emit(
                client,
                get_settings(),
                events.new(
                    events.STALLED, tenant, about=(tenant, str(number)), data={"reason": "x"}
                ),
            )
        return real(*arguments)

    monkeypatch.setattr(event_stream, "read", read)
    if by == "a program":
        told = [event.type for event in confkeep.events(tenants=[tenant], follow=False)]
    else:
        done = CliRunner().invoke(cli, ["events", "--since", "all", "--tenant", tenant, "--json"])
        assert done.exit_code == 0, done.output
        told = [json.loads(line)["type"] for line in done.stdout.splitlines()]
    assert told[0] == events.COMMITTED
