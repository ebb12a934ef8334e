"""Tells of an outage of the server: a line when it begins, one a minute, and one when it is over.

The consumer and the sweep of a worker meet the same outage many times a second; Celery would write a
line for each. They say here what they meet, and `quiet_celery` holds back what Celery says of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from confkeep.broker.broker_faults import explain, is_outage
from confkeep.observe.logs import get_logger

log = get_logger("outage")

#: Seconds between two lines while it lasts.
REPEAT_S: Final = 60.0


#: Who may meet one: the connection that takes messages, and the thread that sweeps.
CONSUMER: Final = "consumer"
SWEEP: Final = "sweep"


class Outage:
    """What a process knows of its server. Safe to share between threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        #: Who meets the outage; empty if there is none.
        self._met_by: set[str] = set()
        self._began = self._told = 0.0

    @property
    def lasts(self) -> bool:
        """Whether somebody met it and did not get through since."""
        return bool(self._met_by)

    def met(self, who: str, error: BaseException) -> None:
        """Note that `who` was refused, or got no answer."""
        now = self._clock()
        with self._lock:
            begins = not self._met_by
            if begins:
                self._began = now
            self._met_by.add(who)
            if not begins and now - self._told < REPEAT_S:
                return
            self._told = now
        fault = explain(error)
        log.warning(
            "Redis is away; waiting for it",
            action="broker.away",
            error=str(fault),
            hint=fault.hint,
            seconds=round(now - self._began, 1),
        )

    def passed(self, who: str) -> None:
        """Note that `who` got through."""
        if who not in self._met_by:
            return
        with self._lock:
            self._met_by.discard(who)
            if self._met_by:
                return
            lasted = self._clock() - self._began
        log.warning("Redis is back", action="broker.back", seconds=round(lasted, 1))


#: What this process knows.
outage: Final = Outage()

#: Loggers, and how the lines begin that Celery and kombu log at each try or loss.
_OF_EACH_TRY: Final = {
    "celery.worker.consumer.consumer": (
        "consumer: Connection to broker lost",
        "consumer: Cannot connect to",
        "Frequent restarts detected",
        "Temporarily reducing the prefetch count",
        "Resuming normal operations",
    ),
    "celery.worker.consumer.connection": ("Connected to",),
    "celery.worker.request": ("Couldn't ack", "Couldn't reject"),
    "celery.bootsteps": ("Error on",),
    "kombu.transport.redis": ("Redis BRPOP got no reply", "Redis pub/sub connection missed"),
}
#: What Celery says, with a traceback, before it hands the error that it met to the consumer.
_LOOPS: Final = "celery.worker.loops"


def quiet_celery() -> None:
    """Drop Celery's lines about each try while an outage lasts."""
    for name in _OF_EACH_TRY:
        logging.getLogger(name).addFilter(_is_worth_it)
    logging.getLogger(_LOOPS).addFilter(_is_no_outage)


def _is_worth_it(record: logging.LogRecord) -> bool:
    return not outage.lasts or not record.getMessage().startswith(_OF_EACH_TRY[record.name])


def _is_no_outage(record: logging.LogRecord) -> bool:
    """Celery cleans up after the loop before the consumer can tell of the outage that ended it."""
    error = record.exc_info[1] if record.exc_info else None
    return error is None or not is_outage(error)
