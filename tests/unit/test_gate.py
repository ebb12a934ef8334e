"""What passes the gate is what our own code and plain clients send, made anew; all else is told why not."""

from __future__ import annotations

import base64
import datetime as dt
import json
import uuid
from typing import Any

import pytest
from celery import Celery
from hypothesis import given, settings
from hypothesis import strategies as st

from confkeep.broker import keys
from confkeep.errors import InvalidBackup
from tests.hostile_messages import TARGETS, TENANTS, Hostile
from worker.app import app
from worker.broker import gate
from worker.broker.gate import Gate, Refusal
from worker.process.gated_channel import gate_of

QUEUE = keys.RECEIVE_QUEUE
SHARD = keys.shard_queue(0)


@pytest.fixture(scope="module")
def own() -> Gate:
    app.loader.import_default_modules()
    return gate_of(app)


def built(task: str = "backups.receive", body: Any = None, **headers: Any) -> dict[str, Any]:
    """A message of a plain client, as Celery and kombu make it."""
    portal = Celery("portal", set_as_current=False)
    portal.conf.broker_url = "memory://"
    sent: list[dict[str, Any]] = []
    with portal.connection_for_write() as connection:
        channel = connection.default_channel
        channel._put = lambda _queue, message, **_: sent.append(message)
        with portal.amqp.Producer(channel) as producer:
            options: dict[str, Any] = {"queue": QUEUE, "task_id": "an id", **headers}
            portal.send_task(task, producer=producer, **options)
    message = json.loads(json.dumps(sent[0]))
    if body is not None:
        message["body"] = base64.b64encode(json.dumps(body).encode()).decode()
    return dict(message)


def judged(own: Gate, message: Any, queue: str = QUEUE) -> dict[str, Any] | Refusal:
    raw = message if isinstance(message, bytes) else json.dumps(message).encode()
    return own.judge(raw, queue)


def refused(own: Gate, message: Any, queue: str = QUEUE) -> Refusal:
    found = judged(own, message, queue)
    assert isinstance(found, Refusal), found
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"expires": 60},
        {"countdown": 60},
        {"priority": 9},
        {"ignore_result": True},
        {"headers": {"traceparent": "00-1-1-01", "mine": {"a": [1]}}},
        {
            "kwargs": {
                "captured_at": dt.datetime(2026, 11, 25, tzinfo=dt.UTC),
                "tenant_id": uuid.UUID(int=1),
            }
        },
        {"kwargs": {"export_text": "/ip [find] \udce9 {}" * 10_000}},
        {"kwargs": {"cls": 2}},
        {"parent_id": "a portal's task", "root_id": "another"},
    ],
    ids=str,
)
def test_what_plain_clients_send_passes(own: Gate, options: dict[str, Any]) -> None:
    message = built(**options)
    passed = judged(own, message)
    assert not isinstance(passed, Refusal), passed.error
    assert passed["body"] == message["body"]
    for name in (
        "task",
        "id",
        "eta",
        "expires",
        "retries",
        "ignore_result",
        "parent_id",
        "root_id",
    ):
        assert passed["headers"].get(name) == message["headers"].get(name), name
    again = judged(own, passed)
    assert not isinstance(again, Refusal), "what came back from a dead worker passes again"
    assert "mine" not in passed["headers"]


@pytest.mark.parametrize("target", TARGETS)
def test_where_a_message_goes_is_nothing_that_it_says(own: Gate, target: str) -> None:
    message = built()
    info = {"exchange": target, "routing_key": target}
    message["properties"] |= {"reply_to": target, "delivery_tag": "same", "delivery_info": info}
    message["properties"] |= {"priority": 9, "correlation_id": target}
    message["headers"] |= {"hostname": target, "properties": info, "delivery_info": info}
    passed = judged(own, message)
    assert not isinstance(passed, Refusal)
    assert target not in json.dumps(passed)
    assert passed["properties"]["delivery_info"]["routing_key"] == QUEUE
    assert passed["properties"]["delivery_tag"] != "same"


EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("embed", {"body": [[], {}, {**EMBED, "callbacks": [{"task": "x"}]}]}),
        ("embed", {"body": [[], {}, {"reply_to": "x"}]}),
        ("embed", {"body": [[], {}, []]}),
        ("body", {"body": [[], {}]}),
        ("body", {"body": [{}, {}, EMBED]}),
        ("body", {"body": {"args": [], "kwargs": {}}}),
        ("body", {"body": [[], {"x": {"__type__": "uuid", "__value__": 5}}, EMBED]}),
        ("callbacks", {"callbacks": [{"task": "x"}]}),
        ("chord", {"chord": {"task": "x"}}),
        ("group", {"group": "x"}),
        ("timelimit", {"timelimit": [0.02, None]}),
        ("timelimit", {"timelimit": "x"}),
        ("retries", {"retries": True}),
        ("retries", {"retries": -1}),
        ("retries", {"retries": 10**9}),
        ("ignore_result", {"ignore_result": "x"}),
        ("eta", {"eta": "2099-01-01T00:00:00+00:00"}),
        ("eta", {"eta": "0001-01-01T00:00:00+14:00"}),
        ("eta", {"eta": 5}),
        ("expires", {"expires": "soon"}),
        ("compression", {"compression": "application/x-gzip"}),
        ("task", {"task": "celery.chord_unlock"}),
        ("task", {"task": ["x"]}),
        ("task", {"task": "backups.commit_inbox"}),
        ("id", {"id": None}),
        ("id", {"id": "x" * 256}),
        ("id", {"id": "a\nline"}),
        ("id", {"id": "\ud800"}),
    ],
    ids=str,
)
def test_one_thing_that_no_client_of_ours_asks_for_is_enough(
    own: Gate, field: str, change: dict[str, Any]
) -> None:
    message = built(body=change.pop("body", None))
    message["headers"] |= change
    found = refused(own, message)
    assert found.error.field == field
    assert (found.task_id is None) == (field == "id")


@pytest.mark.parametrize(
    ("field", "given"), [("args", {"args": [1]}), ("self", {"kwargs": {"self": 1}})]
)
def test_arguments_that_no_backup_has_are_told_as_such(
    own: Gate, field: str, given: dict[str, Any]
) -> None:
    error = refused(own, built(**given)).error
    assert (type(error), error.field) == (InvalidBackup, field)


def test_tasks_of_a_shard_stay_there_and_get_what_they_take(own: Gate) -> None:
    tenant = TENANTS[0]
    commit = built("backups.commit_inbox", args=[tenant, 5], argsrepr=tenant)
    passed = judged(own, commit, SHARD)
    assert not isinstance(passed, Refusal)
    assert f'"argsrepr": "{tenant}"' in json.dumps(passed), "the sweep looks for it"
    assert refused(own, built(), SHARD).error.field == "task"
    for args in ([], [tenant, 5, 6], [tenant, 5, 6, 7]):
        message = built("backups.commit_inbox", args=args)
        assert refused(own, message, SHARD).error.field == "arguments"
    large = built("backups.commit_inbox", args=["x" * gate.MOST_SHARD_BYTES])
    assert refused(own, large, SHARD).error.field == "message"


@pytest.mark.parametrize("change", ["content-type", "content-encoding", "headers", "properties"])
def test_a_part_that_is_missing_is_told(own: Gate, change: str) -> None:
    message = built()
    del message[change]
    refused(own, message)


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"x", b"null", b"[]", b"\xff", b'"' + b'\\"' * 1_000_000, b"[" * 1_000_000),
        *(b"[" * 33 + b"]" * 33, b'{"a":' * 5_000, b"[" + b"0," * 50_000 + b"0]", b"9" * 5_000),
        *(b"[" + b'"",' * 50_000 + b'""]', b" " * 100_000 + b"{}"),
    ],
    ids=lambda text: f"{text[:4]!r}-{len(text)}",
)
def test_no_bytes_are_too_odd(own: Gate, text: bytes) -> None:
    refused(own, text)
    refused(own, built() | {"body": base64.b64encode(text).decode()})
    refused(own, built() | {"headers": {"id": "x", "task": text.decode("latin-1")}})


def test_brackets_in_texts_are_no_nesting(own: Gate) -> None:
    text = '[{"' * 1_000 + "\\" * 999
    assert not isinstance(judged(own, built(kwargs={"export_text": text})), Refusal)


@pytest.mark.parametrize("encoding", [None, "utf-8"])
def test_a_body_may_be_as_it_is(own: Gate, encoding: str | None) -> None:
    message = built()
    message["body"] = json.dumps([[], {"tenant_id": "x"}, EMBED])
    message["properties"]["body_encoding"] = encoding
    passed = judged(own, message)
    assert not isinstance(passed, Refusal)
    assert passed["properties"]["body_encoding"] == "utf-8"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_comes_there_is_an_answer_that_names_nothing_of_it(seed: int) -> None:
    app.loader.import_default_modules()
    own = gate_of(app)
    for queue, raw in Hostile(seed, {}).messages(5):
        found = own.judge(raw, queue)
        if isinstance(found, Refusal):
            assert "\ud800" not in str(found.error)
            assert len(str(found.error)) < 100
        else:
            assert found["headers"]["group"] is None
            assert set(found["headers"]["timelimit"]) == {None}


@pytest.mark.parametrize(("depth", "passes"), [(29, True), (31, False), (400, False)])
def test_nesting_is_counted_before_it_is_decoded(own: Gate, depth: int, passes: bool) -> None:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    found = judged(own, built(kwargs={"export_text": value}))
    assert isinstance(found, Refusal) != passes
    if isinstance(found, Refusal):
        assert "nested at most 32" in str(found.error)
