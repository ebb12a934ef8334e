"""Receipts under the backup's id, as Celery's Redis backend keeps results.

A backup's record is written once by `confkeep/broker/lua/accept.lua` (PENDING) and ends here. It is what
`AsyncResult(backup_id).get()` waits for: Celery's JSON, stored and then published in that order,
so that a waiter that subscribed before or after sees it. One pipeline for a batch costs a tenth of
Celery's own `store_result` for each.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis

from confkeep import errors
from confkeep.broker import keys, redis_values, scripts
from confkeep.broker.connections import broker_errors
from confkeep.errors import ConfkeepError, OddValue, PoisonedBackup

#: Most bytes of a record. One of ours has some kB; another task's result under such a name, such as a
#: file that was read, may have many.
MOST_RECORD_BYTES: Final = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a backup ended."""

    backup_id: str
    #: The digest of what was accepted; None for a result that no backup stands behind.
    digest: str | None
    #: The receipt as JSON values, or the error that made the backup a dead letter.
    value: Mapping[str, Any] | ConfkeepError


def pending_record(backup_id: str, digest: str, tenant_id: str) -> str:
    """The record of a backup that was accepted and waits; the script adds the place of its entry."""
    return _record(backup_id, digest, "PENDING", None, None, tenant_id)


def final_record(result_id: str, outcome: Outcome) -> str:
    """The record of a backup that ended, under its own id or that of a further caller."""
    value = outcome.value
    status, result = "SUCCESS", value
    if isinstance(value, ConfkeepError):
        status, result = "FAILURE", _as_result(value)
    done = dt.datetime.now(dt.UTC).isoformat()
    return _record(result_id, outcome.digest, status, result, done)


def show_retrying(
    client: redis.Redis, backup_ids: Sequence[str], error: BaseException, ttl_s: int
) -> None:
    """Let the results of waiting backups say `RETRY`, with the error as the reason.

    Their life begins anew: what waits for a disk to be repaired must not be forgotten meanwhile.

    Raises:
        BrokerUnavailable: some may not say it.
    """
    result = json.dumps(_as_result(error))
    with broker_errors():
        scripts.load("retrying").run(
            client,
            [keys.result(backup_id) for backup_id in backup_ids],
            [f'"status": "RETRY", "result": {result}', ttl_s],
        )


def _as_result(error: BaseException) -> dict[str, Any]:
    """The form from which Celery makes an exception again, in the caller's process."""
    return {
        "exc_type": type(error).__name__,
        "exc_message": [arg for arg in error.args if isinstance(arg, str | int | None)],
        "exc_module": type(error).__module__,
    }


def error_of(result: Any) -> ConfkeepError:
    """The error that a record tells of, as it was raised, or as one of ours that says the same."""
    told = result if isinstance(result, dict) else {"exc_message": [result]}
    kind = getattr(errors, str(told.get("exc_type")), None)
    arguments = told.get("exc_message") or []
    if not isinstance(arguments, list):
        arguments = [str(arguments)]
    if isinstance(kind, type) and issubclass(kind, ConfkeepError):
        # With other arguments than it takes, it is not ours.
        with contextlib.suppress(TypeError):
            return kind(*arguments)
    name = f"{told['exc_type']}: " if told.get("exc_type") else ""
    return PoisonedBackup(f"{name}{' '.join(map(str, arguments))}")


def _record(
    result_id: str,
    digest: str | None,
    status: str,
    result: Any,
    done: str | None,
    tenant_id: str | None = None,
) -> str:
    record = {
        "status": status,
        "result": result,
        "traceback": None,
        "children": [],
        "date_done": done,
        "task_id": result_id,
    }
    if digest is not None:
        record["accepted"] = digest
    if tenant_id is not None:
        record["tenant"] = tenant_id
    return json.dumps(record)


