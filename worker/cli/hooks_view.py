"""How hooks and their deliveries read: for a person, and as JSON."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

from rich.text import Text

from worker.cli.called import tenant_name, tenant_text
from worker.cli.terminal import age_text, count_text
from worker.hooks.hook import Hook
from worker.hooks.hook_store import Kept
from worker.hooks.progress import Delivery, Progress


def wanted_text(hook: Hook) -> str:
    """What a hook is told of."""
    tenants = ", ".join(tenant_text(tenant) for tenant in hook.tenants[:2])
    if len(hook.tenants) > 2:
        tenants = count_text(len(hook.tenants), "tenant")
    types = ", ".join(hook.types) or "all"
    changed = " (changes)" if hook.changed_only else ""
    return f"{types}{changed}" + (f" of {tenants}" if tenants else "")


def state_of(kept: Kept) -> str:
    """`new`, `ok`, `failing` or `off`."""
    progress = kept.progress
    if progress is None:
        return "new"
    if progress.off:
        return "off"
    return "failing" if progress.tries else "ok"


def state_text(kept: Kept) -> Text:
    """The state and since when, in its colour."""
    state = state_of(kept)
    style = {"off": "bold red", "failing": "red", "ok": "green"}.get(state, "")
    progress = kept.progress
    if progress is not None and state in ("off", "failing"):
        since_ms = progress.off_ms or progress.failing_since_ms
        state += f" for {age_text(max(0.0, time.time() - since_ms / 1000))}"
    return Text(state, style=style)


def moment_of(at_ms: int) -> dt.datetime:
    """A moment, from milliseconds since 1970."""
    return dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC)


def hook_json(kept: Kept) -> dict[str, Any]:
    """A hook for `--json`, without its secret."""
    hook = kept.hook
    # One to whom nobody has begun to send yet has all of these at their defaults.
    progress = kept.progress or Progress("")

    def moment(at_ms: int) -> str | None:
        return moment_of(at_ms).isoformat() if at_ms else None

    return {
        "name": hook.name,
        "url": hook.shown_url,
        "tenants": list(hook.tenants) or None,
        "tenant_names": [tenant_name(tenant) for tenant in hook.tenants] or None,
        "types": list(hook.types) or None,
        "changed_only": hook.changed_only,
        "in_file": kept.in_file,
        "state": state_of(kept),
        "delivered": progress.delivered,
        "delivered_at": moment(progress.delivered_ms),
        "failing_since": moment(progress.failing_since_ms),
        "tries": progress.tries,
        "next_try_at": moment(progress.next_ms),
        "off_since": moment(progress.off_ms),
        "problem": progress.problem or None,
    }


def delivery_json(one: Delivery) -> dict[str, Any]:
    """A delivery for `--json`."""
    return {
        "at": moment_of(one.at_ms).isoformat(timespec="milliseconds"),
        "event_id": one.event_id,
        "event_type": one.event_type,
        "number": one.number,
        "status": one.status,
        "problem": one.problem or None,
        "took_ms": one.took_ms,
    }
