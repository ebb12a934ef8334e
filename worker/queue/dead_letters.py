"""Dead letters: backups that cannot be committed, kept whole with the reason until a person decides.

Each function that asks Redis raises BrokerUnavailable if it does not answer.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from dataclasses import dataclass
from typing import Final

import redis

from confkeep.broker import keys, redis_values, scripts
from confkeep.broker.connections import broker_errors
from confkeep.errors import (
    BackupIdConflict,
    ConfkeepError,
    EntryMissing,
    InboxFull,
    InvalidId,
    OddValue,
    PoisonedBackup,
)
from confkeep.ids import checked_uuid
from confkeep.queue import acceptance, events, receipts, staging
from confkeep.queue.acceptance import Submission
from confkeep.queue.entry import Entry, check_signature
from confkeep.queue.events import Event
from confkeep.queue.receipts import Outcome
from confkeep.settings import Settings
from confkeep.wording import waiting_text
from worker.queue import totals
from worker.queue.inbox import Inbox, Unreadable

#: Why a backup that waits without an entry cannot be committed.
LOST: Final = "its entry is not in the inbox any more: hand the backup over again"
#: Most bytes of a letter: of an entry as JSON in JSON.
_MOST_BYTES: Final = 16 * redis_values.MOST_BYTES
#: How the ids of letters begin whose entries nobody of ours signed.
_UNSIGNED: Final = "unsigned-"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A backup that cannot be committed. Its staged bytes are where they were."""

    tenant_id: str
    backup_id: str
    #: None if what stood in the inbox was no entry.
    device_id: str | None
    reason: str
    #: The error's class.
    kind: str
    #: ISO 8601, UTC.
    died_at: str
    #: The inbox entry, as it stood there.
    entry: str = dataclasses.field(repr=False)
    #: The entry's signature; None if it has none.
    signature: str | None = None

    @property
    def device_name(self) -> str | None:
        """The label that came with it; None if there was none, or the entry cannot be read."""
        entry = entry_of(self)
        return None if entry is None else entry.device_name

    @property
    def unsigned_id(self) -> str | None:
        """The backup_id in an entry that none of our keys signed; None for all other letters.

        It may be the id of a real backup: such a letter has an id of its own and owns no bytes.
        """
        if not self.backup_id.startswith(_UNSIGNED):
            return None
        entry = entry_of(self)
        return None if entry is None else entry.backup_id


def bury(
    inbox: Inbox,
    entry: Entry,
    error: ConfkeepError,
    signature: str | None = None,
    text: bytes = b"",
) -> DeadLetter:
    """Keep a backup as a dead letter. Calling it again changes nothing.

    Args:
        signature: that of its entry, kept with it.
        text: the entry as it stood in the inbox, which a later release may have written; empty: as
            we write it.
    """
    letter = DeadLetter(
        tenant_id=inbox.tenant_id,
        backup_id=entry.backup_id,
        device_id=entry.device_id,
        reason=str(error),
        kind=type(error).__name__,
        died_at=_now(),
        entry=text.decode() or entry.to_json(),
        signature=signature,
    )
    _put(inbox.client, letter)
    return letter


def event_of(letter: DeadLetter, stream_id: str) -> Event:
    """The event that tells of a dead letter.

    Args:
        stream_id: that of its inbox entry. A letter that is put back may die once more.
    """
    return events.new(
        events.DEAD,
        letter.tenant_id,
        letter.device_id,
        data={
            "backup_id": letter.backup_id,
            "device_name": letter.device_name,
            "kind": letter.kind,
            "reason": letter.reason,
        },
        about=(letter.tenant_id, letter.backup_id, stream_id),
        at=dt.datetime.fromisoformat(letter.died_at),
    )


def bury_unreadable(inbox: Inbox, found: Unreadable, outcome: Outcome | None = None) -> None:
    """Move what stood in an inbox and is no entry of ours to the dead letters.

    It gets an id of its own and touches nothing of the backup that it may name: neither that one's
    dead letter nor its bytes.

    Args:
        outcome: what is published for a backup that waits for it.
    """
    kind = "unreadable-" if found.entry is None else _UNSIGNED
    letter = DeadLetter(
        tenant_id=inbox.tenant_id,
        backup_id=f"{kind}{inbox.tenant_id}-{found.stream_id}",
        device_id=None if found.entry is None else found.entry.device_id,
        reason=str(found.error),
        kind=type(found.error).__name__,
        died_at=_now(),
        entry=found.text,
    )
    _put(inbox.client, letter)
    name = found.stream_id
    inbox.settle(
        [found],
        outcomes={} if outcome is None else {name: outcome},
        marks={name: totals.DEAD},
        events={name: event_of(letter, name)},
    )


def lose(inbox: Inbox, backup_id: str, record: bytes) -> bool:
    """Make a dead letter of a backup whose entry is lost, unless it was accepted again.

    Args:
        record: its record, as it was read.

    Returns:
        Whether it is a dead letter now.
    """
    error = EntryMissing(LOST)
    letter = DeadLetter(
        tenant_id=inbox.tenant_id,
        backup_id=backup_id,
        device_id=None,
        reason=str(error),
        kind=type(error).__name__,
        died_at=_now(),
        entry="",
    )
    outcome = Outcome(backup_id, json.loads(record).get("accepted"), error)
    names = [
        keys.result(backup_id),
        keys.inbox(inbox.tenant_id),
        keys.DEAD,
        keys.TOTALS,
        keys.EVENTS,
    ]
    arguments = [
        backup_id,
        record,
        json.dumps(dataclasses.asdict(letter)),
        receipts.final_record(backup_id, outcome),
        inbox.settings.receipt_ttl_s,
        inbox.settings.events_max,
        event_of(letter, str(json.loads(record).get("entry"))).to_json(),
    ]
    with broker_errors():
        return bool(scripts.load("lose").run(inbox.client, names, arguments))


