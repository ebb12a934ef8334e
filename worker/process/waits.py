"""Tells people of a tenant that waits after a fault: why, what to do, and when it is over.

A tenant's turn is tried again for ever, later and later. A line for each try would fill the log: there
is a warning at the first one, an error when the tenant stalls, and a line when it goes on.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from confkeep import errors
from confkeep.broker.broker_faults import explain
from confkeep.errors import ConfkeepError
from confkeep.observe.logs import get_logger
from confkeep.queue import wakeups
from confkeep.settings import Settings
from worker.queue.backoff import STALLED_TRIES, Backoff, Noted
from worker.store.git import refusals

log = get_logger("waits")

#: Seconds within which a process logs the same about a tenant only once: on a disk that is nearly
#: full, a tenant may fail and go on every second.
_ONCE_IN_S: Final = 60.0
#: Most tenants to remember for this.
_MOST_REMEMBERED: Final = 10_000

#: A tenant's id: the names of its files begin with it.
_TENANT: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UNFORESEEN: Final = "The worker's log says more."


def advice(reason: str, settings: Settings, tenant_id: str | None = None) -> str:
    """What a person can do about a fault.

    Args:
        reason: the error's class, a colon and its text, as a tenant's wait has it.
        tenant_id: if None, the tenant that the reason names, if any.
    """
    found = _TENANT.search(reason)
    tenant = tenant_id or (found[0] if found else "TENANT")
    name, _, text = reason.partition(":")
    where = settings.staging_path if name == "StagingUnavailable" else settings.git_store_path
    kind = getattr(errors, name, None)
    hint = _UNFORESEEN
    if isinstance(kind, type) and issubclass(kind, ConfkeepError):
        hint = kind.hint
        if issubclass(kind, errors.StoreUnavailable | errors.StagingUnavailable):
            hint = refusals.next_step(text, where) or hint
    return f"{hint} It goes on by itself within a minute, or at once with `confkeep kick {tenant}`."


class _Teller:
    """Remembers what this process logged lately. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._told: dict[tuple[str, str], float] = {}

    def is_news(self, what: str, tenant_id: str) -> bool:
        """Whether it was not logged within the last minute; marks it as logged."""
        now = self._clock()
        with self._lock:
            # Put it at the end: the oldest come first.
            last = self._told.pop((what, tenant_id), None)
            if last is not None and now - last < _ONCE_IN_S:
                self._told[what, tenant_id] = last
                return False
            self._told[what, tenant_id] = now
            if len(self._told) > _MOST_REMEMBERED:
                del self._told[next(iter(self._told))]
        return True


_teller = _Teller()


def tell_failed(settings: Settings, tenant_id: str, noted: Noted) -> None:
    """Tell of a turn that failed, if it is the first one or the one that makes the tenant stall."""
    if noted.tries == 1 and _teller.is_news("waits", tenant_id):
        log.warning(
            "a tenant waits after a fault",
            action="tenant.waits",
            tenant_id=tenant_id,
            reason=noted.reason,
            hint=advice(noted.reason, settings, tenant_id),
        )
    elif noted.tries == STALLED_TRIES:
        log.error(
            "a tenant is stalled",
            action="tenant.stalled",
            tenant_id=tenant_id,
            tries=noted.tries,
            reason=noted.reason,
            hint=advice(noted.reason, settings, tenant_id),
        )


def tell_over(tenant_id: str, wait: Backoff, now_ms: int, waited: int) -> None:
    """Tell that a tenant goes on after `wait`, and how many backups waited."""
    if _teller.is_news("over", tenant_id) or wait.stalled:
        log.warning(
            "a tenant goes on after its wait",
            action="tenant.goes_on",
            tenant_id=tenant_id,
            seconds=round(max(0, now_ms - wait.since_ms) / 1000, 1),
            backups=waited,
            reason=wait.reason,
        )


def tell_away(tenant_id: str, error: BaseException) -> None:
    """Tell of a turn that ended because the server is away. The worker tells how long that lasts."""
    if _teller.is_news("away", ""):
        log.info(
            "a turn ended because Redis is away",
            action="turn.away",
            tenant_id=tenant_id,
            error=str(explain(error)),
        )


#: Tasks that workers send themselves: a line for each would fill the log.
_OWN_TASKS: Final = (wakeups.COMMIT_TASK, wakeups.STALE_TASK)
#: How Celery's lines of each begin.
_OF_EACH: Final = tuple(
    f"Task %(name)s[%(id)s] {what}" for what in ("received", "succeeded in", "retry")
)


def quiet_celery() -> None:
    """Hold back Celery's lines of tasks that workers send themselves: our own lines tell what became of them."""
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).addFilter(_is_worth_it)


def _is_worth_it(record: logging.LogRecord) -> bool:
    told: Any = record.args
    is_own = isinstance(told, dict) and told.get("name") in _OWN_TASKS
    return not (is_own and record.msg.startswith(_OF_EACH))
