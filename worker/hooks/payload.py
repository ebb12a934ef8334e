"""What a webhook sends: the event as JSON, never any text of a configuration."""

from __future__ import annotations

import json
from typing import Any, Final

from confkeep.queue.events import Event
from worker.masking.mask import mask

#: Most bytes of a payload, as Standard Webhooks advises.
MOST_BYTES: Final = 20_000
#: Most characters of each text and most members of each list in an event that is too large, tried in turn.
_SHORTER: Final = ((1_000, 50), (200, 10), (60, 2))
#: What may quote a line of a capture that is an error or a terminal's, which may hold a password.
_QUOTING: Final = frozenset({"suspect", "warnings", "reason"})


def payload_of(event: Event, public_url: str = "") -> str:
    """The body of the request, at most `MOST_BYTES` of ASCII; the same event gives the same one.

    Args:
        public_url: where people reach `confkeep http`; empty: no link.
    """
    values = event.model_dump(mode="json")
    # Where Standard Webhooks has the moment of the event.
    values["timestamp"] = values["at"]
    link = link_of(event, public_url)
    if link is not None:
        values["link"] = link
    data = values["data"] = {
        name: _masked(value) if name in _QUOTING else value
        for name, value in values["data"].items()
    }
    text = json.dumps(values)
    for characters, members in _SHORTER:
        if len(text) <= MOST_BYTES:
            return text
        text = json.dumps({**values, "data": _cut(data, characters, members), "cut": True})
    return text if len(text) <= MOST_BYTES else json.dumps({**values, "data": {}, "cut": True})


def link_of(event: Event, public_url: str) -> str | None:
    """Where to read what an event is about; None if that is nowhere."""
    if not public_url or event.tenant_id is None or event.device_id is None:
        return None
    device = f"{public_url}/v1/tenants/{event.tenant_id}/devices/{event.device_id}"
    sha = event.data.get("sha")
    return f"{device}/versions/{sha}" if sha else device


def _masked(value: Any) -> Any:
    if isinstance(value, list):
        return [_masked(one) for one in value]
    return mask(value.encode()).decode() if isinstance(value, str) else value


def _cut(value: Any, characters: int, members: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= characters else value[:characters] + "..."
    if isinstance(value, list):
        return [_cut(one, characters, members) for one in value[:members]]
    if isinstance(value, dict):
        return {
            name: _cut(one, characters, members)
            for name, one in list(value.items())[: 10 * members]
        }
    return value
