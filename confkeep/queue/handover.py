"""Hand backups over to a worker, for producers that may not write to an inbox.

A producer with rules of its own (`worker.broker.acl.producer`) does this in place of `confkeep.queue.acceptance`.
Each call sends one transaction of commands that can only add:

    SETNX    confkeep:arrived:<tenant>:<uuid>   the bytes, under a new name
    RPUSH    confkeep:arrivals:<tenant>         the arrival, at the tail of its tenant's list
    HSETNX   confkeep:arriving:<tenant>         its id's digest, until it has a record
    HINCRBY  confkeep:arriving                  what waits, for the limits

Before it, one round trip reads the ids' records and what waits. A script would read and write in one step;
here concurrent calls may together exceed a limit, and when two of them use one id for two backups, the
second gets a new id when it is admitted.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import redis

from confkeep.broker import keys, redis_values, replicas
from confkeep.broker.connections import broker_errors
from confkeep.errors import OddValue
from confkeep.queue import receipts
from confkeep.queue.acceptance import Accepted, Submission
from confkeep.queue.arrivals import Arrival
from confkeep.queue.entry import sign
from confkeep.settings import Settings

#: The status of an id whose key holds no record.
_GARBLED: Final = "garbled"


def hand_over(
    client: redis.Redis, settings: Settings, submissions: Sequence[Submission]
) -> list[Accepted]:
    """Add backups to their tenants' arrivals, in order: all that the limits allow, or none.

    Returns:
        The outcome of each, as `confkeep.queue.acceptance.accept` returns it.

    Raises:
        NotPermitted: the user may not hand over either; nothing was handed over.
        BrokerUnavailable: they may have been handed over; repeating all with the same ids is safe.
    """
    look = _Look.at(client, settings, submissions)
    answers = [
        replace(look.judge(settings, one), arriving=one.tenant_id in look.arriving)
        for one in submissions
    ]
    handed_over = [
        submission
        for submission, answer in zip(submissions, answers, strict=True)
        if answer.outcome == "accepted"
    ]
    if not handed_over:
        return answers
    to_wake = _add(client, settings, handed_over, look.now_ms)
    for number, submission in enumerate(submissions):
        if answers[number].outcome == "accepted" and submission.tenant_id in to_wake:
            to_wake.discard(submission.tenant_id)
            answers[number] = replace(answers[number], wake_ms=look.now_ms)
    return answers


@dataclass(slots=True)
class _Sizes:
    entries: int
    bytes: int


@dataclass(slots=True)
class _Look:
    """What Redis knew before the hand-over: of the ids, and of what waits."""

    now_ms: int
    #: Digest and status of each known backup_id.
    known: dict[str, tuple[str, str]]
    tenants: dict[str, _Sizes]
    all: _Sizes
    #: Most bytes that may wait in the server's memory; None for no limit.
    room: int | None
    #: Tenants that already had arrivals.
    arriving: set[str]
    #: Tenants with a refused backup, which later ones must not overtake.
    refused: set[str]

    @classmethod
    def at(
        cls, client: redis.Redis, settings: Settings, submissions: Sequence[Submission]
    ) -> _Look:
        ids = list(dict.fromkeys(one.entry.backup_id for one in submissions))
        ids_of: dict[str, list[str]] = {}
        for one in submissions:
            ids_of.setdefault(one.tenant_id, []).append(one.entry.backup_id)
        tenants = list(ids_of)
        pipe = client.pipeline(transaction=False)
        pipe.time()
        pipe.get(keys.ROOM)
        # Before the records: a backup that is admitted meanwhile then has its record.
        for tenant_id in tenants:
            pipe.llen(keys.arrivals(tenant_id))
        for tenant_id in tenants:
            pipe.hmget(keys.arriving(tenant_id), ids_of[tenant_id])
        pipe.mget([keys.result(backup_id) for backup_id in ids])
        for name in (keys.LOAD, keys.ARRIVING):
            pipe.hmget(name, ["entries", "bytes", *tenants])
        for tenant_id in tenants:
            pipe.xlen(keys.inbox(tenant_id))
        # Replicas must have the known ones too, since we report them as accepted.
        replicas.ask(pipe, settings)
        found = replicas.confirmed(redis_values.answers(pipe), settings)
        (seconds, micros), room, *answers = found
        count = len(tenants)
        arrivals, digests = answers[:count], answers[count : 2 * count]
        (records, load, arriving), inboxes = answers[2 * count :][:3], answers[2 * count :][3:]
        # Only a worker may set the foreign value aside; the sweep does so.
        if arriving is None:
            raise OddValue(f"{keys.ARRIVING} is no hash")
        none = [None] * (2 + count)
        entries, size, *sizes = (
            redis_values.count_of(one) + redis_values.count_of(other)
            for one, other in zip(load or none, arriving, strict=True)
        )
        return cls(
            int(seconds) * 1000 + int(micros) // 1000,
            {**_handed_over(ids_of, digests), **_known(ids, records)},
            {
                tenant_id: _Sizes((arrivals[n] or 0) + (inboxes[n] or 0), sizes[n])
                for n, tenant_id in enumerate(tenants)
            },
            _Sizes(entries, size),
            redis_values.room_of(room),
            {tenant_id for tenant_id, length in zip(tenants, arrivals, strict=True) if length},
            set(),
        )

    def judge(self, settings: Settings, submission: Submission) -> Accepted:
        """Whether to hand a backup over: the outcome that `accept.lua` would give."""
        tenant_id, entry = submission.tenant_id, submission.entry
        digest = entry.digest(tenant_id)
        accepted, status = self.known.get(entry.backup_id, ("", "FAILURE"))
        if status == _GARBLED:
            return Accepted("garbled")
        if accepted and accepted != digest:
            return Accepted("conflict")
        if status != "FAILURE":
            return Accepted("done" if status == "SUCCESS" else "waiting")
        if tenant_id in self.refused:
            return Accepted("behind")
        total_bytes = settings.total_max_bytes
        if submission.data is not None and self.room is not None:
            total_bytes = min(total_bytes, self.room)
        for waits, outcome, most, most_bytes in (
            (
                self.tenants[tenant_id],
                "tenant full",
                settings.inbox_max_backups,
                settings.inbox_max_bytes,
            ),
            (self.all, "all full", settings.total_max_backups, total_bytes),
        ):
            more = waits.bytes + entry.size_bytes
            if waits.entries + 1 > most or (waits.entries > 0 and more > most_bytes):
                self.refused.add(tenant_id)
                return Accepted(outcome, None, waits.entries, waits.bytes)
        for waits in (self.tenants[tenant_id], self.all):
            waits.entries += 1
            waits.bytes += entry.size_bytes
        self.known[entry.backup_id] = (digest, "PENDING")
        return Accepted("accepted")


def _handed_over(
    ids_of: dict[str, list[str]], digests: Sequence[Sequence[bytes | None]]
) -> dict[str, tuple[str, str]]:
    """The ids among the arrivals. Only producers vouch for them, so the same backup is handed over again."""
    return {
        backup_id: (digest.decode("latin-1"), "FAILURE")
        for ids, found in zip(ids_of.values(), digests, strict=True)
        for backup_id, digest in zip(ids, found or [None] * len(ids), strict=True)
        if digest is not None
    }


def _known(ids: Sequence[str], records: Sequence[bytes | None]) -> dict[str, tuple[str, str]]:
    """The ids with a record. Waiting ones are handed over again: only a worker sees whether the entry
    still exists, and it drops duplicates."""
    known = {}
    for backup_id, text in zip(ids, records, strict=True):
        if text is None:
            continue
        try:
            record = redis_values.object_of(text, most_bytes=receipts.MOST_RECORD_BYTES)
        except redis_values.Unreadable:
            known[backup_id] = ("", _GARBLED)
            continue
        if record.get("accepted"):
            done = record.get("status") == "SUCCESS"
            known[backup_id] = (str(record["accepted"]), "SUCCESS" if done else "FAILURE")
    return known


def _add(
    client: redis.Redis, settings: Settings, submissions: Sequence[Submission], now_ms: int
) -> set[str]:
    """Add all arrivals; return the tenants that need a wake-up because none is on its way."""
    keyring = settings.keyring
    sizes: dict[str, int] = {}
    first: dict[str, int] = {}
    pushed: dict[int, str] = {}
    with broker_errors():
        pipe = client.pipeline(transaction=True)
        for submission in submissions:
            tenant_id, entry = submission.tenant_id, submission.entry
            text = entry.to_json()
            signature = None if keyring is None else sign(keyring, tenant_id, text)
            arrival = Arrival(text, signature, str(uuid.uuid4()), now_ms)
            if submission.data is not None:
                pipe.setnx(keys.arrived(tenant_id, arrival.name), submission.data)
            pipe.hsetnx(keys.arriving(tenant_id), entry.backup_id, entry.digest(tenant_id))
            first.setdefault(tenant_id, len(pipe))
            pushed[len(pipe)] = tenant_id
            pipe.rpush(keys.arrivals(tenant_id), arrival.to_json())
            sizes[tenant_id] = sizes.get(tenant_id, 0) + entry.size_bytes
        pipe.hincrby(keys.ARRIVING, "entries", len(submissions))
        pipe.hincrby(keys.ARRIVING, "bytes", sum(sizes.values()))
        for tenant_id, size in sizes.items():
            pipe.hincrby(keys.ARRIVING, tenant_id, size)
        asked = len(pipe)
        for tenant_id in sizes:
            # New arrivals must not shorten a tenant's wait after a fault.
            pipe.exists(keys.wake(tenant_id), keys.backoff(tenant_id))
        answers = replicas.execute_transaction(client, settings, pipe)
    _check(answers, pushed, range(max(pushed) + 1, asked))
    return {
        tenant_id
        for number, tenant_id in enumerate(sizes)
        if answers[first[tenant_id]] == 1 and not answers[asked + number]
    }


def _check(answers: Sequence[Any], pushed: Mapping[int, str], counted: range) -> None:
    """Fail if the transaction did not take an arrival or its tenant's mark.

    Harmless are counts that would overflow, and digests that a foreign value keeps from being stored:
    a worker sets that value aside when it admits.

    Args:
        pushed: index of each arrival's answer, and its tenant.
        counted: indexes of the marks' answers.

    Raises:
        OddValue, BrokerUnavailable: some may be handed over; repeating all is safe.
    """
    for number, answer in enumerate(answers):
        if not isinstance(answer, Exception):
            continue
        is_wrong_type = redis_values.is_wrong_type(answer)
        if number in pushed and is_wrong_type:
            raise OddValue(f"{keys.arrivals(pushed[number])} is no list")
        if number in counted and is_wrong_type:
            raise OddValue(f"{keys.ARRIVING} is no hash")
        if not is_wrong_type and not (number in counted and redis_values.is_no_number(answer)):
            with broker_errors():
                raise answer
