"""How far a hook has come, when it tries again, and when it is off."""

from __future__ import annotations

import dataclasses
import json
import random
from dataclasses import dataclass, field, replace
from typing import Final, Self

from confkeep.broker import redis_values

#: Seconds until the first retry. Each next one waits twice as long, up to the most.
FIRST_WAIT_S: Final = 1.0
MOST_WAIT_S: Final = 900.0
#: Seconds of failed tries of one event after which a hook is off: three days.
GIVE_UP_S: Final = 3 * 86_400.0
#: A wait is longer or shorter by up to this part, so that hooks of one receiver do not come at once.
_JITTER: Final = 0.2
#: Most seconds that a receiver may ask us to wait by `Retry-After`.
_MOST_ASKED_S: Final = 3_600.0
#: Most bytes of a progress as JSON; a cursor over many tenants is long.
_MOST_BYTES: Final = 8 * 1024 * 1024

#: Why a hook is off.
GONE: Final = "the receiver answered 410: it wants no more"
GIVEN_UP: Final = "the receiver took nothing for three days"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a hook has come.

    What `cursor` stands behind is delivered, and of what follows that whose ids are in `done`. It is
    noted after each delivery: whoever goes on after a crash repeats at most the delivery that was under
    way, with the same id.
    """

    #: Of `worker.engine.events`.
    cursor: str
    #: Ids of events behind the cursor that are delivered.
    done: list[str] = field(default_factory=list)
    #: Failed tries of the next event.
    tries: int = 0
    #: When the first of them was, and when the next one is due; 0: now.
    failing_since_ms: int = 0
    next_ms: int = 0
    #: What went wrong at the last try.
    problem: str = ""
    #: When and why it was switched off; 0: it is on.
    off_ms: int = 0
    off_reason: str = ""
    #: Events that were delivered in all, and when the last one was.
    delivered: int = 0
    delivered_ms: int = 0
    #: How often a person switched it on again.
    resumed: int = 0

    @classmethod
    def parse(cls, text: bytes) -> Self | None:
        """What `to_json` wrote; None for anything else."""
        try:
            values = redis_values.object_of(text, most_bytes=_MOST_BYTES)
            found = redis_values.record_of(cls, values)
        except ValueError:
            return None
        return found if all(isinstance(one, str) for one in found.done) else None

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @property
    def off(self) -> bool:
        return self.off_ms > 0

    def moved(self, cursor: str) -> Progress:
        """All up to `cursor` is delivered, or of no interest."""
        return replace(self, cursor=cursor, done=[])

    def succeeded(self, event_id: str, now_ms: int) -> Progress:
        """An event was delivered."""
        return replace(
            self._after_failures(),
            done=[*self.done, event_id],
            delivered=self.delivered + 1,
            delivered_ms=now_ms,
        )

    def failed(self, problem: str, now_ms: int, asked_s: float = 0.0) -> Progress:
        """An event was not delivered: when to try again, or that it is over.

        Args:
            asked_s: seconds that the receiver asked us to wait.
        """
        since_ms = self.failing_since_ms or now_ms
        tries = self.tries + 1
        if now_ms - since_ms >= GIVE_UP_S * 1000:
            return replace(self.ended(GIVEN_UP, now_ms), tries=tries, problem=problem)
        wait_s = min(FIRST_WAIT_S * 2.0 ** min(tries - 1, 30), MOST_WAIT_S)
        wait_s *= random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret
        wait_s = max(wait_s, min(asked_s, _MOST_ASKED_S))
        return replace(
            self,
            tries=tries,
            failing_since_ms=since_ms,
            next_ms=now_ms + round(wait_s * 1000),
            problem=problem,
        )

    def ended(self, reason: str, now_ms: int) -> Progress:
        """It is off from now on. What it has not delivered stays behind its cursor."""
        return replace(self, off_ms=now_ms, off_reason=reason, problem=reason)

    def on_again(self) -> Progress:
        """It is on, and its next try comes at once."""
        resumed = self.resumed + 1
        return replace(self._after_failures(), off_ms=0, off_reason="", resumed=resumed)

    def _after_failures(self) -> Progress:
        return replace(self, tries=0, failing_since_ms=0, next_ms=0, problem="")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One try to deliver an event, for `confkeep hooks log`. It names no device."""

    hook: str
    #: Milliseconds since 1970.
    at_ms: int
    #: The event's id, which is the `webhook-id`.
    event_id: str
    event_type: str
    #: Which try of this event it was, from 1.
    number: int
    #: The status of the answer; 0: there was none.
    status: int
    #: What went wrong; empty: it was delivered.
    problem: str
    took_ms: int

    @classmethod
    def parse(cls, text: bytes) -> Self | None:
        """What `to_json` wrote; None for anything else."""
        try:
            return redis_values.record_of(cls, redis_values.object_of(text))
        except ValueError:
            return None

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))
