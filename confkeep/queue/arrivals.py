"""Admit arrivals to the inboxes: backups from producers that may not write to an inbox.

The server's rules cannot allow writing to a stream without trimming it, or setting a key without
overwriting it. So a producer with rules of its own (`worker.broker.acl`) only adds, in one transaction: bytes
under a new name, and an arrival to the tail of its tenant's list. Each turn, and each producer that accepts
a backup of that tenant directly, first admits them to the inbox, in order.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import redis

from confkeep.broker import keys, redis_values, scripts
from confkeep.broker.connections import broker_errors
from confkeep.errors import NotSigned, OddValue, PoisonedBackup
from confkeep.ids import checked_uuid
from confkeep.observe.logs import get_logger
from confkeep.queue import receipts, wakeups
from confkeep.queue.entry import Entry, check_signature, sign
from confkeep.queue.staging import VolumeStaging
from confkeep.settings import Settings

log = get_logger("arrivals")

#: Most arrivals to admit in one step.
_AT_ONCE: Final = 200
#: Namespace (UUID version 5) of new ids for backups whose id was accepted for another backup.
_RENAMED: Final = uuid.UUID("0d8c1f0e-5a0c-4b57-9a0d-3a3a3f6f2b51")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A backup as it was handed over."""

    #: The entry's text, and its signature or None.
    entry: str = dataclasses.field(repr=False)
    signature: str | None
    #: A UUID that names its bytes in Redis.
    name: str
    #: When it was handed over, in ms of the server's clock.
    at_ms: int

    def to_json(self) -> str:
        """The text that stands in the list; ASCII."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: bytes) -> Arrival:
        """Parse the text of `to_json`; fields of later releases are ignored.

        Raises:
            PoisonedBackup: the text is not ours.
        """
        try:
            arrival = redis_values.record_of(cls, redis_values.object_of(text))
            arrival.check()
        except ValueError as error:
            raise PoisonedBackup("the arrival cannot be read") from error
        return arrival

    def check(self) -> None:
        """Refuse values that our producers never write.

        Raises:
            ValueError: a field is invalid.
        """
        if checked_uuid("name", self.name) != self.name:
            raise ValueError("name")
        if not 0 <= self.at_ms < 2**53:
            raise ValueError("at_ms")
        for text in (self.entry, self.signature or ""):
            text.encode()


def admit(
    client: redis.Redis,
    settings: Settings,
    tenant_id: str,
    *,
    by_turn: bool = False,
    most: int | None = None,
) -> int:
    """Move a tenant's arrivals into its inbox, oldest first.

    Several processes may do so at once. A backup whose id was meanwhile accepted for another backup
    gets a new id, since its producer was told that it is kept.

    Args:
        by_turn: called by a turn, which needs no wake-up to find new entries.
        most: about how many; None for all.

    Returns:
        How many arrivals left the list.

    Raises:
        BrokerUnavailable, StagingUnavailable: some may be admitted; call again.
    """
    taken = 0
    renamings: dict[bytes, int] = {}
    while most is None or taken < most:
        texts = _texts(client, tenant_id, _AT_ONCE)
        if not texts and (taken or by_turn):
            break
        plans = [_Plan.of(settings, tenant_id, text, renamings.get(text, 0)) for text in texts]
        outcomes = _run(client, settings, tenant_id, plans, by_turn=by_turn)
        if not texts:
            # The list was empty; the script removed the tenant's mark.
            break
        if outcomes and outcomes[-1] == "stuck":
            # This turn removes the foreign entry, and the next one admits the rest.
            if by_turn:
                break
            raise OddValue(f"{keys.inbox(tenant_id)} takes no entry")
        if outcomes and outcomes[-1] == "conflict":
            outcomes.pop()
            refused = plans[len(outcomes)]
            renamings[refused.text] = renamings.get(refused.text, 0) + 1
            _share_file(settings, tenant_id, refused, renamings[refused.text])
        for plan, outcome in zip(plans, outcomes, strict=False):
            if plan.text in renamings and outcome == "accepted" and plan.entry is not None:
                log.warning(
                    "two backups came with one id; the second got an id of its own",
                    action="arrival.renamed",
                    tenant_id=tenant_id,
                    device_id=plan.entry.device_id,
                    device_name=plan.entry.device_name,
                    backup_id=plan.entry.backup_id,
                )
        taken += len(outcomes)
    return taken


@dataclass(frozen=True, slots=True)
class _Plan:
    """How to admit one arrival."""

    #: Its text in the list.
    text: bytes
    #: The text for the inbox.
    entry_text: str | bytes
    #: None if it cannot be read.
    entry: Entry | None = None
    signature: str | None = None
    #: False if only a person can tell whether it is a backup.
    good: bool = False
    name: str = ""
    at_ms: int = 0
    #: The id that its producer gave it.
    own_id: str = ""

    @classmethod
    def of(cls, settings: Settings, tenant_id: str, text: bytes, renaming: int) -> _Plan:
        """Plan one arrival. Unreadable or unsigned ones become dead letters when a turn reads them.

        Args:
            renaming: how many of its ids so far belonged to another backup.
        """
        try:
            arrival = Arrival.from_json(text)
            entry = Entry.from_json(arrival.entry)
        except PoisonedBackup:
            return cls(text, text)
        own_id, entry_text, signature, good = (
            entry.backup_id,
            arrival.entry,
            arrival.signature,
            True,
        )
        try:
            check_signature(settings, tenant_id, arrival.entry.encode(), arrival.signature)
        except NotSigned:
            good = False
        if renaming:
            named = f"{entry.backup_id} {entry.digest(tenant_id)} {renaming}"
            entry = dataclasses.replace(entry, backup_id=str(uuid.uuid5(_RENAMED, named)))
            entry_text = entry.to_json()
            keyring = settings.keyring
            signature = None if keyring is None else sign(keyring, tenant_id, entry_text)
        name, at_ms = arrival.name, arrival.at_ms
        return cls(text, entry_text, entry, signature, good, name, at_ms, own_id)


def _share_file(settings: Settings, tenant_id: str, refused: _Plan, renaming: int) -> None:
    """Make a renamed backup's staged file available under its new id."""
    renamed = _Plan.of(settings, tenant_id, refused.text, renaming).entry
    if refused.entry is not None and renamed is not None and renamed.staging == "volume":
        VolumeStaging(settings.staging_path).share(tenant_id, refused.entry, renamed)


