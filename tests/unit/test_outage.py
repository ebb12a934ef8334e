"""An outage is told when it begins, once a minute, and when it is over; the way back is always short."""

from __future__ import annotations

import logging
import uuid
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery.app import trace
from kombu.exceptions import OperationalError
from kombu.transport.redis import Transport
from kombu.utils import functional

from confkeep.broker.connections import open_client
from confkeep.errors import BrokerUnavailable
from confkeep.queue import wakeups
from confkeep.settings import load_settings
from tasks import stale
from worker.app import app
from worker.process import consumer, outage, waits, worker_events
from worker.process.outage import Outage
from worker.queue.backoff import STALLED_TRIES, Backoff, Noted
from worker.store.repository.tenant_repository import create_repository


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, float]]:
    return [(record.action, record.seconds) for record in caplog.records]  # type: ignore[attr-defined]


def test_an_hours_outage_is_a_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    seen = Outage(clock=lambda: now[0])
    for _ in range(1_800):
        for who in (outage.CONSUMER, outage.SWEEP):
            seen.met(who, redis.ConnectionError("refused"))
        now[0] += 2
    assert told(caplog)[0] == ("broker.away", 0)
    assert len(caplog.records) == 60
    seen.passed(outage.SWEEP)
    assert seen.lasts, "the other one did not get through yet"
    seen.passed(outage.CONSUMER)
    seen.passed(outage.CONSUMER)
    assert told(caplog)[60:] == [("broker.back", 3600)]


