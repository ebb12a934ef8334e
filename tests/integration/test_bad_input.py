"""Whatever a client sends: it is accepted, or one declared error says why and nothing is left."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
from celery.result import AsyncResult
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from confkeep.broker import keys
from confkeep.errors import InvalidInput
from tasks import Receipt, enqueue_backup
from tests.integration.conftest import STAGINGS, with_variables
from tests.planted import SECRET
from tests.servers import Deployment, wait_for
from worker.app import app
from worker.engine import receive

#: Payloads in one of hypothesis's examples: it costs more than the call.
_AT_ONCE = 10
_FEW = pytest.param(2_000, id="few")
_MANY = pytest.param(100_000, id="many", marks=[pytest.mark.chaos, pytest.mark.timeout(1_800)])

TENANTS = [str(uuid.UUID(int=number, version=4)) for number in range(3)]
ids = st.one_of(
    st.sampled_from(TENANTS),
    st.uuids().map(str),
    st.sampled_from(
        ["", "../../etc", "{6fa459ea-ee8a-3ca4-894e-db77e160355e}", TENANTS[0].upper(), "\0" * 36]
    ),
    st.text(max_size=40),
)
#: JSON has all of these; Python callers may give worse.
anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)
texts = st.one_of(
    st.text(max_size=60), st.text(st.characters(), max_size=20), st.just("/ip\udce9"), anything
)
times = st.one_of(
    st.none(),
    st.datetimes(timezones=st.one_of(st.none(), st.just(dt.UTC))),
    st.sampled_from(["2026-01-02T03:04:05+00:00", "yesterday", "2026-01-02", 1e300, -1]),
)


def spoiled(good: dict[str, Any], bad: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Mostly good values, of which none to two are replaced by, or come with, others."""
    fields = st.sampled_from(sorted(bad)).flatmap(
        lambda name: bad[name].map(lambda value: (name, value))
    )
    spoils = st.one_of(st.just([]), st.lists(fields, min_size=1, max_size=2))
    return st.tuples(st.fixed_dictionaries(good), spoils).map(
        lambda both: {**both[0], **dict(both[1])}
    )


good = {
    "tenant_id": st.sampled_from(TENANTS),
    "device_id": st.sampled_from(TENANTS),
    "message": st.text(
        st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20
    ),
}
payloads = spoiled(
    {
        **good,
        "export_text": st.text(st.characters(exclude_categories=["Cs"]), max_size=30).map(
            f"/{SECRET}".__add__
        ),
        "binary_backup": st.one_of(st.none(), st.binary(max_size=30)),
    },
    {
        "tenant_id": st.one_of(ids, st.uuids(), anything),
        "device_id": st.one_of(ids, st.uuids(), anything),
        "export_text": st.one_of(texts, st.binary(max_size=40)),
        "binary_backup": anything,
        "message": texts,
        "backup_id": st.one_of(ids, anything),
        "captured_at": st.one_of(times, anything),
    },
)
references = st.one_of(
    st.fixed_dictionaries(
        {
            "id": ids,
            "size_bytes": st.one_of(st.integers(), anything),
            "sha256": st.one_of(st.text("0123456789abcdef", min_size=64, max_size=64), texts),
        }
    ),
    anything,
)
base64s = st.one_of(st.sampled_from(["L2lw", "L2l", "***", "", "L2lw\n", "é"]), anything)
messages = spoiled(
    {
        **good,
        "export_text": st.text(st.characters(exclude_categories=["Cs"]), max_size=30).map(
            f"/{SECRET}".__add__
        ),
    },
    {
        "tenant_id": ids,
        "device_id": st.one_of(ids, anything),
        "message": texts,
        "export_text": texts,
        "export_base64": base64s,
        "export_staged": references,
        "binary_base64": base64s,
        "binary_staged": references,
        "backup_id": st.one_of(ids, anything),
        "captured_at": st.one_of(st.sampled_from(["2026-01-02T03:04:05Z", "x"]), anything),
        "surprise": anything,
        "task_id": anything,
    },
)


def examples(number: int) -> settings:
    return settings(
        max_examples=number // _AT_ONCE,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


def assert_only(deployed: Deployment, accepted: set[str]) -> None:
    """Redis and the volume hold what belongs to the accepted backups and nothing else."""
    with deployed.client() as client:
        names = {name.decode() for name in client.keys("*")}
        inboxes = {name for name in names if name.startswith(f"{keys.PREFIX}inbox:")}
        entries = sum(client.xlen(name) for name in inboxes)
    assert entries == len(accepted)
    allowed = {keys.WAITING, keys.LOAD, keys.TOTALS, *map(keys.result, accepted)}
    for name in names - allowed - inboxes:
        tenant = name.rpartition(":")[2]
        assert (
            name.startswith(("_kombu.", "backups.shard."))
            or (name in (keys.wake(tenant), keys.replies(tenant)) and keys.inbox(tenant) in inboxes)
            or name.rpartition(":")[2] in accepted
        ), name
    files = [path.name[:36] for path in (deployed.path / "staging").rglob("*") if path.is_file()]
    assert set(files) <= accepted
    assert len(files) == len(set(files))


@pytest.mark.parametrize("number", [_FEW, _MANY])
@pytest.mark.parametrize("way", ["enqueue_backup", "backups.receive"])
@with_variables(*STAGINGS)
def test_only_declared_errors_and_nothing_left_behind(
    deployed: Deployment, number: int, way: str
) -> None:
    accepted: set[str] = set()
    refused: list[str] = []

    def call(payload: dict[str, Any]) -> None:
        task_id = str(uuid.uuid4())
        try:
            if way == "enqueue_backup":
                accepted.add(enqueue_backup(**payload).id)
            else:
                receive.accept(task_id, payload)
                accepted.add(str(payload.get("backup_id") or task_id).lower())
        except InvalidInput as error:
            assert error.args[0]
            refused.append(error.args[0])

    @examples(number // 4)
    @given(
        st.lists(
            payloads if way == "enqueue_backup" else messages,
            min_size=_AT_ONCE,
            max_size=_AT_ONCE,
        )
    )
    def call_all(batch: list[dict[str, Any]]) -> None:
        for payload in batch:
            call(payload)

    call_all()
    print(f"{len(accepted)} accepted, {len(refused)} refused for {sorted(set(refused))}")
    assert len(refused) > number // 20
    assert accepted
    assert_only(deployed, accepted)


def test_messages_of_any_client_end_with_a_receipt_or_a_declared_error(
    deployed: Deployment,
) -> None:
    sent: list[AsyncResult] = []

    @examples(60)
    @given(st.lists(messages, min_size=_AT_ONCE, max_size=_AT_ONCE))
    def send_all(batch: list[dict[str, Any]]) -> None:
        for message in batch:
            sent.append(app.send_task("backups.receive", kwargs=message, queue=keys.RECEIVE_QUEUE))

    send_all()
    deployed.start_worker(concurrency=2)
    receipts = 0
    for result in sent:
        try:
            Receipt(**result.get(timeout=30))
        except InvalidInput as error:
            assert error.args[0]
        else:
            receipts += 1
    print(f"{receipts} receipts for {len(sent)} messages")
    with deployed.client() as client:
        wait_for(lambda: not client.exists(keys.WAITING, "unacked"), "all to be settled")
        assert not client.keys(f"{keys.PREFIX}staged:*")
        assert not any(client.xlen(name) for name in client.keys(f"{keys.PREFIX}inbox:*"))
