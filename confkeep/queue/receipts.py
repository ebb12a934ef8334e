"""Read and write the results of backups, as Celery's Redis backend stores them.

`confkeep/broker/lua/accept.lua` writes a backup's record (PENDING), and `settle.lua` its end. It is what
`AsyncResult(backup_id).get()` waits for: Celery's JSON, first stored and then published, so that every
waiter sees it.
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

#: Most bytes of a record. Ours have some kB; another task's result, such as a file, may be large.
MOST_RECORD_BYTES: Final = 128 * 1024 * 1024
#: The field of a task's error in which its own hint stands, where it differs from its class's.
HINT: Final = "hint"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a backup ended."""

    backup_id: str
    #: The digest of the accepted backup; None for a result of no backup.
    digest: str | None
    #: The receipt as JSON values, or the error that made the backup a dead letter.
    value: Mapping[str, Any] | ConfkeepError


def pending_record(backup_id: str, digest: str, tenant_id: str) -> str:
    """The record of a waiting backup; the script adds its entry's id."""
    return (
        '{"status": "PENDING", "result": null, "traceback": null, "children": [], "date_done": null, '
        f'"task_id": "{backup_id}", "accepted": "{digest}", "tenant": "{tenant_id}"}}'
    )


def final_parts(outcome: Outcome) -> tuple[str, str]:
    """The record of a backup that ended, up to its id, and what stands behind the id but for the last brace.

    The second part guards the backup's id; further result ids get none. All are kept for days, so they say
    nothing that Celery's clients do without: no traceback, no children, no spaces.
    """
    value = outcome.value
    status, result = "SUCCESS", value
    if isinstance(value, ConfkeepError):
        status, result = "FAILURE", _as_result(value)
    record: dict[str, Any] = {
        "status": status,
        "result": result,
        "date_done": f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}",
    }
    guard = "" if outcome.digest is None else f',"accepted":{json.dumps(outcome.digest)}'
    text = json.dumps(record, separators=(",", ":"))
    return f'{text[:-1]},"task_id":', guard


def final_record(result_id: str, outcome: Outcome) -> str:
    """The record of a backup that ended, under its own id or a further result id."""
    beginning, guard = final_parts(outcome)
    return f"{beginning}{json.dumps(result_id)}{guard}}}"


def show_retrying(
    client: redis.Redis, backup_ids: Sequence[str], error: BaseException, ttl_s: int
) -> None:
    """Set the results of waiting backups to `RETRY`, with the error as the reason.

    Also renews their time to live, so that none expires during a long outage.

    Raises:
        BrokerUnavailable: some may be unchanged.
    """
    result = json.dumps(_as_result(error))
    with broker_errors():
        scripts.load("retrying").run(
            client,
            [keys.result(backup_id) for backup_id in backup_ids],
            [f'"status": "RETRY", "result": {result}', ttl_s],
        )


def _as_result(error: BaseException) -> dict[str, Any]:
    """The form from which Celery rebuilds an exception in the caller's process."""
    return {
        "exc_type": type(error).__name__,
        "exc_message": [arg for arg in error.args if isinstance(arg, str | int | None)],
        "exc_module": type(error).__module__,
    }


def error_of(result: Any) -> ConfkeepError:
    """The error in a record; a foreign one becomes a `PoisonedBackup` with the same text."""
    told = result if isinstance(result, dict) else {"exc_message": [result]}
    kind = getattr(errors, str(told.get("exc_type")), None)
    arguments = told.get("exc_message") or []
    if not isinstance(arguments, list):
        arguments = [str(arguments)]
    if isinstance(kind, type) and issubclass(kind, ConfkeepError):
        # Arguments that do not fit are not ours.
        with contextlib.suppress(TypeError):
            error, hint = kind(*arguments), told.get(HINT)
            if isinstance(hint, str):
                error.hint = hint
            return error
    name = f"{told['exc_type']}: " if told.get("exc_type") else ""
    return PoisonedBackup(f"{name}{' '.join(map(str, arguments))}")


def read(client: redis.Redis, backup_id: str) -> dict[str, Any] | None:
    """The record under an id; None if there is none.

    Raises:
        OddValue: the key holds no record.
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
    """The error for a backup's key that holds no record."""
    name = keys.result(backup_id)
    return OddValue(f"{name} holds no record of confkeep's: look at it, then DEL {name}")


def end_unknown(client: redis.Redis, outcome: Outcome, ttl_s: int) -> bool:
    """Store the outcome of a task without a result, and wake its waiters.

    Returns:
        False if it has a result, which stays.

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
    """Whether a backup with that digest was accepted and has not ended.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    try:
        meta = read(client, backup_id) or {}
    except OddValue:
        return False
    return meta.get("accepted") == digest and meta.get("status") in ("PENDING", "RETRY")


def copy(client: redis.Redis, backup_id: str, result_id: str, ttl_s: int) -> None:
    """Copy the outcome of an ended backup to a further result id.

    Raises:
        OddValue: the backup's key holds no record.
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
    """Store an answer and wake its waiters; do nothing if the key holds a backup's record.

    Callers choose the id that their answer is stored under, and must not overwrite the record that
    guards a backup's id.

    Args:
        name: the record's key.

    Raises:
        redis.RedisError: it may be stored.
    """
    scripts.load("answer").run(client, [name], [record, ttl_s])


def shorten_answer(client: redis.Redis, result_id: str, life_s: int) -> None:
    """Shorten an answer's time to live, in seconds; a backup's record is unchanged.

    Raises:
        BrokerUnavailable: it may be unchanged.
    """
    with broker_errors():
        scripts.load("answer").run(client, [keys.result(result_id)], ["", life_s])
