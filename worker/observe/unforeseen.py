"""Logs unforeseen errors of our threads, the same one once a minute, and remembers the last.

Nobody notices when a thread ends with an error: the sweep that wakes lost tenants, the
renewal of a lock, the figures of a scrape would just be gone until the worker is started again. So
each of our threads catches whatever comes, notes it here and goes on; health and `status` show it.
"""

from __future__ import annotations

import threading
import time
import traceback
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
#: When each was last logged: the class of the error, what was done, the file and the line.
_logged: dict[tuple[str, str, str, int], float] = {}
#: The last error: the thread, what it did and what it met, and when.
_last: tuple[str, float] = ("", -SHOWN_S)
_listener: Callable[[str], None] | None = None


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
        is_new = _is_new((type(error).__name__, what, *_place(error)), now)
    if _listener is not None:
        _listener(text)
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
    global _listener
    _listener = listener


def _is_new(place: tuple[str, str, str, int], now: float) -> bool:
    for known in [known for known, at in _logged.items() if now - at >= _AGAIN_S]:
        del _logged[known]
    if place in _logged or len(_logged) >= _MOST:
        return False
    _logged[place] = now
    return True


def _place(error: Exception) -> tuple[str, int]:
    """The file and the line that an error comes from."""
    place = ("", 0)
    for frame, line in traceback.walk_tb(error.__traceback__):
        place = (frame.f_code.co_filename, line)
    return place
