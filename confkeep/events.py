"""Follow what happens: each commit, and what else a portal or a person wants to hear of, as events."""

from __future__ import annotations

from dataclasses import dataclass

from confkeep.queue.events import Event as Event


@dataclass(frozen=True, slots=True)
class Page:
    """Some events, in order."""

    events: list[Event]
    #: Where to go on after all of them; also after what a filter left out.
    cursor: str
