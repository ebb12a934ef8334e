"""Log lines: what ours tell, what is kept out of Celery's, and that docs/logs.md lists them all."""

from __future__ import annotations

import io
import json
import logging
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery.app import trace
from celery.worker.consumer import consumer as celery_consumer

from confkeep.errors import StoreUnavailable
from confkeep.observe import logs
from confkeep.settings import load_settings
from docs.generate import log_calls
from tasks.commit import commit_inbox
from tasks.read import read_file
from tasks.receive import receive

SECRET = "/ip address add address=10.9.8.7"
TENANT, DEVICE, BACKUP = (str(uuid.UUID(int=number, version=4)) for number in (1, 2, 3))


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """A worker's logging, as JSON; gives the lines so far."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure(load_settings(log_format="json", log_level="debug"))
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logs.unbind_task()
    root.handlers[:] = before
    root.setLevel(level)


def test_a_line_tells_its_action_its_fields_and_the_running_task(
    lines: Callable[[], list[dict[str, Any]]],
) -> None:
    logs.bind_task(commit_inbox, "an-id", (TENANT, 7), {})
    logs.get_logger("test").info("something", action="test.something", backups=3)
    logging.getLogger("celery.app.trace").info("Celery's own line")
    logs.unbind_task()
    logs.get_logger("test").warning("later", action="test.later")
    ours, celerys, later = lines()
    assert ours.pop("timestamp").endswith("Z")
    assert ours == {
        "event": "something",
        "action": "test.something",
        "backups": 3,
        "level": "info",
        "logger": "confkeep.test",
        "task": "backups.commit_inbox",
        "task_id": "an-id",
        "tenant_id": TENANT,
    }
    assert (celerys["task"], celerys["tenant_id"]) == ("backups.commit_inbox", TENANT)
    assert not {"task", "tenant_id"} & set(later)


@pytest.mark.parametrize(
    ("task", "args", "kwargs", "bound"),
    [
        (
            read_file,
            (TENANT, "abcd1234", DEVICE, "export.rsc"),
            {},
            {"tenant_id": TENANT, "sha": "abcd1234", "device_id": DEVICE},
        ),
        (
            receive,
            (),
            {"tenant_id": TENANT, "device_id": DEVICE, "export_text": SECRET, "message": SECRET},
            {"tenant_id": TENANT, "device_id": DEVICE, "backup_id": BACKUP},
        ),
        (receive, (), {"tenant_id": SECRET, "device_id": ["x"]}, {"backup_id": BACKUP}),
        (commit_inbox, (SECRET,), {}, {}),
        (read_file, (), {"commit_sha": SECRET}, {}),
    ],
)
def test_ids_are_bound_and_nothing_else(
    lines: Callable[[], list[dict[str, Any]]],
    task: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    bound: dict[str, str],
) -> None:
    logs.bind_task(task, BACKUP, args, kwargs)
    logging.getLogger("any").info("line")
    [line] = lines()
    own = {"event", "level", "logger", "timestamp", "task", "task_id"}
    assert {name: line[name] for name in set(line) - own} == bound


def test_celerys_lines_are_left_without_payload(
    lines: Callable[[], list[dict[str, Any]]],
) -> None:
    said = {"id": "1", "name": "t", "return_value": SECRET, "runtime": 1, "exc": SECRET}
    tracing = logging.getLogger("celery.app.trace")
    tracing.info(trace.LOG_SUCCESS, {**said, "args": SECRET}, extra={"data": said})

    def fail() -> None:
        raise ValueError(SECRET) from StoreUnavailable("tenant.git: no space left on the device")

    try:
        fail()
    except ValueError:
        context = {**said, "description": "raised unexpected", "traceback": SECRET}
        tracing.error(trace.LOG_FAILURE, context, exc_info=True, extra={"data": context})
    consuming = logging.getLogger("celery.worker.consumer.consumer")
    for text, count in (
        (celery_consumer.UNKNOWN_FORMAT, 1),
        (celery_consumer.UNKNOWN_TASK_ERROR, 4),
        (celery_consumer.INVALID_TASK_ERROR, 4),
        (celery_consumer.MESSAGE_DECODE_ERROR, 5),
    ):
        consuming.error(text, *[SECRET] * count, exc_info=True)
    logging.getLogger("celery.pool").debug("TaskPool: Apply %s (args:%s kwargs:%s)", *[SECRET] * 3)
    consuming.warning("%s (%r)", "consumer: Connection to broker lost", ValueError(SECRET))
    consuming.error("Cannot connect to %s", "redis://user:geheim@host:1/0")
    found = lines()
    assert len(found) == 9, "each says something"
    assert all(line["event"] for line in found)
    text = json.dumps(found)
    assert SECRET not in text
    assert "10.9.8.7" not in text
    assert "geheim" not in text
    failure = found[1]
    assert failure["event"] == "Task t[1] raised unexpected: ValueError"
    assert "StoreUnavailable: tenant.git: no space left on the device" in failure["exception"]
    assert __file__ in failure["exception"], "where it was raised stands in the traceback"


def test_every_line_of_ours_has_an_action_of_its_own() -> None:
    calls = log_calls()
    assert len(calls) > 10
    for call in calls:
        assert call.action, f"{call.where} says {call.event!r} without a constant action"
        # What the standard library's records have already cannot be set again.
        record = vars(logging.makeLogRecord({}))
        assert not set(call.fields) & {*record, "message", "asctime"}, call.where
    by_action: dict[str, set[str]] = {}
    for call in calls:
        by_action.setdefault(call.action, set()).add(call.event)
    assert {action for action, events in by_action.items() if len(events) > 1} == set()


def test_a_line_about_a_device_has_its_name_too() -> None:
    about_devices = [call for call in log_calls() if "device_id" in call.fields]
    assert len(about_devices) > 2
    assert [call.where for call in about_devices if "device_name" not in call.fields] == []