def _run(
    client: redis.Redis, settings: Settings, tenant_id: str, plans: list[_Plan], *, by_turn: bool
) -> list[str]:
    names = [
        keys.arrivals(tenant_id),
        keys.ARRIVING,
        keys.inbox(tenant_id),
        keys.WAITING,
        keys.wake(tenant_id),
        keys.DEAD,
        keys.LOAD,
        keys.TOTALS,
        keys.arriving(tenant_id),
    ]
    life_ms = int(wakeups.FLAG_LIFE_S * 1000) if by_turn else 0
    arguments: list[Any] = [tenant_id, settings.receipt_ttl_s, life_ms]
    for plan in plans:
        entry = plan.entry
        backup_id = "" if entry is None else entry.backup_id
        digest = "" if entry is None else entry.digest(tenant_id)
        names += [
            keys.result(backup_id),
            keys.staged(tenant_id, backup_id),
            keys.arrived(tenant_id, plan.name),
        ]
        arguments += [
            plan.text,
            "1" if plan.good else "0",
            backup_id,
            digest,
            plan.entry_text,
            "" if entry is None else receipts.pending_record(backup_id, digest, tenant_id),
            0 if entry is None else entry.size_bytes,
            plan.signature or "",
            plan.at_ms,
            plan.own_id,
        ]
    with broker_errors():
        found: Any = scripts.load("admit").run(client, names, arguments)
    return [outcome.decode() for outcome in found]


def marked(client: redis.Redis) -> set[str]:
    """The tenants that producers marked as having arrivals.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    pipe = client.pipeline(transaction=False)
    pipe.hkeys(keys.ARRIVING)
    (fields,) = redis_values.answers(pipe)
    # Producers may write any field name.
    tenants = (redis_values.tenant_of(field) for field in fields or ())
    return {tenant_id for tenant_id in tenants if tenant_id is not None}


def lengths(client: redis.Redis, tenant_ids: Collection[str]) -> dict[str, int]:
    """The number of arrivals of each tenant, in one round trip.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    if not tenant_ids:
        return {}
    pipe = client.pipeline(transaction=False)
    for tenant_id in tenant_ids:
        pipe.llen(keys.arrivals(tenant_id))
    found = redis_values.answers(pipe)
    return {tenant_id: length or 0 for tenant_id, length in zip(tenant_ids, found, strict=True)}


def handed_over_ms(text: bytes | None) -> int | None:
    """When an arrival was handed over, in ms of the server's clock; None if unreadable."""
    try:
        return None if text is None else Arrival.from_json(text).at_ms
    except PoisonedBackup:
        return None


def peek(client: redis.Redis, tenant_id: str) -> list[tuple[Arrival, Entry]]:
    """A tenant's readable arrivals, oldest first.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    found = []
    for text in _texts(client, tenant_id):
        try:
            arrival = Arrival.from_json(text)
            found.append((arrival, Entry.from_json(arrival.entry)))
        except PoisonedBackup:
            continue
    return found


def _texts(client: redis.Redis, tenant_id: str, most: int = 0) -> list[bytes]:
    """A tenant's oldest `most` arrivals, or all; empty if the key holds no list."""
    pipe = client.pipeline(transaction=False)
    pipe.lrange(keys.arrivals(tenant_id), 0, most - 1)
    (texts,) = redis_values.answers(pipe)
    return texts or []


def holds(client: redis.Redis, backup_id: str) -> bool:
    """Whether a backup is among the arrivals of any tenant. Reads all arrivals.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    return any(
        entry.backup_id == backup_id
        for tenant_id in marked(client)
        for _arrival, entry in peek(client, tenant_id)
    )