def test_celery_is_quiet_while_an_outage_lasts_and_only_then(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Outage()
    monkeypatch.setattr(outage, "outage", seen)
    outage.quiet_celery()
    logger = logging.getLogger("celery.worker.consumer.consumer")
    said = ("%s (%r)", "consumer: Connection to broker lost. Trying to re-establish", OSError())
    logger.warning(*said)
    seen.met(outage.SWEEP, OSError())
    logger.warning(*said)
    logger.warning("something else")
    assert [record.name for record in caplog.records if record.name == logger.name] == 2 * [
        logger.name
    ]


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (redis.exceptions.NoPermissionError("no"), 0),
        (redis.ConnectionError("gone"), 0),
        (KeyError("ours"), 1),
    ],
)
def test_celery_shows_no_traceback_of_an_outage_that_is_not_told_yet(
    error: Exception, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    outage.quiet_celery()
    try:
        raise error
    except type(error):
        logging.getLogger("celery.worker.loops").exception("Error cleaning up after event loop")
    assert len(caplog.records) == lines


@pytest.mark.parametrize(
    ("line", "logger"),
    [
        (trace.LOG_RECEIVED, "celery.worker.strategy"),
        (trace.LOG_SUCCESS, "celery.app.trace"),
        (trace.LOG_RETRY, "celery.app.trace"),
        (trace.LOG_FAILURE, "celery.app.trace"),
    ],
)
def test_celery_tells_of_what_workers_send_themselves_only_what_failed(
    line: str, logger: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    waits.quiet_celery()
    told = defaultdict(str, id="1", exc="no tenant", runtime=0.1)
    own = [wakeups.COMMIT_TASK, wakeups.STALE_TASK]
    for name in (*own, "backups.receive"):
        told = told | {"name": name}
        logging.getLogger(logger).info(line, told)
    # Threads that other tests left may log too.
    lines = [record for record in caplog.records if record.name == logger]
    shown = [record.args["name"] for record in lines]  # type: ignore[call-overload,index]
    assert shown == [*(own if line is trace.LOG_FAILURE else []), "backups.receive"]


def test_a_task_that_meets_an_outage_leaves_a_line_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    settings = load_settings(redis_url="redis://127.0.0.1:1/0", git_store_path=tmp_path, shards=1)
    monkeypatch.setattr(stale, "get_settings", lambda: settings)
    monkeypatch.setattr(stale, "get_client", lambda: open_client(settings))
    create_repository(tmp_path / f"{uuid.uuid4()}.git")
    caplog.set_level(logging.INFO)
    stale.note_stale.apply(args=(0,))
    [line] = [record for record in caplog.records if record.name == "celery.app.trace"]
    assert "Redis did not answer" in line.getMessage()
    assert line.exc_info is None


def test_every_task_of_ours_takes_an_outage_for_one() -> None:
    app.loader.import_default_modules()
    ours = [task for name, task in app.tasks.items() if name.startswith("backups.")]
    assert len(ours) > 10
    assert [task.name for task in ours if BrokerUnavailable not in task.throws] == []


class _Connection:
    recoverable_connection_errors = (redis.ConnectionError,)


@pytest.mark.parametrize("error", [redis.ConnectionError("away"), OperationalError("away")])
def test_the_way_back_is_as_short_after_a_long_outage(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    slept: list[float] = []
    tries: list[Any] = []

    def reach(connection: Any) -> None:
        tries.append(connection)
        if len(tries) < 500:
            raise error

    monkeypatch.setattr(functional, "sleep", slept.append)
    monkeypatch.setattr(consumer, "_reach", reach)
    monkeypatch.setattr(consumer, "outage", Outage())
    waiting = object.__new__(consumer.Consumer)
    waiting.ensure_connected(_Connection())
    assert len(tries) == 500
    assert 499 <= sum(slept) <= 500 * consumer.RETRY_S


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A worker's connection to a server that is away; it fails the test to wait for that."""

    def sleep(seconds: float) -> None:
        pytest.fail(f"waits {seconds} s for the server")

    monkeypatch.setattr(functional, "sleep", sleep)
    monkeypatch.setattr(Transport, "connection_errors", Transport.connection_errors)
    consumer._take_refusals_for_outages()
    with app.connection_for_write("redis://127.0.0.1:1/0") as connection:
        yield connection


def test_a_heartbeat_waits_for_no_server(nowhere: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # It did, so that a worker hung in it when it was asked to end while its server was away.
    monkeypatch.setattr(worker_events, "KEPT_EVENTS", 3)
    dispatcher = app.events.Dispatcher(nowhere, hostname="worker@here")
    for _ in range(5):
        dispatcher.send("worker-heartbeat", retry=True)
    assert len(dispatcher._outbound_buffer) == 3, "a server that refuses them for days"


def test_an_answer_to_a_ping_waits_for_no_server(
    nowhere: Any, caplog: pytest.LogCaptureFixture
) -> None:
    # As a heartbeat did: a `celery inspect ping` just before an outage was enough.
    mailbox = app.control.Mailbox("celery", type="fanout")
    mailbox._publish_reply({"ok": "pong"}, "reply", "key", "ticket", channel=nowhere)
    assert [record.action for record in caplog.records] == ["control.unanswered"]  # type: ignore[attr-defined]


def test_a_tenant_that_fails_and_goes_on_by_turns_is_told_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(waits, "_teller", waits._Teller(clock=lambda: now[0]))
    settings = load_settings()
    for _ in range(120):
        waits.tell_failed(settings, "a", Noted(1.0, 1, "StoreUnavailable: no space left"))
        waits.tell_over("a", Backoff(1, 0, 0, "no space left"), 1, 1)
        now[0] += 1
    assert [record.action for record in caplog.records] == 2 * ["tenant.waits", "tenant.goes_on"]  # type: ignore[attr-defined]
    for tries in range(2, 100):
        waits.tell_failed(settings, "a", Noted(1.0, tries, "StoreUnavailable: no space left"))
    assert [record.tries for record in caplog.records[4:]] == [STALLED_TRIES]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("reason", "step"),
    [
        (
            "StoreUnavailable: x.git: no space left on the device",
            "Free space on the disk of /store.",
        ),
        ("StoreUnavailable: x.git: the disk quota is used up", "Raise the user's quota"),
        ("StoreUnavailable: x.git: the file system is read-only", "Make /store writable again"),
        (
            "StoreUnavailable: x.git: permission denied",
            "Let the user who runs this write to /store.",
        ),
        ("StoreUnavailable: x.git: operation not permitted", "Let the user who runs this write"),
        ("StoreUnavailable: x.git: input/output error", "Look at the disk of /store"),
        ("StoreUnavailable: x.git: too many open files", "Raise the limit"),
        ("StagingUnavailable: staging: No space left on device", "on the disk of /staging."),
        ("RepositoryDamaged: x.git: a pack is damaged", "`confkeep verify` says"),
        ("RepositoryBusy: x.git: locked", "Try again in a few seconds"),
        ("KeyError", "The worker's log says more."),
        ("Exception: nonsense", "The worker's log says more."),
    ],
)
def test_each_fault_has_a_next_step(reason: str, step: str) -> None:
    settings = load_settings(git_store_path="/store", staging_path="/staging")
    said = waits.advice(reason, settings, "11111111-0000-4000-8000-000000000001")
    assert step in said
    assert "within a minute, or at once with `confkeep kick 11111111-" in said