def list_dead_letters(client: redis.Redis) -> list[DeadLetter]:
    """All dead letters, oldest first. Anything else among them comes as a letter that says so."""
    found = redis_values.answer(client.hgetall, keys.DEAD)
    letters = [_parse(name, text) or _odd(name) for name, text in (found or {}).items()]
    return sorted(letters, key=lambda letter: (letter.died_at, letter.backup_id))


def get(client: redis.Redis, backup_id: str) -> DeadLetter:
    """One dead letter.

    Raises:
        InvalidId: there is none of that id.
        BrokerUnavailable: Redis did not answer.
    """
    name = redis_values.raw_name(backup_id)
    found = redis_values.answer(client.hget, keys.DEAD, name)
    if found is None:
        raise InvalidId(
            "backup_id",
            "no dead letter has that id",
            hint="`confkeep dead-letters list` lists them.",
        )
    return _parse(name, found) or _odd(name)


def is_readable(name: bytes, text: bytes) -> bool:
    """Whether what is kept under a name is a dead letter."""
    return _parse(name, text) is not None


def entry_of(letter: DeadLetter) -> Entry | None:
    """The entry in a letter; None if what stood in the inbox was no entry."""
    try:
        return Entry.from_json(letter.entry)
    except PoisonedBackup:
        return None


def _parse(name: bytes, text: bytes) -> DeadLetter | None:
    """A letter; None if confkeep did not write it. Ignores fields of a later release."""
    try:
        values = redis_values.object_of(text, most_bytes=_MOST_BYTES)
        letter = redis_values.record_of(DeadLetter, values)
        checked_uuid("tenant_id", letter.tenant_id)
    except ValueError:
        return None
    return letter if redis_values.raw_name(letter.backup_id) == name else None


def _odd(name: bytes) -> DeadLetter:
    """A letter that stands for something else, so that a person sees it and can discard it."""
    return DeadLetter(
        tenant_id="unknown",
        backup_id=redis_values.name_of(name),
        device_id=None,
        reason=f"what {keys.DEAD} holds under this id is no dead letter of confkeep's",
        kind=OddValue.__name__,
        died_at="unknown",
        entry="",
    )


def retry(
    client: redis.Redis, settings: Settings, backup_id: str, *, vouch: bool = False
) -> DeadLetter:
    """Put a dead letter back at the tail of its tenant's inbox, under the same backup_id.

    If nothing has changed, it becomes a dead letter again. With signing keys, the first key signs it
    again, if its signature is good.

    Args:
        vouch: sign it even if its signature is wrong, since a person has looked at it.

    Raises:
        InvalidId: there is none of that id.
        PoisonedBackup: what stood in the inbox was no entry, so there is nothing to commit.
        EntryMissing: what was to be committed is not known any more.
        NotSigned: none of the keys made its signature, and nobody vouches for it.
        InboxFull: too much waits already.
        BackupIdConflict: the id was accepted since for another backup.
        BrokerUnavailable: Redis did not answer.
    """
    letter = get(client, backup_id)
    if letter.kind == EntryMissing.__name__:
        raise EntryMissing(letter.reason)
    entry = Entry.from_json(letter.entry)
    if not vouch:
        text = letter.entry.encode("utf-8", "surrogateescape")
        check_signature(settings, letter.tenant_id, text, letter.signature)
    [answer] = acceptance.accept(
        client, settings, [Submission(letter.tenant_id, entry, data=None, reply_to=None)]
    )
    if answer.outcome.endswith("full"):
        raise InboxFull(waiting_text(answer.entries, answer.bytes))
    if answer.outcome == "conflict":
        raise BackupIdConflict("backup_id", "its id was accepted since for another backup")
    if answer.outcome == "garbled":
        raise receipts.garbled(entry.backup_id)
    if answer.outcome == "stuck":
        raise OddValue(f"{keys.inbox(letter.tenant_id)} takes no entry")
    if entry.backup_id != backup_id:
        with broker_errors():
            client.hdel(keys.DEAD, redis_values.raw_name(backup_id))
    return letter


def discard(client: redis.Redis, settings: Settings, backup_id: str) -> DeadLetter:
    """Delete a dead letter and its bytes for good.

    Raises:
        InvalidId: there is none of that id.
        BrokerUnavailable, StagingUnavailable: what is left can be discarded again.
    """
    letter = get(client, backup_id)
    if letter.device_id is not None and letter.unsigned_id is None:
        entry = entry_of(letter)
        if entry is not None and entry.staging == "volume":
            staging.of_entry(entry, settings, client).discard(letter.tenant_id, [entry])
    name = redis_values.raw_name(backup_id)
    with broker_errors():
        pipe = client.pipeline(transaction=True)
        # In this order: bytes that are left behind are tidied, a letter without bytes is not.
        pipe.hdel(keys.DEAD, name)
        pipe.delete(keys.staged(letter.tenant_id, "").encode() + name)
        pipe.execute()
    return letter


def unsigned_ids(client: redis.Redis) -> set[str]:
    """The backup_ids in unsigned dead letters: a person may still want their bytes."""
    named = (letter.unsigned_id for letter in list_dead_letters(client))
    return {backup_id for backup_id in named if backup_id is not None}


def _put(client: redis.Redis, letter: DeadLetter) -> None:
    text = json.dumps(dataclasses.asdict(letter))
    with broker_errors():
        scripts.load("put").run(client, [keys.DEAD], [letter.backup_id, text])


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
