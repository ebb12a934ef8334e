"""Logs unforeseen errors of our threads, the same one once a minute, and remembers the last.

Nobody notices when a thread ends with an error: the sweep that wakes lost tenants, the
renewal of a lock, the figures of a scrape would just be gone until the worker is started again. So
each of our threads catches whatever comes, notes it here and goes on; health and `status` show it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

from confkeep.observe.log_scrub import describe

#: Seconds within which the same is logged once.
_AGAIN_S: Final = 60.0
#: Most different errors to remember.
_MOST: Final = 100
#: Seconds for which the last error is shown.
SHOWN_S: Final = 600.0

_lock = threading.Lock()
_logged: dict[tuple[str, str, int], float] = {}


#: The last error: the thread, what it did and what it met, and when.
_last: tuple[str, float] = ("", -SHOWN_S)
_listeners: list[Callable[[str], None]] = []


def note(log: Any, thread: str, what: str, error: Exception) -> None:
    """Log an error with where it comes from, and remember it. Never raises.

    Args:
        log: the logger of the thread's module.
        thread: the thread's name.
        what: what it was about to do, without any payload.
    """
    global _last
    now = time.monotonic()
    text = f"{thread}: {what}: {describe(error)}"
    with _lock:
        _last = text, now
        is_new = _is_new(_place(error, what), now)
    for listener in _listeners:
        listener(text)
    if is_new:
        log.error(
            "a thread met an unforeseen error, and goes on",
            action="thread.trouble",
            in_thread=thread,
            what=what,
            error=describe(error),
            exc_info=error,
        )


def last() -> str | None:
    """The last trouble of this process; None if there was none lately."""
    with _lock:
        text, at_s = _last
    return text if time.monotonic() - at_s < SHOWN_S else None


def listen(listener: Callable[[str], None]) -> None:
    """Call `listener` at each trouble of this process from now on."""
    _listeners[:] = [listener]


def _is_new(place: tuple[str, str, int], now: float) -> bool:
    for known in [known for known, at in _logged.items() if now - at >= _AGAIN_S]:
        del _logged[known]
    if place in _logged or len(_logged) >= _MOST:
        return False
    _logged[place] = now
    return True


def _place(error: Exception, what: str) -> tuple[str, str, int]:
    """What makes two errors the same: their class, where they come from, and what was done."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    line = 0 if trace is None else trace.tb_lineno
    return (
        f"{type(error).__name__} {what}",
        "" if trace is None else trace.tb_frame.f_code.co_filename,
        line,
    )
