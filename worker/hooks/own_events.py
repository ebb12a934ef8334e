"""Events about hooks themselves: that one was switched off, and a try by hand."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Final

from confkeep.queue.events import HOOK_DISABLED, Event, new
from worker.hooks.hook import Hook
from worker.hooks.progress import Progress

#: No reader delivers it: it is sent by hand.
TEST: Final = "hook.test"


def disabled(hook: Hook, before: Progress, after: Progress) -> Event:
    """A hook was switched off. Told twice after a crash, it has the same id."""
    return new(
        HOOK_DISABLED,
        None,
        data={"hook": hook.name, "reason": after.off_reason},
        about=(hook.name, before.resumed, before.delivered),
        at=dt.datetime.fromtimestamp(after.off_ms / 1000, dt.UTC),
    )


def tested(hook: Hook) -> Event:
    """A person tries a hook."""
    return new(TEST, None, data={"hook": hook.name}, about=(uuid.uuid4(),))
