"""Hands backups over as arrivals, for an inbox that this user may not write to.

It is what a producer with rules of its own (`worker.broker.acl.producer`) does in place of `confkeep.queue.acceptance`.
All of a call goes to the server in one transaction, of commands that can only add:

    SETNX    confkeep:arrived:<tenant>:<uuid>   the bytes, under a name that was never there
    RPUSH    confkeep:arrivals:<tenant>         the arrival, behind all others of its tenant
    HSETNX   confkeep:arriving:<tenant>         what its id stands for, until it has a record
    HINCRBY  confkeep:arriving                  what waits so, for the limits

Before it, one look at what is known of the ids and at what waits. Two things differ from a script, which
looks and writes in one step: calls at the same moment may together go beyond a limit, and a backup whose
id another call uses at that moment for another backup gets an id of its own when it is admitted.
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

#: Instead of a status: what stands under an id is no record.
_GARBLED: Final = "garbled"


def hand_over(
    client: redis.Redis, settings: Settings, submissions: Sequence[Submission]
) -> list[Accepted]:
    """Add backups to the arrivals of their tenants, in order; either all that find room, or none.

    Returns:
        What became of each, as `confkeep.queue.acceptance.accept`.

    Raises:
        NotPermitted: not even that; nothing was handed over.
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
    """What was known before: of the ids, and of what waits."""

    now_ms: int
    #: By backup_id, the digest that it was accepted with and its status.
    known: dict[str, tuple[str, str]]
    tenants: dict[str, _Sizes]
    all: _Sizes
    #: Most bytes that may wait in the server's memory; None: no limit.
    room: int | None
    #: The tenants who had arrivals before that.
    arriving: set[str]
    #: The tenants of whom one was refused: what comes behind it would overtake it.
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
        # First, so that what is admitted meanwhile is known by its record.
        for tenant_id in tenants:
            pipe.llen(keys.arrivals(tenant_id))
        for tenant_id in tenants:
            pipe.hmget(keys.arriving(tenant_id), ids_of[tenant_id])
        pipe.mget([keys.result(backup_id) for backup_id in ids])
        for name in (keys.LOAD, keys.ARRIVING):
            pipe.hmget(name, ["entries", "bytes", *tenants])
        for tenant_id in tenants:
            pipe.xlen(keys.inbox(tenant_id))
        # Replicas must have what is known already: its caller is told that it is accepted.
        replicas.ask(pipe, settings)
        found = replicas.confirmed(redis_values.answers(pipe), settings)
        (seconds, micros), room, *answers = found
        count = len(tenants)
        arrivals, digests = answers[:count], answers[count : 2 * count]
        (records, load, arriving), inboxes = answers[2 * count :][:3], answers[2 * count :][3:]
        # Only a worker may set aside what stands there; the sweep does it for those that are marked.
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
        """Whether a backup is to be handed over: what `accept.lua` would say to it."""
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
    """What waits to be admitted. It is no more than a producer's word: the same is handed over again."""
    return {
        backup_id: (digest.decode("latin-1"), "FAILURE")
        for ids, found in zip(ids_of.values(), digests, strict=True)
        for backup_id, digest in zip(ids, found or [None] * len(ids), strict=True)
        if digest is not None
    }


def _known(ids: Sequence[str], records: Sequence[bytes | None]) -> dict[str, tuple[str, str]]:
    """What has a record. What waits is handed over again: only a worker can see whether its entry is
    there, and drops what is there twice."""
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
    """Add them all, and say whose tenants need a wake-up: nobody is on the way to their arrivals."""
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
            # While a tenant waits after a fault, what comes meanwhile must not hasten its next try.
            pipe.exists(keys.wake(tenant_id), keys.backoff(tenant_id))
        answers = replicas.execute_transaction(client, settings, pipe)
    _check(answers, pushed, range(max(pushed) + 1, asked))
    return {
        tenant_id
        for number, tenant_id in enumerate(sizes)
        if answers[first[tenant_id]] == 1 and not answers[asked + number]
    }


def _check(answers: Sequence[Any], pushed: Mapping[int, str], counted: range) -> None:
    """Refuse a transaction of which an arrival, or the mark that tells of it, was not taken.

    A count that would overflow is no loss; nor is it when what the ids stand for cannot be noted, since
    somebody wrote something else there: a worker sets that aside when it admits.

    Args:
        pushed: the places of the arrivals among the answers, and their tenants.
        counted: the places of the marks.

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
