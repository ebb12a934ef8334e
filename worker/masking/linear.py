"""Regular expressions over bytes that take linear time, whatever the text."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

#: Bytes that re2 may use for one pattern.
_MOST_MEMORY: Final = 64 * 1024 * 1024


@cache
def compiled(pattern: str) -> Any:
    """A pattern, compiled when it is first asked for: `^` and `$` are a line's ends, and each byte is a character."""
    # Here, for most commands mask nothing.
    import re2

    options = re2.Options()
    # Otherwise bytes that are no UTF-8 match nothing.
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    options.max_mem = _MOST_MEMORY
    return re2.compile(b"(?m)" + pattern.encode("latin-1"), options)