def publish(client: redis.Redis, tenant_id: str, outcomes: Sequence[Outcome], ttl_s: int) -> None:
    """Store the outcomes and wake all who wait for them.

    First under the backups' own ids: from then on nobody adds a further id. Then under the further
    ids that asked meanwhile. Repeating it does no harm.

    Raises:
        BrokerUnavailable: some may be stored; the caller repeats all.
    """
    if not outcomes:
        return
    with broker_errors():
        pipe = client.pipeline(transaction=False)
        for outcome in outcomes:
            _store(pipe, outcome, ttl_s)
        pipe.hmget(keys.replies(tenant_id), [outcome.backup_id for outcome in outcomes])
        further = redis_values.answers(pipe)[-1] or [None] * len(outcomes)
        if not any(further):
            return
        for outcome, ids in zip(outcomes, further, strict=True):
            for result_id in _further(ids):
                if result_id != outcome.backup_id:
                    record = final_record(result_id, Outcome(result_id, None, outcome.value))
                    store_answer(client, keys.result(result_id), record, ttl_s)


def read(client: redis.Redis, backup_id: str) -> dict[str, Any] | None:
    """The record under an id; None if there is none.

    Raises:
        OddValue: what stands there is no record.
        BrokerUnavailable: Redis did not answer.
    """
    name = keys.result(backup_id)
    pipe = client.pipeline(transaction=False)
    pipe.get(name)
    pipe.exists(name)
    text, exists = redis_values.answers(pipe)
    if not exists and text is None:
        return None
    try:
        return redis_values.object_of(text or b"", most_bytes=MOST_RECORD_BYTES)
    except redis_values.Unreadable as error:
        raise garbled(backup_id) from error


def garbled(backup_id: str) -> OddValue:
    """The error where what stands under a backup's id is no record."""
    name = keys.result(backup_id)
    return OddValue(f"{name} holds no record of confkeep's: look at it, then DEL {name}")


def _further(ids: bytes | None) -> list[str]:
    """The further ids that want a receipt; none where somebody else wrote there."""
    if ids is None:
        return []
    try:
        return redis_values.texts_of(ids)
    except redis_values.Unreadable:
        return []


def end_unknown(client: redis.Redis, outcome: Outcome, ttl_s: int) -> bool:
    """Store the outcome of a task that no result is known of, and wake who waits for it.

    Returns:
        False: it has a result, which stays.

    Raises:
        BrokerUnavailable: it may be stored.
    """
    name, record = keys.result(outcome.backup_id), final_record(outcome.backup_id, outcome)
    with broker_errors():
        if not client.set(name, record, ex=ttl_s, nx=True):
            return False
        client.publish(name, record)
    return True


def waits_as(client: redis.Redis, backup_id: str, digest: str) -> bool:
    """Whether a backup was accepted under that digest and has not ended.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    try:
        meta = read(client, backup_id) or {}
    except OddValue:
        return False
    return meta.get("accepted") == digest and meta.get("status") in ("PENDING", "RETRY")


def copy(client: redis.Redis, backup_id: str, result_id: str, ttl_s: int) -> None:
    """Give a further caller the outcome of a backup that ended before it asked.

    Raises:
        OddValue: what stands under the backup's id is no record.
        BrokerUnavailable: Redis did not answer.
    """
    meta = read(client, backup_id)
    if meta is None:
        return
    meta["task_id"] = result_id
    meta.pop("accepted", None)
    with broker_errors():
        store_answer(client, keys.result(result_id), json.dumps(meta), ttl_s)


def store_answer(client: redis.Redis, name: str, record: str | bytes, ttl_s: int) -> None:
    """Store what is no backup's own record, and wake who waits for it; nothing, where one is.

    Who sends a task, or asks for a receipt, chooses the id that the answer is stored under. A backup's
    record guards its id, and gives way to nobody's answer.

    Args:
        name: the record's key.

    Raises:
        redis.RedisError: it may be stored.
    """
    scripts.load("answer").run(client, [name], [record, ttl_s])


def shorten_answer(client: redis.Redis, result_id: str, life_s: int) -> None:
    """Let an answer live shorter; a backup's record stays as it is.

    Raises:
        BrokerUnavailable: it may live as long as before.
    """
    with broker_errors():
        scripts.load("answer").run(client, [keys.result(result_id)], ["", life_s])


def _store(pipe: redis.client.Pipeline, outcome: Outcome, ttl_s: int) -> None:
    name, record = keys.result(outcome.backup_id), final_record(outcome.backup_id, outcome)
    pipe.set(name, record, ex=ttl_s)
    pipe.publish(name, record)
