"""Events: what each says, its id, and the stream `confkeep:events` that the scripts write."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final

import redis
from pydantic import AwareDatetime, BaseModel, ConfigDict, PrivateAttr

from confkeep.broker import keys, redis_values, scripts
from confkeep.broker.connections import broker_errors
from confkeep.models import Identifier
from confkeep.settings import Settings

COMMITTED: Final = "backup.committed"
RENAMED: Final = "device.renamed"
DEAD: Final = "backup.dead"
STALLED: Final = "tenant.stalled"
RESUMED: Final = "tenant.resumed"
STALE: Final = "device.stale"
FRESH: Final = "device.fresh"
FORGOTTEN: Final = "device.forgotten"
RETENTION: Final = "retention.applied"
REQUESTED: Final = "capture.requested"
HOOK_DISABLED: Final = "hook.disabled"
#: Told to a reader whose place in the stream is gone: see docs/events.md.
SKIPPED: Final = "events.skipped"

#: Every type of event, with what it says.
TYPES: Final = {
    COMMITTED: "a backup was committed",
    RENAMED: "a device, or the tenant, got other labels by a naming",
    DEAD: "a backup became a dead letter",
    STALLED: "a tenant's commits failed five times in a row",
    RESUMED: "a stalled tenant goes on",
    STALE: "a device had no backup for too long",
    FRESH: "a stale device had a backup again",
    FORGOTTEN: "a device, or the whole tenant, was erased",
    RETENTION: "retention removed captures or binaries, or its last removal was undone",
    REQUESTED: "somebody wants a capture of a device now",
    HOOK_DISABLED: "a webhook was switched off",
    SKIPPED: "events of other types than those of commits may be missing before this one",
}
#: Types that git answers too: one event for each commit of confkeep's.
OF_COMMITS: Final = frozenset({COMMITTED, RENAMED})

_NAMESPACE: Final = uuid.UUID("6f2f6d6c-5e0b-5d6e-9f0a-3c1f5b7f4a11")


class Event(BaseModel):
    """One thing that happened."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    #: The same however often, and from wherever, the event is delivered.
    id: Identifier
    #: One of `TYPES`, or of a later release.
    type: str
    at: AwareDatetime
    tenant_id: Identifier | None = None
    device_id: Identifier | None = None
    #: What is said of it: docs/events.md lists it by type. JSON values.
    data: dict[str, Any]

    _cursor: Callable[[], str] | None = PrivateAttr(None)

    @property
    def cursor(self) -> str:
        """Where a reader goes on that has dealt with this event. Empty if no reader delivered it."""
        return "" if self._cursor is None else self._cursor()

    def to_json(self) -> str:
        """The event as JSON text, ASCII; times in UTC."""
        return json.dumps(self.model_dump(mode="json"))


def event_id(type_: str, *parts: object) -> str:
    """The id of the event of that type about that thing: the same in every process."""
    return str(uuid.uuid5(_NAMESPACE, "\n".join((type_, *map(str, parts)))))


def new(
    type_: str,
    tenant_id: str | None,
    device_id: str | None = None,
    *,
    data: dict[str, Any],
    about: Sequence[object],
    at: dt.datetime | None = None,
) -> Event:
    """An event.

    Args:
        about: what tells it from every other event of its type: its id is made of it.
        at: when it happened; None: now.
    """
    # Not validated again: its caller's values were validated when they came in, and readers validate what they read.
    return Event.model_construct(
        id=event_id(type_, *about),
        type=type_,
        at=at or dt.datetime.now(dt.UTC),
        tenant_id=tenant_id,
        device_id=device_id,
        data=data,
    )


def emit(client: redis.Redis, settings: Settings, *events: Event) -> None:
    """Write events that no other script writes.

    Raises:
        BrokerUnavailable: Redis did not answer; the events may be written. Repeating does no harm:
            readers know them by their ids.
    """
    with broker_errors():
        scripts.load("emit").run(
            client, [keys.EVENTS], [settings.events_max, *(event.to_json() for event in events)]
        )


def parse(text: bytes | None) -> Event | None:
    """An event from the stream; None if confkeep did not write it."""
    try:
        return Event.model_validate(redis_values.object_of(text or b""))
    except ValueError:
        return None
