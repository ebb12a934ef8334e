"""How events look that tell of a state's beginning or end, on the pages and in `confkeep events`."""

from __future__ import annotations

from typing import Final

from confkeep.queue import events
from worker.observe.states import DEAD, STALE, STALLED, Role

ROLES: Final[dict[str, Role]] = {
    events.DEAD: DEAD.role,
    events.STALLED: STALLED.role,
    events.RESUMED: "good",
    events.STALE: STALE.role,
    events.FRESH: "good",
    events.HOOK_DISABLED: "bad",
}
